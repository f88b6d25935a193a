package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// hostileNames are paths that a hostile guest may say that it has changed, and that a list may
// have. wildNames make a list one that is refused as a whole.
var hostileNames = []string{
	"a", "b", "dir", "dir/a", "dir/sub", "dir/sub/f", "new", "new/x", "new/x/y", "link", "link/x", "Dir", "DIR/A", "A",
	".git", ".git/config", ".git/hooks/pre-commit", ".git/HEAD", ".GIT/config", ".git./config", ".git /config", "git~1/config", ".g\u200cit/config", ".gi\u200dt/hooks/x",
	"sub/.git/config", "sub/.git", ".gitmodules", ".gitattributes", ".envrc", ".vscode/tasks.json", "Makefile", "package.json", "node_modules/x/index.js",
	"new line\nb", "escape\x1b[2J", "\u202egpj.exe", "caf\u00e9", "cafe\u0301", "\xff", "CON", "a:b", "a\\b", strings.Repeat("n", 255), strings.Repeat("d/", 40) + "f",
}

var wildNames = []string{
	"../outside", "dir/../../outside", "/outside", "./a", "dir//a", "dir/", "", ".", "..", "a/..", "dir/.", "a\x00b",
	strings.Repeat("n", 256), strings.Repeat("d/", 2100) + "f",
}

var hostileTargets = []string{
	"a", "dir", "/etc/passwd", "../../outside", "..", "/", "", ".git/config", "dir/../../..", "/proc/self/root", "x\x00y", strings.Repeat("t", 4096), "link",
}

// hostileList returns changes as no guest that is well has them, and what their files hold.
func hostileList(r *rand.Rand, t *testing.T) ([]wire.Change, map[string]string) {
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	odd := func() bool { return r.IntN(60) == 0 }
	files := make(map[string]string)
	var all []wire.Change
	kinds := make(map[string]wire.Kind)
	for range 1 + r.IntN(12) {
		c := wire.Change{Path: []byte(pick(hostileNames)), Mode: []uint32{0o644, 0o755, 0o600, 0o4777, 0o2777, 0o1777, 0}[r.IntN(7)]}
		c.Kind = []wire.Kind{wire.KindFile, wire.KindFile, wire.KindFile, wire.KindDir, wire.KindSymlink, wire.KindWhiteout, wire.KindOther}[r.IntN(7)]
		if odd() {
			c.Path = []byte(pick(wildNames))
		}
		if odd() {
			c.Kind = "none"
		}
		if odd() {
			c.Mode = []uint32{0o100644, 1 << 31}[r.IntN(2)]
		}
		if os.Geteuid() != 0 && c.Kind == wire.KindDir {
			c.Mode |= 0o700 // else this test cannot look into it
		}
		name := string(c.Path)
		if kinds[name] != "" && !odd() {
			continue
		}
		parents := parentsOf(name)
		if slices.ContainsFunc(parents, func(p string) bool { return kinds[p] != "" && kinds[p] != wire.KindDir }) && !odd() {
			continue
		}
		for _, parent := range parents { // the directories that it is in
			if kinds[parent] == "" && !odd() {
				all = append(all, wire.Change{Path: []byte(parent), Kind: wire.KindDir, Mode: 0o755})
				kinds[parent] = wire.KindDir
			}
		}
		kinds[name] = c.Kind
		switch c.Kind {
		case wire.KindFile:
			text := strings.Repeat(pick([]string{"x", "#!/bin/sh\n", "\x1b[31m", "\u202e", ""}), r.IntN(50))
			sum, err := sparse.SumOf(t.Context(), strings.NewReader(text), int64(len(text)))
			if err != nil {
				t.Fatal(err)
			}
			files[string(c.Path)] = text
			c.Size, c.Sum = int64(len(text)), sum[:]
			switch r.IntN(150) {
			case 0:
				c.Sum = make([]byte, 32)
			case 1:
				c.Sum = c.Sum[:r.IntN(32)]
			case 2:
				c.Size = []int64{-1, 1 << 62, 17}[r.IntN(3)]
			case 3:
				c.Link, c.Size, c.Sum = []byte(pick(hostileNames)), 0, nil
			case 4, 5, 6, 7, 8, 9:
				c.Attributes = true
			}
		case wire.KindSymlink:
			c.Target = []byte(pick(hostileTargets))
		case wire.KindDir:
			c.Opaque = r.IntN(3) == 0
			if r.IntN(3) == 0 {
				c.Redirect = []byte(pick([]string{"/dir", "dir", "/dir/sub", "/.git", "a", "/sub"}))
			}
			if odd() {
				c.Redirect = []byte(pick([]string{"/", "..", "/../x", strings.Repeat("/d", 3000)}))
			}
		}
		all = append(all, c)
	}
	if !odd() { // in the order that an agent has
		slices.SortStableFunc(all, func(a, b wire.Change) int { return strings.Compare(string(a.Path), string(b.Path)) })
	}
	return all, files
}

func parentsOf(name string) (parents []string) {
	for i, c := range name {
		if c == '/' && i > 0 {
			parents = append(parents, name[:i])
		}
	}
	return parents
}

// hostTree returns what is below dir, by path.
func hostTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := fi.Mode().String()
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil && os.Geteuid() == 0 {
				return err
			}
			text += fmt.Sprintf(" %q", data)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + target
		case !d.IsDir():
			t.Errorf("%s is a special file", path)
		}
		if fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		tree[strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// changedIn returns the paths that differ between two trees.
func changedIn(before, after map[string]string) (paths []string) {
	for p, was := range before {
		if after[p] != was {
			paths = append(paths, p)
		}
	}
	for p := range after {
		if _, ok := before[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// TestHostileLists has guests list what they like. An apply changes on the host what the
// list has, of the classes that it was told, and nothing else; never a file of git's, and
// nothing beside the workspace. An undo gives all of it back.
func TestHostileLists(t *testing.T) {
	seeds := uint64(250)
	if testing.Short() {
		seeds = 30
	}
	home := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "dir/a", "dir/sub/f", "sub/f"} {
		write("project/"+name, "of the host\n")
	}
	write("project/.git/HEAD", "ref: refs/heads/main\n") // no whole repository, which git would be asked about
	write("project/.git/config", "[core]\n")
	write("project/.git/hooks/sample", "")
	write("neighbour/f", "a neighbour's\n")
	write("outside", "outside\n")
	m := runFakeMachinePacked(t, home, nil, workspace.PackOptions{})
	project, neighbour := filepath.Join(home, "project"), filepath.Join(home, "neighbour")
	before, beside := hostTree(t, project), hostTree(t, neighbour)
	applied, refused := 0, 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 7))
		list, files := hostileList(r, t)
		m.files = files
		m.list = func(conn net.Conn) {
			for _, c := range list {
				if wire.WriteMessage(conn, c) != nil {
					return
				}
			}
			wire.WriteMessage(conn, wire.Change{End: true})
		}
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		a := userOf(t, home, nil)
		a.Out = out
		diffErr := a.command("diff", "m", "--json", "--ignored")
		out.Close()
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		var changes []mayfly.Change
		if diffErr == nil {
			if err := json.Unmarshal(text, &changes); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, text)
			}
		}
		for _, all := range []bool{false, true} {
			args := []string{"apply", "m"}
			if all {
				args = append(args, "--all", "--ignored")
			}
			applyErr := userOf(t, home, nil).command(args...)
			after := hostTree(t, project)
			for _, p := range changedIn(before, after) {
				allowed := slices.ContainsFunc(changes, func(c mayfly.Change) bool {
					if c.Withheld || !all && c.Class != mayfly.Ordinary {
						return false
					}
					p := strings.ToValidUTF8(p, "\ufffd")
					return p == c.Path || strings.HasPrefix(p, c.Path+"/") || strings.HasPrefix(c.Path, p+"/") ||
						c.From != "" && (p == c.From || strings.HasPrefix(p, c.From+"/") || strings.HasPrefix(c.From, p+"/"))
				})
				if !allowed || diffErr != nil || p == "" && before[p] != after[p] {
					t.Errorf("seed %d, %q: %q was changed from %q to %q; the list is %s", seed, args, p, before[p], after[p], text)
				}
				for part := range strings.SplitSeq(strings.ToLower(p), "/") {
					if part == ".git" || strings.HasPrefix(part, "git~") || strings.Contains(part, "\u200c") {
						t.Errorf("seed %d, %q: %q was changed", seed, args, p)
					}
				}
			}
			if d := changedIn(beside, hostTree(t, neighbour)); len(d) > 0 {
				t.Errorf("seed %d, %q: %q beside the workspace were changed", seed, args, d)
			}
			if len(changedIn(before, after)) > 0 {
				applied++
				if err := userOf(t, home, nil).command("undo", "m"); err != nil {
					t.Errorf("seed %d: undo: %v", seed, err)
				}
			} else if applyErr != nil {
				refused++
			}
			if d := changedIn(before, hostTree(t, project)); len(d) > 0 {
				t.Fatalf("seed %d, %q: after an undo %q are not as before", seed, args, d)
			}
		}
	}
	t.Logf("%d applies changed something, %d were refused", applied, refused)
	if applied < int(seeds)/10 || refused < int(seeds)/10 {
		t.Error("the lists are too tame, or too wild")
	}
	if text, err := os.ReadFile(filepath.Join(home, "outside")); string(text) != "outside\n" {
		t.Errorf("a file outside of the workspace holds %q, %v", text, err)
	}
}
