package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A program that does not know that it is executed as a supervisor starts no machine, and
// so no supervisor of its own, and so on.
func TestSupervisorStartsNoMachine(t *testing.T) {
	const variable = "MAYFLY_TEST_SPAWNED"
	if os.Getenv(variable) != "" {
		os.Args = []string{os.Args[0], control.Command, "/nowhere"}
		_, err := testEngine(t, nil).spawn(t.Context(), plan.Plan{Name: "m"}, image.Image{}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "Internal") {
			t.Errorf("spawn() = %v; want that it is refused", err)
		}
		return
	}
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.ExtraFiles = []*os.File{lock, w, r, r} // as control.Spawn gives them
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
