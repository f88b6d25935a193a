package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The scripts that give an agent its prompt: the file is the user's alone, holds the prompt
// as it is, and is gone when the agent reads it, whose arguments are as they were.
func TestPromptScripts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a b/prompts/-x")
	const prompt = "fix the $(tests)\nand 'commit'"
	write := exec.Command("/bin/sh", "-c", writePrompt, file)
	write.Stdin = strings.NewReader(prompt)
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the prompt's file is %v, %v", fi, err)
	}
	const agent = `cat; test -e "$1" || echo gone; test -e /proc/self/fd/3 || echo closed; printf '<%s>' "$@"`
	read := exec.Command("/bin/sh", "-c", readPrompt, file, "/bin/sh", "-c", agent, "agent", file, "a b", "")
	out, err := read.CombinedOutput()
	if want := prompt + "gone\nclosed\n<" + file + "><a b><>"; string(out) != want || err != nil {
		t.Errorf("the agent says %q, %v; want %q", out, err, want)
	}
}
