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
	// Against, AgainstBaseline and AgainstRatio are Ours, Baseline and Ratio of the
	// program of -against; Change is Ours by Against.
	Against         *float64 `json:"against,omitempty"`
	AgainstBaseline *float64 `json:"against_baseline,omitempty"`
	AgainstRatio    *float64 `json:"against_ratio,omitempty"`
	Change          *float64 `json:"change,omitempty"`
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

// values are those of one row: a program's, and those of what it is compared with.
type values struct{ ours, baseline []float64 }

func (v *values) add(ours float64) { v.ours = append(v.ours, ours) }

func (v *values) compare(ours, baseline float64) {
	v.ours, v.baseline = append(v.ours, ours), append(v.baseline, baseline)
}

func (v values) row(name, unit, of string) Row { return newRow(name, unit, v.ours, v.baseline, of) }

// series are the values of one row, of each program.
type series []values

func (b *bench) newSeries() series { return make(series, len(b.programs)) }

// row makes the row of the first program, with what the other one has.
func (s series) row(name, unit, of string) Row {
	r := s[0].row(name, unit, of)
	for _, v := range s[1:] {
		other := v.row(name, unit, of)
		change := r.Ours / other.Ours
		r.Against, r.AgainstBaseline, r.AgainstRatio, r.Change = &other.Ours, other.Baseline, other.Ratio, &change
	}
	return r
}

// inTurns measures each program n times, one after the other.
func (b *bench) inTurns(n int, measure func(i int, p program) error) error {
	for range n {
		for i, p := range b.programs {
			if err := measure(i, p); err != nil {
				return fmt.Errorf("%s: %w", p.path, err)
			}
		}
	}
	return nil
}

// pairs measures both sides of a row in turns, n times.
func pairs(n int, ours, baseline func() (float64, error)) (values, error) {
	var v values
	for range n {
		o, err := ours()
		if err != nil {
			return v, err
		}
		base, err := baseline()
		if err != nil {
			return v, err
		}
		v.compare(o, base)
	}
	return v, nil
}

// The bounds of a row: of its own value, of its ratio, and of what it is more than the
// baseline.

func (r Row) atMost(limit float64) Row { return r.aim(r.Ours <= limit, "≤ %g %s", limit, r.Unit) }

func (r Row) atLeast(limit float64) Row { return r.aim(r.Ours >= limit, "≥ %g %s", limit, r.Unit) }

func (r Row) ratioAtMost(limit float64) Row { return r.aim(*r.Ratio <= limit, "ratio ≤ %g", limit) }

func (r Row) ratioAtLeast(limit float64) Row { return r.aim(*r.Ratio >= limit, "ratio ≥ %g", limit) }

func (r Row) differenceAtMost(limit float64) Row {
	return r.aim(r.Ours-*r.Baseline <= limit, "≤ %g %s more", limit, r.Unit)
}

func (r Row) aim(met bool, target string, args ...any) Row {
	r.Target, r.Met = fmt.Sprintf(target, args...), &met
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
	head := "\nname\tours\t(min)\tbaseline\t(min)\tunit\tratio\ttarget\tmet"
	against := slices.ContainsFunc(r.rows, func(row Row) bool { return row.Against != nil })
	if against {
		head += "\tagainst\tbaseline\tratio\tours/against"
	}
	fmt.Fprintln(tw, head)
	for _, row := range r.rows {
		met := ""
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", row.Name, number(&row.Ours), number(&row.OursMin),
			number(row.Baseline), number(row.BaselineMin), row.Unit, number(row.Ratio), row.Target, met)
		if against {
			fmt.Fprintf(tw, "\t%s\t%s\t%s\t%s", number(row.Against), number(row.AgainstBaseline), number(row.AgainstRatio), number(row.Change))
		}
		fmt.Fprintln(tw)
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
