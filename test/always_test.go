package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAllowAlways answers a machine's question for good: the host is in the machine's file,
// whose other text stays, and the machine reaches it after its next start with no question.
func TestAllowAlways(t *testing.T) {
	h, _ := newLab(t)
	h.Run(0, "new", "m", "--workspace", h.Dir, "--no-detect", "--egress", "ask")
	file := filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/machines/m.toml")
	read := func() string {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := strings.Replace(read(), "[network]\n", "[network] # what it may reach\n", 1)
	writeFile(t, file, before)
	h.Run(0, "start", "m")
	events := h.Mayfly("events", "m")
	events.Start()
	events.Printed("ready")
	c := h.Mayfly("exec", "m", "--", "curl", "-sS", "https://other.example/hello")
	c.Start()
	events.Printed("m wants to reach other.example:443, which no rule covers")
	if r := h.Run(2, "policy", "m", "always", "*.other.example"); !strings.Contains(r.Stderr, "*.other.example is not one host") || read() != before {
		t.Errorf("a pattern: %s\n%s", r.Stderr, read())
	}
	h.Run(0, "policy", "m", "always", "other.example")
	if r := c.Wait(); r.Code != 0 || r.Stdout != "hello from other.example\n" {
		t.Errorf("what was allowed: %d, %q\n%s", r.Code, r.Stdout, r.Stderr)
	}
	events.Signal(os.Interrupt)
	events.Wait()
	want := strings.Replace(before, "egress = \"ask\"\n", "egress = \"ask\"\nallow = [\"other.example\"]\n", 1)
	if got := read(); got != want || want == before {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	h.Run(0, "check", "m")
	h.Run(0, "restart", "m")
	if got := h.Run(0, "exec", "m", "--", "curl", "-sS", "https://other.example/hello").Stdout; got != "hello from other.example\n" {
		t.Errorf("after the next start: %q", got)
	}
	h.Run(0, "policy", "m", "always", "other.example")
	if got := read(); got != want {
		t.Errorf("after the same answer the file is\n%s", got)
	}
	h.Run(0, "rm", "--force", "m")
}
