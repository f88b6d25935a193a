package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A rule is for one host, and is refused before anything else is looked at.
func TestAllowAlwaysOneHost(t *testing.T) {
	for _, r := range []plan.Rule{{Host: "*.a.example"}, {Host: "a.example", Paths: []string{"/x"}}, {Host: "a.example", Methods: []string{"GET"}}, {Host: "a.example", Once: true}} {
		_, _, err := new(Engine).AllowAlways(t.Context(), "m", []plan.Rule{{Host: "b.example"}, r})
		if fault.CodeOf(err) != fault.RulePattern {
			t.Errorf("AllowAlways(%v) = %v; want %s", r, err, fault.RulePattern)
		}
	}
}

// What is asked about is in the file with its port.
func TestAskedPorts(t *testing.T) {
	questions := []control.Question{{Host: "a.example", Port: 8443}, {Host: "a.example", Port: 443}, {Host: "b.example", Port: 22}}
	got := askedPorts([]plan.Rule{{Host: "a.example", Private: true}, {Host: "b.example", Port: 443}}, questions)
	want := []config.Rule{{Host: "a.example", Private: true}, {Host: "a.example", Port: 8443, Private: true}, {Host: "b.example", Port: 443}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A link may lead into a repository, whose file no answer of a user's may change.
func TestAllowAlwaysLeavesLinks(t *testing.T) {
	dir := t.TempDir()
	const text = "version = 1\n"
	project, link, inline := filepath.Join(dir, "mayfly.toml"), filepath.Join(dir, "m.toml"), filepath.Join(dir, "inline.toml")
	for path, text := range map[string]string{project: text, inline: text + "network = { egress = \"ask\" }\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(project, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, inline} {
		_, err := new(Engine).editAllow(t.Context(), "m", path, []config.Rule{{Host: "a.example"}})
		if fault.CodeOf(err) != fault.FileUnfit {
			t.Errorf("%s: %v; want %s", path, err, fault.FileUnfit)
		}
	}
	if got, err := os.ReadFile(project); string(got) != text || err != nil {
		t.Errorf("the project's file is %q, %v", got, err)
	}
}

// An editor that has saved the file meanwhile loses nothing.
func TestFileEditWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.toml")
	edit := fileEdit{path, []byte("before"), []byte("after"), 0o640}
	for _, test := range []struct{ now, want string }{{"before", "after"}, {"edited", "edited"}} {
		if err := os.WriteFile(path, []byte(test.now), 0o640); err != nil {
			t.Fatal(err)
		}
		err := edit.write()
		if got, _ := os.ReadFile(path); string(got) != test.want || (err == nil) != (test.want == "after") {
			t.Errorf("write over %q = %v, and the file is %q; want %q", test.now, err, got, test.want)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode: %v, %v", fi, err)
	}
}
