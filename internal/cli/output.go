package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
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

// printJSONList prints a list as JSON, of which there may be very many, one after the other.
func (a *app) printJSONList(all iter.Seq[any]) error {
	w := bufio.NewWriter(a.Out)
	before := "[\n  "
	for v := range all {
		text, err := jsonText(v, "  ", "  ")
		if err != nil {
			return err
		}
		w.WriteString(before)
		if _, err := w.Write(bytes.TrimSuffix(text, []byte("\n"))); err != nil { // nobody takes the rest
			return err
		}
		before = ",\n  "
	}
	if before == "[\n  " {
		w.WriteString("[]\n")
	} else {
		w.WriteString("\n]\n")
	}
	return w.Flush()
}

// writeJSON writes v as JSON with an indent, and on one line without.
func writeJSON(w io.Writer, v any, indent string) error {
	text, err := jsonText(v, "", indent)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// jsonText returns v as JSON. The terminal that it may be for takes more characters for
// controls than JSON escapes.
func jsonText(v any, prefix, indent string) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent(prefix, indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return termsafe.JSON(text.Bytes()), nil
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
