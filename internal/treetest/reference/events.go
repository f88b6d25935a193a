package reference

import "github.com/mayfly-vm/mayfly/internal/engine"

func events() string {
	p := newPage("Events", "the table in `internal/engine`")
	p.paragraph("Events tell what happens while a command works. A program that uses the Go API gets them as\n" +
		"`mayfly.Event`, through `Options.OnEvent`. The command line prints progress and remarks from them.\n" +
		"Codes and arguments keep their meaning. Codes, arguments and kinds are only added.")
	for _, k := range []struct {
		kind  engine.Kind
		title string
		text  string
	}{
		{engine.Note, "Notes", "A remark for the user."},
		{engine.Detail, "Details", "A remark for a user who asked to be told more, as `-v` does."},
		{engine.Step, "Steps", "A step begins something that may take long, and ends the step before. An event of the kind `done`\nends the last step."},
		{engine.Progress, "Progress", "How far something is that takes its time, a few times a second. It belongs to the last step, or is\none of its own."},
		{engine.Phase, "Phases", "A phase begins a part of a machine's life. These are all phases, in the order of a start. Most\nstarts have only some of them."},
	} {
		p.printf("\n## %s\n", k.title)
		p.paragraph("%s", k.text)
		var rows [][]string
		for _, e := range engine.EventCodes() {
			if e.Kind == k.kind {
				rows = append(rows, []string{code(e.Code), codes(e.Args), plain(e.Meaning)})
			}
		}
		p.table([]string{"code", "args", "meaning"}, rows)
	}
	p.printf("\n## Events of a machine\n")
	p.paragraph("`mayfly events --json` prints one object a line for each event of a machine. A field that has\n" +
		"no value is left out.")
	p.table([]string{"field", "type", "meaning"}, [][]string{
		{"`machine`", "string", "name of the machine"},
		{"`nanos`", "number", "nanoseconds since the machine's supervisor began"},
		{"`phase`", "string", "phase that begins"},
		{"`note`", "string", "remark for the user; parts can be the guest's words"},
		{"`ready`", "boolean", "the machine can be used"},
		{"`start`", "object", "how the machine was started: `template`, its key; `made`, if this start made it; `reason`, why there was none"},
		{"`error`", "string", "why the machine ended, or never came to be"},
		{"`code`, `args`", "string, object", "code of the [error](errors.md) and its arguments"},
		{"`hint`", "string", "next command to type"},
		{"`console`", "string", "end of what the guest's kernel printed"},
		{"`ended`", "boolean", "nothing of the machine runs any more, and no event follows"},
		{"`lost`", "boolean", "the reader was too slow and missed what followed"},
	})
	return p.String()
}
