package definition

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

func testStore(t *testing.T) Store {
	t.Helper()
	dir := t.TempDir()
	return Store{ConfigDir: filepath.Join(dir, "config"), StateDir: filepath.Join(dir, "data")}
}

func file(text string) func(Taken) ([]byte, error) {
	return func(Taken) ([]byte, error) { return []byte(text), nil }
}

// left returns the paths below the store's directories.
func left(t *testing.T, s Store) []string {
	t.Helper()
	var names []string
	for _, dir := range []string{s.files(), s.dirs()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != ".lock" {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

func TestLifeOfADefinition(t *testing.T) {
	s := testStore(t)
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Errorf("List of nothing = %v, %v", all, err)
	}
	for _, name := range []string{"b", "a"} {
		if _, err := s.Create(t.Context(), name, file("version = 1\n# "+name)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(s.At("b").Path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if err != nil || len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Errorf("List = %v, %v; want a and b", all, err)
	}
	if _, err := s.Create(t.Context(), "a", file("")); err == nil || !strings.Contains(err.Error(), "is defined already") {
		t.Errorf("Create of the same name: %v", err)
	}
	if fi, err := os.Stat(s.At("a").Dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory of what is kept: %v, %v; want it private", fi, err)
	}
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get after Remove: %v; want ErrNotFound", err)
	}
	if err := s.Remove("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove twice: %v; want ErrNotFound", err)
	}
	if after, err := os.ReadFile(s.At("b").Path); err != nil || string(after) != string(before) {
		t.Errorf("another machine's file changed: %q, %v", after, err)
	}
	if d := cmp.Diff([]string{"b.toml", "b"}, left(t, s)); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

func TestCreateRefusesNames(t *testing.T) {
	s := testStore(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "A", "-a", "a-", "a.b", strings.Repeat("a", 64), "ä"} {
		if _, err := s.Create(t.Context(), name, file("")); err == nil {
			t.Errorf("Create(%q) works", name)
		}
		if _, err := s.Get(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q) = %v; want ErrNotFound", name, err)
		}
		if err := s.Remove(name); err == nil {
			t.Errorf("Remove(%q) works", name)
		}
	}
	if names := left(t, s); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestCreateThatFailsLeavesNothing(t *testing.T) {
	s := testStore(t)
	bad := errors.New("no")
	if _, err := s.Create(t.Context(), "a", func(Taken) ([]byte, error) { return nil, bad }); !errors.Is(err, bad) {
		t.Errorf("Create = %v", err)
	}
	if names := left(t, s); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	// What an earlier machine kept is not another's.
	if err := os.MkdirAll(s.At("a").Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "a", file("")); err == nil || !strings.Contains(err.Error(), "has left data") {
		t.Errorf("Create over data = %v", err)
	}
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
	if names := left(t, s); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestReset(t *testing.T) {
	s := testStore(t)
	d, err := s.Create(t.Context(), "a", file("version = 1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{KeepFile, CopyFile, ManifestFile, SizesFile, HostKeyFile, VolumesDir + "/var.img"} {
		path := filepath.Join(d.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Reset(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != HostKeyFile {
		t.Errorf("after Reset: %v, %v; want the host key alone", entries, err)
	}
}

// bridge is where the article's machines are.
var bridge = netip.MustParsePrefix("192.168.83.1/24")

func bridgeFile(t *testing.T) func(Taken) ([]byte, error) {
	return func(taken Taken) ([]byte, error) {
		address, mac, err := taken.Next(bridge)
		return fmt.Appendf(nil, "version = 1\n[network]\nmode = \"bridge\"\naddress = %q\nmac = %q\n", address, mac), err
	}
}

// Processes that define machines at once get addresses of their own.
func TestConcurrentAddresses(t *testing.T) {
	s := testStore(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := s.Create(context.Background(), fmt.Sprintf("m%d", i), bridgeFile(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	taken, err := s.taken()
	if err != nil || len(taken.Addresses) != 20 || len(taken.MACs) != 20 {
		t.Errorf("%d addresses and %d MAC addresses, %v; want 20", len(taken.Addresses), len(taken.MACs), err)
	}
}

// A MAC address is the same however its letters are written.
func TestTakenMAC(t *testing.T) {
	s := testStore(t)
	file := func(Taken) ([]byte, error) {
		return []byte("version = 1\n[network]\nmode = \"bridge\"\naddress = \"192.168.83.9/24\"\nmac = \"02:00:00:00:00:AB\"\n"), nil
	}
	if _, err := s.Create(t.Context(), "m", file); err != nil {
		t.Fatal(err)
	}
	taken, err := s.taken()
	if err != nil {
		t.Fatal(err)
	}
	for mac, free := range map[string]bool{"02:00:00:00:00:ab": false, "02:00:00:00:00:AB": false, "02:00:00:00:00:ac": true, "": true} {
		if err := taken.Check(netip.MustParsePrefix("192.168.83.10/24"), mac); (err == nil) != free {
			t.Errorf("Check(%q) = %v; want that it is free: %t", mac, err, free)
		}
	}
}

func TestNext(t *testing.T) {
	tests := []struct {
		name         string
		taken        []string // addresses
		address, mac string
	}{
		{"none", nil, "192.168.83.2/24", "02:00:00:00:00:01"},
		{"the article's", []string{"192.168.83.6", "192.168.83.7"}, "192.168.83.8/24", "02:00:00:00:00:07"},
		{"a gap", []string{"192.168.83.2", "192.168.83.4"}, "192.168.83.3/24", "02:00:00:00:00:02"},
		{"another network's", []string{"10.0.0.2"}, "192.168.83.2/24", "02:00:00:00:00:01"},
		{"the last", []string{"192.168.83.253"}, "192.168.83.254/24", "02:00:00:00:00:fd"},
		{"full above", []string{"192.168.83.254"}, "", ""},
	}
	for _, tt := range tests {
		taken := Taken{Addresses: make(map[netip.Addr]string)}
		for _, a := range tt.taken {
			taken.Addresses[netip.MustParseAddr(a)] = "x"
		}
		address, mac, err := taken.Next(bridge)
		if (err != nil) != (tt.address == "") || err == nil && (address.String() != tt.address || mac != tt.mac) {
			t.Errorf("%s: Next = %v, %s, %v; want %s, %s", tt.name, address, mac, err, tt.address, tt.mac)
		}
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add("version = 1\n[network]\naddress = \"192.168.83.6/24\"\nmac = \"02:00:00:00:00:05\"")
	f.Add("[network]\naddress = 1\n[network.mac]\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "m.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		Definition{Path: path}.network()
	})
}

// What a kill leaves is removed, unless it is being written.
func TestCollect(t *testing.T) {
	s := testStore(t)
	d, err := s.Create(t.Context(), "a", file("version = 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Replace(atomicfile.Leftovers, "*", "X", 1)
	old, young := name+"1", name+"2"
	for _, dir := range []string{s.files(), d.Dir} {
		for _, name := range []string{old, young} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		hourAgo := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(dir, old), hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.dirs(), ".dead-b-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{young, "a.toml", "a"}, left(t, s)); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	for name, want := range map[string]bool{old: false, young: true} {
		if _, err := os.Stat(filepath.Join(d.Dir, name)); (err == nil) != want {
			t.Errorf("%s in the machine's directory: %v; want it there: %v", name, err, want)
		}
	}
}
