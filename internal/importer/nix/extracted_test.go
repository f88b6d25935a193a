package nix

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestParseExtractedErrors(t *testing.T) {
	for _, text := range []string{
		"", "1", "null1", "[]", "{} {}", "{}x", `{"_mayfly": "package", "name": "go"}`,
		`{"a": ` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}",
		`{"a": [` + strings.Repeat("1,", maxValues) + "1]}",
	} {
		if got, err := parseExtracted([]byte(text)); err == nil {
			t.Errorf("parseExtracted(%.60s) = %v; want an error", text, got)
		}
	}
}

func TestAttributeOf(t *testing.T) {
	for pname, want := range map[string]string{
		"go": "go", "gcc-wrapper": "gcc", "bash-interactive": "bash", "emacs-with-packages": "emacs", "-wrapper": "", "bind": "dnsutils",
	} {
		if got := attributeOf(pname); got != want {
			t.Errorf("attributeOf(%q) = %q; want %q", pname, got, want)
		}
	}
}

// Whatever a program named nix says becomes machines that mayfly can read, or an error.
func FuzzExtracted(f *testing.F) {
	f.Add(`{"microvm":{"vms":{"a":{"autostart":false,"config":{"microvm":{"vcpu":8,"mem":null,"volumes":[{"image":"v.img","mountPoint":"/v","size":100}]},` +
		`"environment":{"systemPackages":[{"_mayfly":"package","name":"gcc-wrapper"},{"_mayfly":"unknown","name":"x"},1.5,null]},` +
		`"home-manager":{"users":{"bob":{"home":{"homeDirectory":"/home/bob"},"programs":{"zsh":{"initContent":"export A=1\n"}}}}}}}}}}`)
	f.Add(`{"microvm":{"vms":{"a":{"config":{"_mayfly":"unknown","name":"x"}}},"autostart":["a",1]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		files := fstest.MapFS{"a.nix": &fstest.MapFile{Data: []byte("{ microvm.vms.a.config.services.x = 1; }")}}
		machines, notes, err := importExtracted(files, []byte(text))
		if err != nil && len(machines) > 0 {
			t.Errorf("importExtracted(%q) returned machines with %v", text, err)
		}
		for _, n := range notes {
			if s := n.String(); printable(s) != s {
				t.Errorf("importExtracted(%q): note %q is not for a terminal", text, s)
			}
		}
		for _, m := range machines {
			checkFile(t, m)
		}
	})
}
