package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// jsonFlag registers --json, by which a command prints for programs.
func (a *app) jsonFlag(cmd *cobra.Command, usage ...string) {
	text := "print JSON"
	if len(usage) > 0 {
		text = usage[0]
	}
	cmd.Flags().BoolVar(&a.json, "json", false, text)
}

// printJSON prints what was asked for as JSON.
func (a *app) printJSON(v any) error { return writeJSON(a.Out, v, "  ") }

// writeJSON writes v as JSON with an indent, and on one line without. The terminal that it
// may be for takes more characters for controls than JSON escapes.
func writeJSON(w io.Writer, v any, indent string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(termsafe.JSON(text.Bytes()))
	return err
}

// table aligns rows of cells.
type table struct{ w *tabwriter.Writer }

// newTable returns a table whose first row is header, if that is not empty.
func newTable(w io.Writer, header ...any) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t table) row(cells ...any) {
	fmt.Fprintf(t.w, strings.Repeat("%v\t", len(cells)-1)+"%v\n", cells...)
}

// flush writes the rows.
func (t table) flush() error { return t.w.Flush() }

// printRows prints rows, each in a format for its name and its text.
func (a *app) printRows(format string, rows []words.Row) error {
	for _, r := range rows {
		if _, err := fmt.Fprintf(a.Out, format, r.Name, r.Text); err != nil {
			return err
		}
	}
	return nil
}
