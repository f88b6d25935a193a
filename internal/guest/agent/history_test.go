package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A shell keeps its history where it is to, unless its user's own files or a directory
// of somebody else's say otherwise.
func TestSetUpHistory(t *testing.T) {
	root, dir := t.TempDir(), filepath.Join(t.TempDir(), "it's")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bashrc := filepath.Join(root, systemRCFiles[0])
	write(bashrc, "A=system")
	if err := treeOf(root, nil, newSeen()).setUpHistory(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(bashrc)
	if want := "A=system\n. " + historyInit + "\n"; err != nil || string(data) != want {
		t.Fatalf("%s = %q, %v; want %q", systemRCFiles[0], data, err, want)
	}
	if _, err := os.Stat(filepath.Join(root, systemRCFiles[1])); err == nil {
		t.Errorf("%s is there without its shell", systemRCFiles[1])
	}
	shell := func(typed string) {
		t.Helper()
		cmd := exec.Command("bash", "--noprofile", "--rcfile", filepath.Join(root, "rc"), "-i")
		cmd.Env = []string{"HOME=" + root, "PATH=" + os.Getenv("PATH")}
		cmd.Stdin = strings.NewReader(typed + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("bash: %v\n%s", err, out)
		}
	}
	rc := ". '" + filepath.Join(root, historyInit) + "'\n"
	write(filepath.Join(root, "rc"), rc)
	shell("true before there is a directory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	shell("true one")
	shell("true two")
	write(filepath.Join(root, "rc"), rc+"HISTFILE=~/own\n")
	shell("true three")
	for name, want := range map[string]string{
		filepath.Join(root, ".bash_history"): "true before there is a directory\n",
		filepath.Join(dir, "bash"):           "true one\ntrue two\n",
		filepath.Join(root, "own"):           "true three\n",
	} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", filepath.Base(name), got, err, want)
		}
	}
}
