package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// The example of a front end does with nothing but the public package what its
// documentation says: exactly the path that it is told comes back.
func TestExampleFrontend(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	program := filepath.Join(t.TempDir(), "frontend")
	if out, err := exec.Command("go", "build", "-o", program, "../examples/frontend").CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	h.Program = program
	left := filepath.Join(h.Dir, "left.txt")
	if err := os.WriteFile(left, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := h.Run(0, "wanted/made.txt", "sh", "-c", "mkdir wanted && echo new > wanted/made.txt && echo more | tee -a left.txt > wanted/other.txt && echo done; exit 3").Stdout
	for _, want := range []string{"done\nexit code 3\n", "left.txt", "wanted/made.txt", "wanted/other.txt", "applied 1 of 1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the example printed %q; want %q in it", out, want)
		}
	}
	if got, err := os.ReadFile(left); err != nil || string(got) != "old\n" {
		t.Errorf("left.txt has %q, %v; want what it had", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(h.Dir, "wanted/made.txt")); err != nil || string(got) != "new\n" {
		t.Errorf("wanted/made.txt has %q, %v; want what the machine wrote", got, err)
	}
	if _, err := os.Lstat(filepath.Join(h.Dir, "wanted/other.txt")); err == nil {
		t.Error("wanted/other.txt was applied, too")
	}
}
