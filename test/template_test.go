package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// How a machine was started, as --explain says it.
const (
	fromTemplate = "began from template"
	forIt        = "which was made for it"
	byBooting    = "the machine booted"
)

// wantStart fails t unless a run with --explain was started in this way.
func wantStart(t *testing.T, r vm.Result, want string) {
	t.Helper()
	if !strings.Contains(r.Stderr, want) || want == fromTemplate && strings.Contains(r.Stderr, forIt) {
		t.Errorf("want a machine that %q; stderr:\n%s", want, r.Stderr)
	}
}

// explained runs true in a new machine and wants it to be started in this way.
func explained(t *testing.T, h *vm.Host, want string, flags ...string) vm.Result {
	t.Helper()
	args := append([]string{"run", "--discard", "--no-detect", "--explain"}, flags...)
	r := h.For(t).Run(0, append(args, "--", "true")...)
	wantStart(t, r, want)
	return r
}

// One after the other and at the same time, every machine starts from the
// template, and works.
func TestTemplateStarts(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	explained(t, h, "") // it may be there, from another test
	for i := range 40 {
		r := h.Run(i, "run", "--discard", "--no-detect", "--explain", "--", "sh", "-c", fmt.Sprintf("exit %d", i))
		wantStart(t, r, fromTemplate)
		if t.Failed() {
			t.FailNow()
		}
	}
	atOnce(20, func(i int) {
		r := h.Mayfly("run", "--discard", "--no-detect", "--explain", "--", "echo", fmt.Sprint(i)).Want(0)
		wantStart(t, r, fromTemplate)
		if want := fmt.Sprintln(i); r.Stdout != want {
			t.Errorf("machine %d printed %q", i, r.Stdout)
		}
	})
}

// atOnce runs f for 0 to n-1 at the same time.
func atOnce(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// Many that find no template make one, and all begin from it.
func TestTemplateMadeOnce(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	var made sync.Map
	atOnce(6, func(i int) {
		r := h.Mayfly("run", "--discard", "--no-detect", "--explain", "--", "true").Want(0)
		if !strings.Contains(r.Stderr, fromTemplate) {
			t.Errorf("machine %d: %s", i, r.Stderr)
		}
		if strings.Contains(r.Stderr, forIt) {
			made.Store(i, true)
		}
	})
	n := 0
	made.Range(func(any, any) bool { n++; return true })
	if n != 1 || len(templates(t, dir)) != 1 {
		t.Errorf("%d starts made a template, and there are %q; want one", n, templates(t, dir))
	}
}

// templates returns the keys of the templates in dir.
func templates(t *testing.T, dir string) []string {
	t.Helper()
	all, err := template.Store{Dir: dir}.List()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, info := range all {
		keys = append(keys, info.Key)
	}
	return keys
}

// A template is for one shape of machine; --cold does without, and image ls
// shows all.
func TestTemplateShapes(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	explained(t, h, forIt)
	explained(t, h, fromTemplate)
	explained(t, h, byBooting+": asked for", "--cold")
	explained(t, h, forIt, "--memory", "768MiB")
	explained(t, h, fromTemplate, "--memory", "768MiB")
	explained(t, h, forIt, "--vcpus", "1")
	explained(t, h, fromTemplate)
	if got := templates(t, dir); len(got) != 3 {
		t.Errorf("templates: %q; want three", got)
	}
	var images []struct {
		Templates []template.Info
	}
	if err := json.Unmarshal([]byte(h.Run(0, "image", "ls", "--json").Stdout), &images); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, image := range images {
		found += len(image.Templates)
	}
	if found != 3 {
		t.Errorf("image ls shows %d templates; want 3", found)
	}
	if r := h.Run(0, "image", "ls"); !regexp.MustCompile(` 3 \(\d+ MiB\) `).MatchString(r.Stdout) {
		t.Errorf("image ls = %s; want 3 templates with their size", r.Stdout)
	}
	// What is not used for long goes.
	old := templates(t, dir)[0]
	record := filepath.Join(dir, old, "template.json")
	if out, err := os.ReadFile(record); err != nil || len(out) == 0 {
		t.Fatal(err)
	}
	touch(t, record, "2001-01-01")
	h.Run(0, "gc")
	if got := templates(t, dir); len(got) != 2 || slices.Contains(got, old) {
		t.Errorf("after gc: %q; want the two that are not old", got)
	}
}

// Whatever is wrong with a template: the machine starts, right, and says in one
// line what happened; the next one starts from a new template.
func TestTemplateDamaged(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	explained(t, h, forIt)
	for name, damage := range map[string]func(t *testing.T, dir string){
		"memory, a bit":   func(t *testing.T, dir string) { flipBit(t, filepath.Join(dir, "memory"), 20<<20+5) },
		"memory, the end": func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "memory"), 1<<30) },
		"state, a bit":    func(t *testing.T, dir string) { flipBit(t, filepath.Join(dir, "state"), 1000) },
		"state, the end":  func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "state"), 1000) },
		"record, the end": func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "template.json"), 100) },
		"record, no more": func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, "template.json"), 0) },
		"memory, no more": func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "memory")) },
		"a file in its way": func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			keys := templates(t, dir)
			if len(keys) != 1 {
				t.Fatalf("templates: %q; want one", keys)
			}
			damage(t, filepath.Join(dir, keys[0]))
			r := explained(t, h, "the machine b")
			if n := strings.Count(r.Stderr, "damaged"); n != 2 { // the warning, the explanation
				t.Errorf("stderr = %q; want one warning", r.Stderr)
			}
			wantStart(t, r, forIt)
			explained(t, h, fromTemplate)
		})
	}
	h.Run(0, "gc")
	wantFiles(t, dir, append(templates(t, dir), "lock"))
}

// wantFiles fails t unless these are all names in dir.
func wantFiles(t *testing.T, dir string, want []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("in the directory of templates (-want +got):\n%s", d)
	}
}

func flipBit(t *testing.T, path string, at int64) {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, path, day string) {
	t.Helper()
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// A template whose files are all as recorded, and which still cannot be restored:
// the machine boots and says so once; it is not tried again and again.
func TestTemplateFails(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	explained(t, h, forIt)
	key := templates(t, dir)[0]
	// Other devices than the VMM's, in a record that agrees with them.
	forgeState(t, filepath.Join(dir, key), func(state []byte) []byte { return state[:len(state)/2] })

	r := explained(t, h, byBooting)
	if n := strings.Count(r.Stderr, "mayfly: booting, since the template could not be restored"); n != 1 {
		t.Errorf("stderr = %q; want one warning", r.Stderr)
	}
	wantFiles(t, dir, []string{".aside-" + key, key + ".failed", "lock"})
	r = explained(t, h, byBooting)
	if strings.Contains(r.Stderr, "mayfly: booting") || !strings.Contains(r.Stderr, "one failed") {
		t.Errorf("stderr = %q; want no second warning, and the reason", r.Stderr)
	}
	h.Run(0, "gc")
	wantFiles(t, dir, []string{"lock"})
	explained(t, h, forIt)
}

// forgeState changes the state of a template, and its record with it.
func forgeState(t *testing.T, dir string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, "state")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data := change(slices.Clone(old))
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	var record template.Record
	name := filepath.Join(dir, "template.json")
	if err := state.ReadJSON(name, &record); err != nil {
		t.Fatal(err)
	}
	record.State = template.Sum{Size: int64(len(data)), SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}
	if err := state.WriteJSON(name, record); err != nil {
		t.Fatal(err)
	}
}

// Where no template can be kept, machines boot.
func TestTemplateNoRoom(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	t.Run("full disk", func(t *testing.T) {
		h := h.For(t)
		h.Set("XDG_CACHE_HOME", smallDisk(t, 64<<20))
		r := explained(t, h, byBooting)
		if n := strings.Count(r.Stderr, "mayfly: booting, since there can be no template"); n != 1 {
			t.Errorf("stderr = %q; want one warning", r.Stderr)
		}
		r = explained(t, h, byBooting)
		if strings.Contains(r.Stderr, "mayfly: booting") {
			t.Errorf("stderr = %q; want no second warning", r.Stderr)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		h := h.For(t)
		file := filepath.Join(t.TempDir(), "file")
		writeFile(t, file, "")
		h.Set("XDG_CACHE_HOME", file)
		explained(t, h, byBooting)
	})
	t.Run("read-only file system", func(t *testing.T) {
		h := h.For(t)
		disk := smallDisk(t, 4<<30)
		h.Set("XDG_CACHE_HOME", disk)
		explained(t, h, forIt)
		if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		explained(t, h, fromTemplate)
		explained(t, h, byBooting, "--vcpus", "1")
	})
}

// Another program under the same name makes another template: a state is never
// given to a VMM that did not write it.
func TestTemplateOtherQEMU(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	tree := qemuTree(t, h)
	qemu := filepath.Join(tree, "usr/bin", filepath.Base(qemuPath(t, h)))
	h.Set("MAYFLY_QEMU", qemu)
	explained(t, h, forIt)
	explained(t, h, fromTemplate)
	// The next version of it.
	data, err := os.ReadFile(qemu)
	if err != nil {
		t.Fatal(err)
	}
	replaced := patchVersion(t, data, dryRun(t, h).Machine.Engine.Version)
	if err := errors.Join(os.WriteFile(qemu+".new", replaced, 0o755), os.Rename(qemu+".new", qemu)); err != nil {
		t.Fatal(err)
	}
	explained(t, h, forIt)
	explained(t, h, fromTemplate)
	if got := templates(t, dir); len(got) != 2 {
		t.Errorf("templates: %q; want one for each QEMU", got)
	}
}

// qemuTree returns a copy of the tree that the chosen QEMU is in, such that its
// program can be replaced.
func qemuTree(t *testing.T, h *vm.Host) string {
	t.Helper()
	path := qemuPath(t, h)
	from, ok := strings.CutSuffix(path, "/usr/bin/"+filepath.Base(path))
	if !ok {
		t.Fatalf("QEMU is %s; want it in a usr/bin", path)
	}
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/share", "usr/lib"} {
		if err := os.Symlink(filepath.Join("/", from, dir), filepath.Join(tree, dir)); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(tree, "usr/bin", filepath.Base(path))
	if out, err := exec.Command("cp", path, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return tree
}

// patchVersion makes a QEMU say that it is of another version.
func patchVersion(t *testing.T, program []byte, version string) []byte {
	t.Helper()
	last := len(version) - 1
	next := version[:last] + string('0'+(version[last]-'0'+1)%10)
	// As the program prints it, and nowhere else.
	if !bytes.Contains(program, []byte(version+" (")) && !bytes.Contains(program, []byte(version+"\x00")) {
		t.Fatalf("the program does not say %s", version)
	}
	program = bytes.ReplaceAll(program, []byte(version+" ("), []byte(next+" ("))
	return bytes.ReplaceAll(program, []byte(version+"\x00"), []byte(next+"\x00"))
}

// Nothing of the machine that a template was made for is in its files: not even in
// memory that a program gave back.
func TestTemplateHoldsNothing(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	dir := h.OwnCache()
	const marker = "mayfly-test-marker-"
	writeFile(t, filepath.Join(h.Dir, marker+"file"), strings.Repeat(marker+"content\n", 1000))
	r := h.Run(0, "run", "--discard", "--no-detect", "--explain", "--memory", "512MiB", "--name", marker+"name", "--env", "TOKEN="+marker+"secret",
		"--", "sh", "-c", "cat * | wc -l; echo $TOKEN; hostname")
	wantStart(t, r, forIt)
	if want := "1000\n" + marker + "secret\n" + marker + "name\n"; r.Stdout != want {
		t.Errorf("the machine printed %q; want %q", r.Stdout, want)
	}
	keys := templates(t, dir)
	if len(keys) != 1 {
		t.Fatalf("templates: %q; want one", keys)
	}
	has := func(needle string) bool {
		grep := exec.Command("grep", "-rqaF", "--", needle, filepath.Join(dir, keys[0]))
		grep.Env = append(os.Environ(), "LC_ALL=C")
		err := grep.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, needle := range []string{marker, filepath.Base(h.Home) + "/project"} {
		if has(needle) {
			t.Errorf("%q is in the template", needle)
		}
	}
	if own := "the guest is not prepared"; !has(own) {
		t.Errorf("%q, which the agent would say, is not in the template", own)
	}
}
