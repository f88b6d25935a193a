package supervisor

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// inMemory reports whether a part of a file has no place on the disk yet, FS_IOC_FIEMAP. It
// skips a test where that cannot be told.
func inMemory(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const (
		fiemap     = 0xc020660b
		delayed    = 0x4 // FIEMAP_EXTENT_DELALLOC
		maxExtents = 256
		wholeFile  = ^uint64(0)
	)
	type extent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	var m struct {
		start, length       uint64
		flags, mapped, room uint32
		_                   uint32
		extents             [maxExtents]extent
	}
	m.length, m.room = wholeFile, maxExtents
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&m))); errno != 0 {
		t.Skipf("the file system does not say what is on the disk: %v", errno)
	}
	for _, e := range m.extents[:m.mapped] {
		if e.flags&delayed != 0 {
			return true
		}
	}
	return false
}

// What is kept survives a crash of the host: the names of files say that they are whole.
func TestKeptIsOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if !inMemory(t, probe) {
		t.Skip("the file system writes at once, or says so")
	}
	ws := filepath.Join(dir, "ws")
	if err := os.Mkdir(ws, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ws, "file"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept")
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &supervisor{
		machine: state.Machine{Name: "m", Dir: dir},
		plan: plan.Plan{
			Name: "m", Keep: &plan.Keep{Dir: kept},
			Workspace: plan.Workspace{Path: ws, Mode: plan.ModeCopy},
		},
		events: newEvents(os.Stderr), measure: roomy, held: make(held),
	}
	d, _ := definition.Of(s.plan)
	if err := os.WriteFile(d.File(definition.CopyFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.packWorkspace(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := d.RecordVolumes([]plan.Volume{{Name: "var", SizeMiB: 16}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{definition.CopyFile, definition.ManifestFile, definition.SizesFile} {
		if inMemory(t, d.File(name)) {
			t.Errorf("%s has its name, and is not on the disk", name)
		}
	}
}

// A machine's placeholders outlive its stops, those of others are others, and the file
// with them has no value.
func TestPlaceholdersAreKept(t *testing.T) {
	const value = "ghp_R3alT0kenThatN0GuestMaySee4242abcdEF"
	planned := []plan.Secret{{Name: "TOKEN", Hosts: []string{"a.example"}}}
	start := func(p plan.Plan, value string) secret.Secret {
		t.Helper()
		p.Network.Secrets = planned
		had := keptPlaceholders(p, slog.New(slog.DiscardHandler))
		secrets, err := makeSecrets(map[string]string{"TOKEN": value}, planned, had)
		if err == nil {
			err = keepPlaceholders(p, had)
		}
		if err != nil {
			t.Fatal(err)
		}
		return secrets[0]
	}
	kept := filepath.Join(t.TempDir(), "kept")
	named := plan.Plan{Name: "m", Keep: &plan.Keep{Dir: kept}}
	first := start(named, value)
	if again := start(named, value); again.Placeholder != first.Placeholder {
		t.Errorf("after a stop: %q; want %q", again.Placeholder, first.Placeholder)
	}
	second := start(named, "glpat-0123456789abcdefABCD")
	if second.Placeholder == first.Placeholder || !second.Stands(first.Placeholder) {
		t.Errorf("with another token: %+v; want that %q still stands for it", second, first.Placeholder)
	}
	if other := start(plan.Plan{Name: "n", Keep: &plan.Keep{Dir: filepath.Join(t.TempDir(), "n")}}, value); other.Stands(first.Placeholder) || other.Stands(second.Placeholder) {
		t.Errorf("another machine has %+v", other)
	}
	if once := start(plan.Plan{Name: "o"}, value); once.Stands(first.Placeholder) {
		t.Errorf("a machine without a name of its own has %+v", once)
	}
	file := filepath.Join(kept, definition.PlaceholdersFile)
	data, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(data), value[4:]) || !strings.Contains(string(data), first.Placeholder) {
		t.Errorf("%s: %s, %v", file, data, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", file, fi.Mode(), err)
	}
	for _, text := range []string{"null", "{}", "nonsense", `{"TOKEN": [""]}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := start(named, value); s.Placeholder == "" || s.Stands("") {
			t.Errorf("after %s: %+v", text, s)
		}
	}
}
