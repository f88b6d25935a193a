package agent

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestMergeEnv(t *testing.T) {
	for _, tt := range []struct{ base, over, want []string }{
		{nil, nil, nil},
		{[]string{"A=1", "B=2"}, []string{"B=3", "C=4"}, []string{"A=1", "B=3", "C=4"}},
		{[]string{"A=1", "A=2"}, nil, []string{"A=2"}},
		{[]string{"A=1"}, []string{"A="}, []string{"A="}},
		{[]string{"A=x=y"}, nil, []string{"A=x=y"}},
		{[]string{"A=1"}, []string{"no value", "=no key", "", "B=nul\x00"}, []string{"A=1"}},
		{[]string{"AB=1"}, []string{"A=2"}, []string{"AB=1", "A=2"}},
	} {
		base := slices.Clone(tt.base)
		if got := mergeEnv(base, tt.over); !slices.Equal(got, tt.want) {
			t.Errorf("mergeEnv(%q, %q) = %q; want %q", tt.base, tt.over, got, tt.want)
		}
		if !slices.Equal(base, tt.base) {
			t.Errorf("mergeEnv changed its argument: %q; want %q", base, tt.base)
		}
	}
	if got := getenv([]string{"PATHX=1", "PATH=2"}, "PATH"); got != "2" {
		t.Errorf("getenv(PATH) = %q; want 2", got)
	}
	if got := getenv(nil, "PATH"); got != "" {
		t.Errorf("getenv of nothing = %q; want nothing", got)
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"a/prog": 0o755, "b/prog": 0o755, "a/data": 0o644, "b/data": 0o700, "dir/x": 0o755} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, tt := range []struct{ name, path, want string }{
		{"prog", a + ":" + b, a + "/prog"},
		{"prog", b + ":" + a, b + "/prog"},
		{"prog", "/nowhere:a:b", a + "/prog"}, // relative to the directory
		{"data", a + ":" + b, b + "/data"},    // executable only in b
		{"dir", dir, ""},                      // a directory
		{"prog", "", ""},
		{"", a, ""},
		{"missing", a, ""},
		{"/abs/prog", a, "/abs/prog"}, // whether it is there, the kernel says
		{"./prog", a, filepath.Join(dir, "prog")},
		{"../x/prog", a, filepath.Join(filepath.Dir(dir), "x/prog")},
	} {
		got, err := lookPath(tt.name, tt.path, dir)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("lookPath(%q, %q) = %q, %v; want %q", tt.name, tt.path, got, err, tt.want)
		}
	}
}

func TestExitCode(t *testing.T) {
	for ws, want := range map[syscall.WaitStatus]byte{
		0:         0,
		3 << 8:    3,
		255 << 8:  255,
		9:         137,
		15:        143,
		11 | 0x80: 139, // with a core dump
		64:        192,
	} {
		if got := exitCode(ws); got != want {
			t.Errorf("exitCode(%#x) = %d; want %d", uint32(ws), got, want)
		}
	}
}

func TestReadModuleOrder(t *testing.T) {
	dir := t.TempDir()
	if _, err := readModuleOrder(dir); err == nil {
		t.Error("readModuleOrder() without a list = nil; want an error")
	}
	if err := os.WriteFile(filepath.Join(dir, "order"), []byte("virtio.ko\nkernel/drivers/char/virtio_console.ko\n\nerofs.ko"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readModuleOrder(dir)
	want := []string{"virtio.ko", "kernel/drivers/char/virtio_console.ko", "erofs.ko"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("readModuleOrder() = %q, %v; want %q", got, err, want)
	}
	if i := slices.IndexFunc(got, isConsoleDriver); i != 1 {
		t.Errorf("the port's driver is number %d; want 1", i)
	}
	if err := loadModules([]string{"../../no/such.ko"}); err == nil {
		t.Error("loadModules() of no file = nil; want an error")
	}
}
