package host

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// versionVariable makes the test's own program a QEMU of that version: only a
// program, not a script, is remembered.
const versionVariable = "MAYFLY_TEST_QEMU_VERSION"

func TestMain(m *testing.M) {
	if version := os.Getenv(versionVariable); version != "" && len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Printf("QEMU emulator version %s (made up)\n", version)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestQEMUIsRemembered(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "qemu")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{Dirs: Dirs{Cache: filepath.Join(dir, "cache")}}
	ask := func(o Options, says, want string) {
		t.Helper()
		t.Setenv(versionVariable, says)
		q, err := o.inspectQEMU(t.Context(), path)
		if err != nil || q.Version.String() != want {
			t.Errorf("a QEMU that says %s is taken for %v, %v; want %s", says, q.Version, err, want)
		}
	}
	ask(o, "9.0.0", "9.0.0")
	ask(o, "10.0.2", "9.0.0") // not asked
	ask(Options{Dirs: o.Dirs, Fresh: true}, "10.0.2", "10.0.2")
	// Another file, or the same one written.
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	ask(o, "10.0.2", "10.0.2")
	ask(o, "11.0.0", "10.0.2")
	// What is remembered may be nonsense.
	if err := os.WriteFile(filepath.Join(o.Dirs.Cache, knownQEMUFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(o, "11.0.0", "11.0.0")
	// A script is asked each time: it may run another program tomorrow.
	if err := os.WriteFile(path, []byte(fakeQEMU("1.2.3")), 0o755); err != nil {
		t.Fatal(err)
	}
	ask(o, "", "1.2.3")
	if err := os.WriteFile(path, []byte(fakeQEMU("1.2.4")), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	ask(o, "", "1.2.4")
}
