package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

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

// dash stands for an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// size prints a number of bytes for people.
func size(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}
