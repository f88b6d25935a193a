// Package test holds the tests of mayfly as a whole: its commands, with real
// machines behind them. The test binary is the program.
package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mayfly-vm/mayfly/internal/test/script"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

func TestMain(m *testing.M) { script.Main(m) }

// What needs machines. A script gets the host's images and QEMU, and a home of
// its own.
func TestMachineScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			vm.Lock(t)
			h := vm.New(t)
			testscript.Run(t, testscript.Params{
				Files:    []string{file},
				Cmds:     script.Commands(),
				Deadline: time.Now().Add(3 * vm.Timeout),
				Setup: func(env *testscript.Env) error {
					for _, kv := range h.Env {
						name, value, _ := strings.Cut(kv, "=")
						if name != "PATH" { // testscript's has mayfly in it
							env.Setenv(name, value)
						}
					}
					env.Setenv("STATE", h.State)
					env.Cd = filepath.Join(env.WorkDir, "project")
					return os.MkdirAll(env.Cd, 0o755)
				},
			})
		})
	}
}
