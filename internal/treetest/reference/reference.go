// Package reference writes the pages of docs/reference: of commands, of keys of the
// configuration, of profiles and presets, of errors and events, and of rules of a review.
//
// They come from the tables from which the program itself takes its help and its
// checks. Package treetest compares the files with them.
package reference

import (
	"fmt"
	"strings"
)

// Pages returns the pages by their paths in the repository.
func Pages() map[string]string {
	return map[string]string{
		"docs/reference/commands.md":      commands(),
		"docs/reference/configuration.md": configuration(),
		"docs/reference/errors.md":        errors(),
		"docs/reference/events.md":        events(),
		"docs/reference/profiles.md":      profiles(),
		"docs/reference/review.md":        rules(),
	}
}

// page is a Markdown document that is being written.
type page struct{ strings.Builder }

// newPage begins a page. The first line is for whoever is about to edit it.
func newPage(title, source string) *page {
	p := new(page)
	p.printf("<!-- `make docs` writes this page from %s. -->\n\n# %s\n", source, title)
	return p
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// paragraph writes text between empty lines.
func (p *page) paragraph(format string, args ...any) {
	p.printf("\n"+format+"\n", args...)
}

// block writes lines as they are.
func (p *page) block(text string) {
	p.printf("\n")
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			p.printf("\n")
			continue
		}
		p.printf("    %s\n", strings.TrimRight(line, "\n"))
	}
}

// table writes rows of Markdown below a heading row.
func (p *page) table(head []string, rows [][]string) {
	p.printf("\n| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("-|", len(head)))
	for _, cells := range rows {
		p.printf("| %s |\n", strings.Join(cells, " | "))
	}
}

// code marks text as code, and nothing as nothing.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// codes marks each word, for a list of them.
func codes(words []string) string {
	marked := make([]string, len(words))
	for i, word := range words {
		marked[i] = code(word)
	}
	return strings.Join(marked, ", ")
}

// plain makes text mean itself in Markdown, also in a cell of a table.
func plain(text string) string {
	return strings.NewReplacer("*", `\*`, "<", `\<`, "[", `\[`, "|", `\|`, "`", "\\`").Replace(text)
}
