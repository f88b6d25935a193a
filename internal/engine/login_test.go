package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A log-in is the value of the secret that lends it, and of no secret of a file's, which
// could send it anywhere.
func TestLoginGoesToItsProvider(t *testing.T) {
	e := testEngine(t, nil)
	const plain = "sk-ant-PLAIN0123456789abcdefghij"
	if _, err := e.KeepLogin(t.Context(), "claude", plain); err != nil {
		t.Fatal(err)
	}
	if v, err := e.secret(t.Context(), plan.Secret{Name: "ANTHROPIC_API_KEY", From: plan.FromLogin + "claude"}); v.Reveal() != plain || err != nil {
		t.Errorf("secret() = %v, %v; want the log-in", v, err)
	}
	file := filepath.Join(e.dirs.State, "logins", "claude.json")
	link := filepath.Join(t.TempDir(), "token")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		_, err := e.secret(t.Context(), plan.Secret{Name: "T", From: "file:" + path, Hosts: []string{"evil.example"}})
		if fault.CodeOf(err) != fault.LoginInSecret || strings.Contains(err.Error(), "PLAIN") {
			t.Errorf("secret() from %s gives %v; want LoginInSecret", path, err)
		}
	}
	if _, err := e.KeepLogin(t.Context(), "claude", "a\nb"); err == nil {
		t.Error("KeepLogin() takes two lines")
	}
	if got := e.lendable(codingagent.Names()); len(got) != 1 || got["claude"].Variable != "ANTHROPIC_API_KEY" {
		t.Errorf("lendable() = %v; want claude's variable", got)
	}
}
