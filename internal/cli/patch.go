package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// paint colours text for a terminal, if it is one.
type paint bool

// paintFor returns how to print on w.
func (a *app) paintFor(f *os.File) paint {
	return paint(terminal.Is(f) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb")
}

func (p paint) in(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[m"
}

// line returns one line of a patch.
func (p paint) line(text string) string {
	text, broken := strings.CutSuffix(text, "\n")
	code := map[byte]string{'+': "32", '-': "31"}[text[0]]
	var b strings.Builder
	// A mark ends the colour of what is around it.
	for i, part := range strings.SplitAfter(termsafe.Visible(text, func(s string) string { return mark + s + mark }), mark) {
		part = strings.TrimSuffix(part, mark)
		switch {
		case part == "":
		case i%2 == 1:
			b.WriteString(p.in("7", part))
		case code != "":
			b.WriteString(p.in(code, part))
		default:
			b.WriteString(part)
		}
	}
	if !broken {
		b.WriteString("\n\\ No newline at end of file")
	}
	return b.String()
}

// mark is a character that no visible text has.
const mark = "\x00"

// writePatch prints how the content of a change differs, after a line about it.
func writePatch(w io.Writer, p paint, set *mayfly.ChangeSet, c mayfly.Change) error {
	patch, err := set.Patch(c)
	if err != nil {
		return err
	}
	return writeLines(w, p, c, patch)
}

// writeLines prints a change with its patch.
func writeLines(w io.Writer, p paint, c mayfly.Change, patch mayfly.Patch) error {
	if _, err := fmt.Fprintln(w, p.in("1", words.Reviewed(c))); err != nil {
		return err
	}
	if c.Op == "R" && c.Kind == "file" {
		fmt.Fprintf(w, "similarity index %d%%\nrename from %s\nrename to %s\n", c.Likeness, termsafe.Quote(c.From), termsafe.Quote(c.Path))
	}
	if patch.Opaque != "" {
		fmt.Fprintf(w, "%s\n", words.Opaque(patch.Opaque))
		return nil
	}
	if len(patch.Hunks) == 0 {
		return nil
	}
	from, to := "a/"+c.Path, "b/"+c.Path
	switch c.Op {
	case "A":
		from = "/dev/null"
	case "D":
		to = "/dev/null"
	case "R":
		from = "a/" + c.From
	}
	fmt.Fprintf(w, "%s\n%s\n", p.in("1", "--- "+termsafe.Quote(from)), p.in("1", "+++ "+termsafe.Quote(to)))
	for _, h := range patch.Hunks {
		if err := writeHunk(w, p, h); err != nil {
			return err
		}
	}
	return nil
}

// writeHunk prints a part of a patch.
func writeHunk(w io.Writer, p paint, h mayfly.Hunk) error {
	_, err := fmt.Fprintln(w, p.in("36", words.Hunk(h)))
	for _, line := range h.Lines {
		_, err = fmt.Fprintln(w, p.line(line))
	}
	return err
}

// writePatches prints how changes differ.
func writePatches(w io.Writer, p paint, set *mayfly.ChangeSet, changes []mayfly.Change) error {
	for i, c := range changes {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := writePatch(w, p, set, c); err != nil {
			return err
		}
	}
	return nil
}

// writeStat prints how many lines of each change differ, by their patches.
func writeStat(w io.Writer, changes []mayfly.Change, patchOf func(i int) (mayfly.Patch, error)) error {
	t := newTable(w)
	added, removed := 0, 0
	for i, c := range changes {
		patch, err := patchOf(i)
		if err != nil {
			return err
		}
		added, removed = added+patch.Added, removed+patch.Removed
		lines := fmt.Sprintf("+%d -%d", patch.Added, patch.Removed)
		if patch.Opaque != "" {
			lines = words.Opaque(patch.Opaque)
		}
		name := termsafe.Quote(c.Path)
		if c.From != "" {
			name = termsafe.Quote(c.From) + " -> " + name
		}
		t.row(c.Op, lines, name) // a name can be as long as a machine likes
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, +%d -%d lines\n", plural(len(changes), "1 change", "%d changes"), added, removed)
	return err
}

// firstLines returns the first lines of a text, and how many are left out.
func firstLines(text []byte, most int) (first []byte, more int) {
	at := 0
	for range most {
		i := bytes.IndexByte(text[at:], '\n')
		if i < 0 {
			return text, 0
		}
		at += i + 1
	}
	return text[:at], bytes.Count(text[at:], []byte("\n"))
}
