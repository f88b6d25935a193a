package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// longVariable makes TestGoSource build and test what takes a native compiler a
// minute, and an emulated one a quarter of an hour.
const longVariable = "MAYFLY_TEST_LONG"

// A real project with over ten thousand files is worked on in a machine: Go's
// own source, built by the compiler that lies beside it.
func TestGoSource(t *testing.T) {
	vm.Lock(t)
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	h := vm.New(t)
	h.Dir = copyTree(t, strings.TrimSpace(string(out)))
	before := hashTree(t, h.Dir)
	if len(before) < 10_000 {
		t.Errorf("the tree has %d entries; want over 10,000", len(before))
	}
	// None of these needs package runtime, whose compilation proves no more.
	script, wants := "../bin/go build -v unicode math/bits container/list 2>&1", []string{"unicode\n", "math/bits\n", "container/list\n"}
	if os.Getenv(longVariable) != "" {
		script, wants = "../bin/go build ./... && ../bin/go test strings sort", []string{"ok  \tstrings\t", "ok  \tsort\t"}
	}
	c := h.Mayfly("run", "--apply", "--no-detect", "--memory", "3GiB", "--", "sh", "-ec",
		"cd src; export GOFLAGS=-p=2; "+script+"; rm sort/gen_sort_variants.go; echo built > ../STAMP")
	c.Timeout = time.Hour
	r := c.Want(0)
	for _, want := range wants {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("stdout = %q; want %q in it", r.Stdout, want)
		}
	}
	// The build left nothing in the tree, and so changed nothing here.
	after := hashTree(t, h.Dir)
	if got := readFile(t, filepath.Join(h.Dir, "STAMP")); got != "built\n" {
		t.Errorf("STAMP holds %q", got)
	}
	delete(after, "STAMP")
	delete(before, "src/sort/gen_sort_variants.go")
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("more changed than was worked on (-before +after):\n%s", d)
	}
}
