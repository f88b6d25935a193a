package workspace

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// TestOverlay has the kernel make the changes: an image is mounted below an
// overlay as in a guest, a shell and random edits work in it, and the upper
// directory is listed as a guest does.
func TestOverlay(t *testing.T) {
	env.NeedVM(t)
	env.NeedRoot(t)
	scripts := []string{
		"git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm one",
		"mv d renamed && mkdir d && echo new > d/x",
		"rm -r d && ln -s /etc/passwd d",
		"rm f && mkdir f && touch f/in",
		"chmod 700 d f && touch d/e/x",
		"ln f hard && mkfifo pipe && mknod null c 1 3",
		"cp -a d copy && rm -r d/e && echo more >> f",
		"mv d new",
		"mkdir n && mv d/e n && mv d n/d2 && echo x >> n/e/x",
		"mv d a && mv a/e a/e2 && mv a/e2 up && mv up a/e",
		"mv d/e t && mv d u && mv t d && touch d/z && mv u d/u",
		"mv d a && mkdir d && mv a d/in && chmod 700 d/in",
	}
	from := tree{
		"f":     {File, 0o644, "f"},
		"l":     {Symlink, 0o777, "f"},
		"d":     {Dir, 0o755, ""},
		"d/e":   {Dir, 0o755, ""},
		"d/e/x": {File, 0o644, "x"},
		"d/y":   {File, 0o755, "y"},
	}
	for _, script := range scripts {
		t.Run(script, func(t *testing.T) {
			throughOverlay(t, from, func(merged string) {
				cmd := exec.Command("sh", "-ec", script)
				cmd.Dir = merged
				cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			})
		})
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		from, to := randomTrees(r)
		throughOverlay(t, from, func(merged string) { to.realize(t, merged) })
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		from, _ := randomTrees(r)
		throughOverlay(t, from, func(merged string) {
			for range 1 + r.IntN(12) {
				renameAny(t, r, merged)
			}
		})
	}
}

// renameAny renames a directory to any place that takes it.
func renameAny(t *testing.T, r *rand.Rand, dir string) {
	t.Helper()
	now := readTree(t, dir)
	from, ok := now.pick(r, Dir)
	if !ok {
		return
	}
	parent, _ := now.pick(r, Dir)
	if parent == "" || r.IntN(3) == 0 {
		parent = "."
	}
	to := joinPath(parent, []string{"a", "b", "a-b", "new", "z"}[r.IntN(5)])
	if r.IntN(4) == 0 {
		os.RemoveAll(filepath.Join(dir, to))
	}
	err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to))
	switch {
	case errors.Is(err, unix.EXDEV):
		t.Errorf("rename %q to %q: %v", from, to, err)
	case err == nil && r.IntN(2) == 0:
		os.Mkdir(filepath.Join(dir, from), 0o755)
	}
}

// throughOverlay packs a tree, has edit change it through an overlay, and
// wants to see the same on the host after Apply.
func throughOverlay(t *testing.T, from tree, edit func(merged string)) {
	t.Helper()
	s := newSession(t, from)
	work := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := os.Create(work + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if s.app.Manifest, err = Pack(t.Context(), s.dir, out, PackOptions{}); err != nil {
		t.Fatal(err)
	}
	if s.app.Base, err = s.app.Manifest.OpenImage(out); err != nil {
		t.Fatal(err)
	}
	mount := func(args ...string) {
		if msg, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %q: %v: %s", args, err, msg)
		}
		t.Cleanup(func() { unix.Unmount(args[len(args)-1], unix.MNT_DETACH) })
	}
	mount("-t", "erofs", "-o", "loop,ro", work+"/image", work+"/lower")
	mount("-t", "overlay", "-o", "redirect_dir=on,metacopy=off,index=off,xino=off,lowerdir="+work+"/lower,upperdir="+work+"/upper,workdir="+work+"/work", "overlay", work+"/merged")
	edit(work + "/merged")

	want := readTree(t, work+"/merged")
	s.take(t, want, listUpper(t, work+"/upper"))
	for _, c := range s.apply(t).Conflicts {
		t.Errorf("conflict: %v", c)
	}
	maps.DeleteFunc(want, func(_ string, n node) bool { return n.kind == Other })
	compare(t, "host", readTree(t, s.dir), want)
}

// realize makes dir, which holds another tree, hold this one.
func (tr tree) realize(t *testing.T, dir string) {
	t.Helper()
	now := readTree(t, dir)
	for p, n := range now {
		if n != tr[p] && (n.kind != Dir || tr[p].kind != Dir) {
			if err := os.RemoveAll(filepath.Join(dir, p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	rest := make(tree)
	for p, n := range tr {
		full := filepath.Join(dir, p)
		if _, err := os.Lstat(full); errors.Is(err, fs.ErrNotExist) {
			rest[p] = n
		} else if now[p].mode != n.mode {
			if err := os.Chmod(full, os.FileMode(n.mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	rest.build(t, dir)
}

// listUpper lists an upper directory.
func listUpper(t *testing.T, upper string) []Change {
	t.Helper()
	var cs []Change
	for p, n := range readTree(t, upper) {
		full := filepath.Join(upper, p)
		c := Change{Path: p, Kind: n.kind, Mode: n.mode}
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			t.Fatal(err)
		}
		switch n.kind {
		case File:
			c.Size, c.Sum = int64(len(n.data)), sumOf(string(n.data))
		case Symlink:
			c.Target = n.data
		case Dir:
			var b [1]byte
			k, err := unix.Lgetxattr(full, "trusted.overlay.opaque", b[:])
			c.Opaque = err == nil && k == 1 && b[0] == 'y'
			to := make([]byte, unix.PathMax)
			if k, err := unix.Lgetxattr(full, "trusted.overlay.redirect", to); err == nil {
				c.Redirect = string(to[:k])
			}
		case Other:
			if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
				c.Kind = Whiteout
			}
		}
		cs = append(cs, c)
	}
	return cs
}
