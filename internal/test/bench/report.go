package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what one run says.
type report struct {
	environment environment
	rows        []Row
}

// Row is one number that was measured; bench.json is a list of them. Fields are
// only added.
type Row struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Ours is the median of all repetitions, and so is Baseline; Ratio is
	// the first by the second. Both are null when there is nothing to
	// compare with.
	Ours     float64  `json:"ours"`
	Baseline *float64 `json:"baseline"`
	Ratio    *float64 `json:"ratio"`
	// OursMin and BaselineMin are the least disturbed repetitions.
	OursMin     float64  `json:"ours_min"`
	BaselineMin *float64 `json:"baseline_min,omitempty"`
	// Target is empty for a row that only informs, and Met null.
	Target string `json:"target"`
	Met    *bool  `json:"met"`
	// Of says what exactly was measured, and Where on what.
	Of    string `json:"of"`
	Where string `json:"where"`
}

// newRow makes a row of what was measured, and of what it is compared with,
// which may be nothing.
func newRow(name, unit string, ours, baseline []float64, of string) Row {
	r := Row{Name: name, Unit: unit, Ours: median(ours), OursMin: slices.Min(ours), Of: of}
	if len(baseline) > 0 {
		base, least := median(baseline), slices.Min(baseline)
		ratio := r.Ours / base
		r.Baseline, r.BaselineMin, r.Ratio = &base, &least, &ratio
	}
	return r
}

// atMost sets the bound on the row's own value.
func (r Row) atMost(limit float64) Row {
	met := r.Ours <= limit
	r.Target, r.Met = fmt.Sprintf("≤ %g %s", limit, r.Unit), &met
	return r
}

// ratioAtMost sets the bound on the row's ratio.
func (r Row) ratioAtMost(limit float64) Row {
	met := *r.Ratio <= limit
	r.Target, r.Met = fmt.Sprintf("ratio ≤ %g", limit), &met
	return r
}

// ratioAtLeast sets the least that the row's ratio may be.
func (r Row) ratioAtLeast(limit float64) Row {
	met := *r.Ratio >= limit
	r.Target, r.Met = fmt.Sprintf("ratio ≥ %g", limit), &met
	return r
}

// differenceAtMost sets the bound on what ours is more than the baseline.
func (r Row) differenceAtMost(limit float64) Row {
	met := r.Ours-*r.Baseline <= limit
	r.Target, r.Met = fmt.Sprintf("≤ %g %s more", limit, r.Unit), &met
	return r
}

// atLeast sets the least that ours may be.
func (r Row) atLeast(limit float64) Row {
	met := r.Ours >= limit
	r.Target, r.Met = fmt.Sprintf("≥ %g %s", limit, r.Unit), &met
	return r
}

func (b *bench) add(r Row) { b.rows = append(b.rows, r) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func (r report) print(w io.Writer) {
	r.environment.print(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nname\tours\t(min)\tbaseline\t(min)\tunit\tratio\ttarget\tmet")
	for _, row := range r.rows {
		met := ""
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Name, number(&row.Ours), number(&row.OursMin),
			number(row.Baseline), number(row.BaselineMin), row.Unit, number(row.Ratio), row.Target, met)
	}
	tw.Flush()
	fmt.Fprintln(w)
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s: %s\n", row.Name, row.Of)
	}
}

func number(v *float64) string {
	switch {
	case v == nil:
		return ""
	case *v >= 100:
		return fmt.Sprintf("%.0f", *v)
	case *v >= 10:
		return fmt.Sprintf("%.1f", *v)
	}
	return fmt.Sprintf("%.2f", *v)
}

func (r report) write(name string) error {
	var where strings.Builder
	r.environment.print(&where)
	for i := range r.rows {
		r.rows[i].Where = strings.ReplaceAll(strings.TrimSpace(where.String()), "\n", "; ")
	}
	data, err := json.MarshalIndent(r.rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}
