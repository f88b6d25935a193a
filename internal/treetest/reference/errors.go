package reference

import "github.com/mayfly-vm/mayfly/internal/fault"

func errors() string {
	p := newPage("Errors", "the table in `internal/fault`")
	p.paragraph("With `--json` a command that fails prints an object on standard error. Its `error` and `hint`\n" +
		"are text for users. A failure that a program can tell from others also has a `code` and `args`,\n" +
		"an object of strings. Codes and arguments keep their meaning. An argument without a known\n" +
		"value is left out.")
	var rows [][]string
	for _, kind := range fault.Kinds() {
		rows = append(rows, []string{code(string(kind.Code)), codes(kind.Args), plain(kind.Meaning)})
	}
	p.table([]string{"code", "args", "meaning"}, rows)
	return p.String()
}
