package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What an editor is told is one word for each thing, whatever is in a path.
func TestEditorArguments(t *testing.T) {
	const path = "/home/me/it's a; $(touch x)#1?"
	for name, want := range map[string][]string{
		"code":     {"--remote", "ssh-remote+m.mayfly", path},
		"cursor":   {"--remote", "ssh-remote+m.mayfly", path},
		"windsurf": {"--remote", "ssh-remote+m.mayfly", path},
		"zed":      {"ssh://m.mayfly/home/me/it%27s%20a;%20$%28touch%20x%29%231%3F"},
	} {
		e, _, err := findEditor(name, func(p string) (string, error) { return "/bin/" + p, nil })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e.args("m.mayfly", path)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestFindEditor(t *testing.T) {
	for _, test := range []struct {
		name, want, err string
		have            []string
	}{
		{"", "code", "", []string{"zed", "code"}},
		{"", "zed", "", []string{"zed"}},
		{"zed", "zed", "", []string{"zed", "code"}},
		{"cursor", "", "there is no cursor in PATH", []string{"code"}},
		{"", "", "there is no editor in PATH that mayfly knows: code, cursor, windsurf, zed", nil},
		{"vi", "", `--editor "vi": it is one of code, cursor, windsurf, zed`, []string{"code", "vi"}},
	} {
		e, program, err := findEditor(test.name, func(p string) (string, error) {
			if slices.Contains(test.have, p) {
				return "/bin/" + p, nil
			}
			return "", errors.New("none")
		})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("findEditor(%q) = %v; want %s", test.name, err, test.err)
			}
			continue
		}
		if err != nil || e.name != test.want || program != "/bin/"+test.want {
			t.Errorf("findEditor(%q) = %s, %s, %v; want %s", test.name, e.name, program, err, test.want)
		}
	}
}
