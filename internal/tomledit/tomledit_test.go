package tomledit

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

func TestAppendTo(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", "[network]\nallow = [\"new\"]\n"},
		{"no section", "version = 1", "version = 1\n\n[network]\nallow = [\"new\"]\n"},
		{"an empty section", "[network]\n\n[home]\nx = 1\n", "[network]\nallow = [\"new\"]\n\n[home]\nx = 1\n"},
		{"a section without a list",
			"[network] # mine\negress = \"ask\" # asks\n# about home\n[home]\n",
			"[network] # mine\negress = \"ask\" # asks\nallow = [\"new\"]\n# about home\n[home]\n"},
		{"a section without an end of its line", "[network]\negress = \"ask\"", "[network]\negress = \"ask\"\nallow = [\"new\"]\n"},
		{"an empty list", "[network]\nallow = [ ]\n", "[network]\nallow = [\"new\" ]\n"},
		{"one line", "[network]\nallow=['a', \"]#\"]# c\n", "[network]\nallow=['a', \"]#\", \"new\"]# c\n"},
		{"one line with a comma", "[network]\nallow = [\"a\",]\n", "[network]\nallow = [\"a\", \"new\"]\n"},
		{"lines",
			"[network]\nallow = [\n\t\"a\", # the first\n\t# before b\n\t\"b\" # the last\n\t# old: \"c\"\n]\n",
			"[network]\nallow = [\n\t\"a\", # the first\n\t# before b\n\t\"b\", # the last\n\t\"new\",\n\t# old: \"c\"\n]\n"},
		{"lines with a comma", "[network]\nallow = [\n  \"a\",\n]\n", "[network]\nallow = [\n  \"a\",\n  \"new\",\n]\n"},
		{"lines that end with the list", "[network]\nallow = [\n  \"a\",\n  \"b\"]\n", "[network]\nallow = [\n  \"a\",\n  \"b\",\n  \"new\"]\n"},
		{"tables in the list",
			"[network]\nallow = [{ host = \"a\", paths = [\"/]\"] }, '''x''']\n",
			"[network]\nallow = [{ host = \"a\", paths = [\"/]\"] }, '''x''', \"new\"]\n"},
		{"escapes", "[network]\nallow = [\"a\\\"]\", \"\"\"b\"\"\"\"]\n", "[network]\nallow = [\"a\\\"]\", \"\"\"b\"\"\"\", \"new\"]\n"},
		{"CRLF", "[network]\r\nallow = [\r\n  \"a\",\r\n]\r\n", "[network]\r\nallow = [\r\n  \"a\",\r\n  \"new\",\r\n]\r\n"},
		{"dotted", "network.egress = \"ask\"\n\n[home]\n", "network.egress = \"ask\"\nnetwork.allow = [\"new\"]\n\n[home]\n"},
		{"a dotted list", "network.\"allow\" = [\"a\"]\n", "network.\"allow\" = [\"a\", \"new\"]\n"},
		{"others of the name", "[env]\nallow = [\"a\"]\n[network]\nx = \"[network]\"\n", "[env]\nallow = [\"a\"]\n[network]\nx = \"[network]\"\nallow = [\"new\"]\n"},
		{"an inline section", "network = { egress = \"ask\" }\n", ""},
		{"a list of tables", "[[network.allow]]\nhost = \"a\"\n", ""},
		{"no list", "[network]\nallow = \"a\"\n", ""},
		{"no table", "network = 1\n", ""},
	} {
		got, err := AppendTo([]byte(c.in), "network", "allow", `"new"`)
		if c.want == "" {
			if !errors.Is(err, ErrShape) {
				t.Errorf("%s: AppendTo(%q) = %q, %v; want ErrShape", c.name, c.in, got, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: AppendTo(%q): %v (-want +got)\n%s", c.name, c.in, err, diff)
		}
	}
	if _, err := AppendTo([]byte("no toml"), "a", "b", "1"); err == nil {
		t.Error("AppendTo of what is no TOML = nil")
	}
	for _, value := range []string{"1\nx = 2", "", "x"} {
		if got, err := AppendTo(nil, "a", "b", value); err == nil {
			t.Errorf("AppendTo of the value %q = %q", value, got)
		}
	}
}

// FuzzAppendTo shows that whatever a file is, what comes out is the file with one element
// more, each of whose lines is there still but for those of the list's end.
func FuzzAppendTo(f *testing.F) {
	for _, doc := range []string{
		"", "[network]\nallow = [\n\t\"a\", # x\n]\n", "network.allow = ['a']", "network = {}", "[[network]]\nallow = []\n",
		"[network]\nallow = [\"\"\"\n]\"\"\"\n]", "[network]\r\nx = 1\r\n", "a = nan\n",
	} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		out, err := AppendTo([]byte(doc), "network", "allow", `"new.example"`)
		if err != nil {
			return
		}
		var v struct{ Network struct{ Allow []any } }
		if err := toml.Unmarshal(out, &v); err != nil {
			t.Fatalf("AppendTo(%q) = %q: %v", doc, out, err)
		}
		if n := len(v.Network.Allow); n == 0 || v.Network.Allow[n-1] != "new.example" {
			t.Errorf("AppendTo(%q) = %q", doc, out)
		}
		for line := range strings.Lines(doc) {
			if i := strings.IndexByte(line, '#'); i == 0 && !strings.Contains(string(out), strings.TrimSpace(line)) {
				t.Errorf("AppendTo(%q) = %q: lost %q", doc, out, line)
			}
		}
	})
}
