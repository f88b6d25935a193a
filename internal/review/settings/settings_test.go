package settings

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// show writes entries as lines "KEY = VALUE (LINE)".
func show(f *File) []string {
	var all []string
	for _, e := range f.Entries() {
		all = append(all, fmt.Sprintf("%s = %s (%d)", e.Key(), e.Value, e.Line))
	}
	return all
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name   string
		format Format
		data   string
		want   []string
	}{
		{"empty", JSON, " \n", nil},
		{"nothing in it", JSON, "{}", nil},
		{"json", JSON, "{\"a\": {\"b.c\": [1, \"x\"]},\n\"d\": null, \"e\": {}, \"f\": []}",
			[]string{"a.b.c[] = 1 (1)", "a.b.c[] = x (1)", "d = null (2)", "e = {} (2)", "f = [] (2)"}},
		{"comments", JSON, "\uFEFF// \"no\": 1\n{ /* \"no\": 2\n */ \"a\": \"//\\u0041\",\n}\n", []string{"a = //A (3)"}},
		{"toml", TOML, "a.b = 1\n[t]\nx = [\"y\", {z = true}]\n[[l]]\nn = 1\n[[l]]\nn = 2 # c\n",
			[]string{"a.b = 1 (0)", "l[].n = 1 (0)", "l[].n = 2 (0)", "t.x[] = y (0)", "t.x[].z = true (0)"}},
		{"yaml", YAML, "a: &x\n  b: [1, 'two']\nc: *x\nd:\n  <<: *x\n  e: |\n    f\n",
			[]string{"a.b[] = 1 (2)", "a.b[] = two (2)", "c.b[] = 1 (2)", "c.b[] = two (2)", "d.e = f\n (6)", "d.b[] = 1 (2)", "d.b[] = two (2)"}},
		{"documents", YAML, "a: 1\n---\nb: 2\n", []string{"[].a = 1 (1)", "[].b = 2 (3)"}},
		{"tag", YAML, "a: !!js/function x\nb: !ref {c: 1}\n", []string{"a = !!js/function x (1)", "b.!ref.c = 1 (2)"}},
		{"ini", INI, "top = 1\r\n[s \"x\"] ; c\n# c\nk: v = w\nl =\n  one\n  two = 2\nbare\n",
			[]string{"top = 1 (1)", "s \"x\".k = v = w (4)", "s \"x\".l = one\ntwo = 2 (5)", "s \"x\".two = 2 (7)", "s \"x\".bare =  (8)"}},
		{"env", Env, "# c\nexport A=1\nB = \"x\"\nC='two\nNODE_OPTIONS=y\n'\n", []string{"A = 1 (2)", "B = x (3)", "C = 'two (4)", "NODE_OPTIONS = y\n' (5)"}},
	} {
		f, err := Parse(test.format, []byte(test.data))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if d := cmp.Diff(test.want, show(f)); d != "" {
			t.Errorf("%s: entries (-want +got):\n%s", test.name, d)
		}
	}
}

// What parsers understand differently, or not at all, is an error.
func TestParseRefuses(t *testing.T) {
	for _, test := range []struct {
		format Format
		data   string
	}{
		{JSON, "{'a': 1}"},
		{JSON, `{"a": 1`},
		{JSON, `{"a": 1, "\u0061": 2}`},
		{YAML, "a: 1\na: 2\n"},
		{JSON, `{"a": 1} {"b": 2}`},
		{JSON, "{// x\r\"a\": 1\n}"},
		{JSON, "{// x\u2028\"a\": 1\n}"},
		{JSON, "{\"a\": \"\xff\"}"},
		{JSON, "{\"a\": 1}\x00"},
		{TOML, "a = 1\na = 2\n"},
		{TOML, "[a]\n[a]\n"},
		{TOML, "a"},
		{YAML, "a: [1"},
		{YAML, "[a]: 1"},
		{YAML, "a: *x"},
		{INI, "[a"},
		{INI, "[a] b = c"},
	} {
		if f, err := Parse(test.format, []byte(test.data)); err == nil {
			t.Errorf("Parse(%d, %q) = %v, want an error", test.format, test.data, show(f))
		}
	}
}

// Hostile files end in an error, soon.
func TestBounds(t *testing.T) {
	bomb := "a0: &a0 [x]\n"
	for i := range 40 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i)
	}
	for _, test := range []struct {
		name   string
		format Format
		data   string
	}{
		{"deep lists", JSON, strings.Repeat("[", 4<<20)},
		{"deep tables", JSON, strings.Repeat(`{"a":`, 1<<20)},
		{"deep after a quote", JSON, `["\"",` + strings.Repeat("[", 4<<20)},
		{"many", JSON, "[" + strings.Repeat("1,", MostEntries+1) + "1]"},
		{"large", JSON, "[" + strings.Repeat(" ", MostBytes) + "]"},
		{"deep lists", TOML, "a = " + strings.Repeat("[", 4<<20)},
		{"deep after quotes", TOML, "a = ['\\', \"\"\"\"\"\", " + strings.Repeat("[", 4<<20)},
		{"deep tables", TOML, "a = " + strings.Repeat("{a=", 1<<20)},
		{"deep keys", TOML, strings.Repeat("a.", 1000) + "a = 1"},
		{"deep lists", YAML, strings.Repeat("[", 1<<20)},
		{"deep blocks", YAML, strings.Repeat("- ", 1<<20)},
		{"aliases", YAML, bomb},
		{"itself", YAML, "a: &a [*a]"},
		{"itself merged", YAML, "a: &a\n  <<: *a\n"},
		{"large", YAML, "#" + strings.Repeat(" ", MostYAML)},
		{"many", INI, strings.Repeat("a\n", MostEntries+1)},
		{"many", Env, strings.Repeat("a=\n", MostEntries+1)},
	} {
		start := time.Now()
		if _, err := Parse(test.format, []byte(test.data)); err == nil {
			t.Errorf("%s in format %d: no error", test.name, test.format)
		} else if strings.HasPrefix(test.name, "large") && !errors.Is(err, ErrBounds) {
			t.Errorf("%s in format %d: %v, want %v", test.name, test.format, err, ErrBounds)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s in format %d took %v", test.name, test.format, took)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after string
		want          []string
	}{
		{"the same", `{"a": [1, {"b": 2, "c": 3}]}`, `{"a": [1, {"c": 3, "b": 2}]}`, nil},
		{"added", `{}`, `{"a": {"b": 1}, "c": {}}`, []string{"a.b 0 ->1", "c 0 ->{}"}},
		{"removed", `{"a": {"b": 1}}`, `{}`, []string{"a.b 1 1->"}},
		{"changed", `{"a": 1, "b": 1}`, `{"a": "1", "b": 1}`, []string{"a 2 1->1"}},
		{"inserted", `[1, 2, 3]`, `[1, 4, 2, 3]`, []string{"[] 0 ->4"}},
		{"one key of an element", `[{"a": 1, "b": 2}, {"a": 3}]`, `[{"a": 1, "b": 5}, {"a": 3}]`, []string{"[].b 2 2->5"}},
		{"moved", `[1, 2, 3]`, `[2, 3, 1]`, []string{"[] 3 1->1"}},
		{"regrouped", `[{"when": "never", "run": "x"}, {"when": "always", "run": "y"}]`,
			`[{"when": "always", "run": "x"}, {"when": "never", "run": "y"}]`, []string{"[].when 2 never->always", "[].when 2 always->never"}},
		{"kind", `{"a": [1]}`, `{"a": {"b": 1}}`, []string{"a[] 1 1->", "a.b 0 ->1"}},
	} {
		before, err := Parse(JSON, []byte(test.before))
		if err != nil {
			t.Fatal(err)
		}
		after, err := Parse(JSON, []byte(test.after))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range Diff(before, after) {
			got = append(got, fmt.Sprintf("%s %d %s->%s", c.Key(), c.Op, c.Old, c.New))
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
	if got := Diff(nil, nil); got != nil {
		t.Errorf("Diff(nil, nil) = %v", got)
	}
}

func fuzz(f *testing.F, format Format, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s), []byte(""))
		f.Add([]byte(""), []byte(s))
	}
	f.Fuzz(func(t *testing.T, before, after []byte) {
		a, err := Parse(format, before)
		if err != nil {
			return
		}
		if d := Diff(a, a); len(d) > 0 {
			t.Errorf("%q differs from itself: %v", before, d)
		}
		b, err := Parse(format, after)
		if err != nil {
			return
		}
		there, back := Diff(a, b), Diff(b, a)
		if (len(there) == 0) != (len(back) == 0) {
			t.Errorf("%d changes from %q to %q, %d back", len(there), before, after, len(back))
		}
		for _, n := range [][]Entry{a.Entries(), b.Entries()} {
			if len(n) > MostEntries {
				t.Errorf("%d entries", len(n))
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	fuzz(f, JSON, `{"a": [1, {"b": null}], "c": "\u0041"}`, "// x\n{/**/\"a\": 1,}", `["]", '[']`)
}

func FuzzTOML(f *testing.F) {
	fuzz(f, TOML, "a.b = 1\n[t]\nx = [\"y\", {z = true}]\n[[l]]\nn = '''\n]'''\n", "d = 1979-05-27T07:32:00Z\ne = \"\"\"\"\"\"\"\"\n")
}

func FuzzYAML(f *testing.F) {
	fuzz(f, YAML, "a: &x\n  b: [1, 'two']\nc: *x\nd:\n  <<: *x\n  e: |\n    f\n", "a: !!js/function x\n---\n? b\n: {c: 1}\n")
}

func FuzzINI(f *testing.F) {
	fuzz(f, INI, "top = 1\n[s \"x\"] ; c\nk: v = w\nl =\n  one\n  two = 2\nbare\n")
}

func FuzzEnv(f *testing.F) {
	fuzz(f, Env, "# c\nexport A=1\nB = \"x\"\nC='two\nNODE_OPTIONS=y\n'\n")
}
