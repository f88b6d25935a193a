package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// What is damaged is named, also where it cannot be repaired now.
func TestCheckNamesWhatIsNotRepaired(t *testing.T) {
	home := t.TempDir()
	a := appIn(home)
	a.signals = terminal.NewSignals()
	defer a.signals.Stop()
	store := filepath.Join(home, ".local/share/mayfly/store")
	image := filepath.Join(store, "images", strings.Repeat("ab", 32)+".json")
	lock := filepath.Join(store, "locks/store")
	for _, file := range []string{image, lock} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	building, err := filelock.Try(lock, false)
	if err != nil {
		t.Fatal(err)
	}
	defer building.Close()
	cmd := a.imageCheckCommand()
	cmd.SetArgs([]string{"--repair"})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	out, err := printedBy(t, a, func() error { return cmd.ExecuteContext(t.Context()) })
	if errorCode(err) != "image-busy" || !strings.Contains(out, image) {
		t.Errorf("image check --repair while an image is built = %v, printed %q; want %s to be named, and image-busy", err, out, image)
	}
}
