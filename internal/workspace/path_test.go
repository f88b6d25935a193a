package workspace

import (
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCheckPath(t *testing.T) {
	good := []string{"a", "a/b", ".git/config", "...", "a..b/..c", "-rf", "a b", "\xff\xfe", "a\nb", strings.Repeat("n", 255)}
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "./a", "a/.", "a\x00b",
		strings.Repeat("n", 256), strings.Repeat("a/", 600) + "a", strings.Repeat("aaaaaaaaa/", 450) + "a",
	}
	for _, p := range good {
		if err := checkPath(p); err != nil {
			t.Errorf("checkPath(%.40q) = %v; want nil", p, err)
		}
	}
	for _, p := range bad {
		if err := checkPath(p); !errors.Is(err, errUnsafePath) {
			t.Errorf("checkPath(%.40q) = %v; want an error", p, err)
		}
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"a/b", "../x", "a//b", "a/./b", "\x00"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if checkPath(p) == nil && (!filepath.IsLocal(p) || filepath.Clean(p) != p || p == ".") {
			t.Errorf("checkPath accepts %q", p)
		}
	})
}

func TestComparePaths(t *testing.T) {
	want := []string{"a", "a/b", "a/b/c", "a/b-c", "a-b", "a.b", "aa", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, comparePaths)
	if !slices.Equal(got, want) {
		t.Errorf("sorted = %q; want %q", got, want)
	}
}

func TestLeavesTree(t *testing.T) {
	tests := []struct {
		link, target string
		want         bool
	}{
		{"l", "a", false},
		{"l", "a/b", false},
		{"l", "./a", false},
		{"l", "..", true},
		{"l", "../ws/a", true},
		{"a/l", "..", false},
		{"a/l", "../b", false},
		{"a/l", "../../b", true},
		{"a/b/l", "../../c", false},
		{"l", "a/../../b", true},
		{"a/l", "x/..", true}, // x may be a link itself
		{"l", "/etc/passwd", true},
		{"l", "/home/u/ws", false},
		{"l", "/home/u/ws/a", false},
		{"l", "/home/u/ws2", true},
		{"l", "/home/u/ws/../x", true},
		{"a/l", "/home/u/ws/..", true},
	}
	for _, tt := range tests {
		if got := leavesTree("/home/u/ws", tt.link, tt.target); got != tt.want {
			t.Errorf("leavesTree(%q -> %q) = %v; want %v", tt.link, tt.target, got, tt.want)
		}
	}
}

func TestExclude(t *testing.T) {
	tests := []struct {
		pattern, path string
		dir, want     bool
	}{
		{"node_modules", "node_modules", true, true},
		{"node_modules", "a/b/node_modules", true, true},
		{"node_modules", "node_modules2", true, false},
		{"*.iso", "a/x.iso", false, true},
		{"*.iso", "a/x.isos", false, false},
		{"build/", "a/build", true, true},
		{"build/", "a/build", false, false},
		{"/dist", "dist", false, true},
		{"/dist", "a/dist", false, false},
		{"a/b", "a/b", false, true},
		{"a/b", "x/a/b", false, false},
		{"src/**/*.o", "src/x.o", false, true},
		{"src/**/*.o", "src/a/b/x.o", false, true},
		{"src/**/*.o", "x.o", false, false},
		{"**/tmp", "a/b/tmp", false, true},
		{"a/**", "a", true, false},
		{"a/**", "a/b", false, true},
		{"a/**", "a/b/c", false, true},
		{"**", "a", false, true},
		{"[ab]?", "bx", false, true},
		{"[ab]?", "cx", false, false},
	}
	for _, tt := range tests {
		es, err := parseExcludes([]string{tt.pattern})
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		if got := es.match(tt.path, tt.dir); got != tt.want {
			t.Errorf("%q matches %q = %v; want %v", tt.pattern, tt.path, got, tt.want)
		}
	}
	for _, p := range []string{"", "/", "!a", "a//b", "../a", "a/./b", "[", "a/["} {
		if err := CheckExclude(p); err == nil {
			t.Errorf("CheckExclude(%q) = nil; want an error", p)
		}
	}
}

// FuzzLeavesTree compares with a resolution of the link among directories that are none but
// real ones: where that ends outside, or behind a name that may be a link itself, the link
// leaves the tree.
func FuzzLeavesTree(f *testing.F) {
	for _, tt := range [][2]string{
		{"a", "b"}, {"a/b", "../c"}, {"a/b", "../../c"}, {"a", "/etc"}, {"a", "/home/u/ws"}, {"a", "/home/u/wsx"},
		{"a", "/home/u/ws/../x"}, {"a/b/c", "./.././/../d"}, {"a", "x/.."}, {"a", ""}, {"a", "/home/u/ws/x/../../y"},
	} {
		f.Add(tt[0], tt[1])
	}
	const root = "/home/u/ws"
	f.Fuzz(func(t *testing.T, link, target string) {
		if checkPath(link) != nil || strings.ContainsRune(target, 0) {
			return
		}
		full := target
		if !path.IsAbs(target) {
			full = path.Dir(root+"/"+link) + "/" + target
		}
		inside := path.Clean(full) == root || strings.HasPrefix(path.Clean(full), root+"/")
		if got := leavesTree(root, link, target); !got && !inside {
			t.Errorf("leavesTree(%q -> %q) = false; it leads to %s", link, target, path.Clean(full))
		} else if got && inside && !strings.Contains(target, "..") && !path.IsAbs(target) {
			t.Errorf("leavesTree(%q -> %q) = true; it leads to %s", link, target, path.Clean(full))
		}
		if !path.IsAbs(target) && !leavesTree("", link, target) != !leavesTree(root, link, target) {
			t.Errorf("leavesTree(%q -> %q) depends on the root", link, target)
		}
	})
}
