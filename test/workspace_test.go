package test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// makeRepository makes a git repository of over a thousand files in dir.
func makeRepository(t *testing.T, dir string) {
	t.Helper()
	for i := range 1200 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("src/pkg%02d/file%02d.txt", i/40, i%40)), fmt.Sprintf("file %d\n%s", i, strings.Repeat("some text\n", i%50)))
	}
	writeFile(t, filepath.Join(dir, "build.sh"), "#!/bin/sh\necho built\n")
	writeFile(t, filepath.Join(dir, ".gitignore"), "*.log\n")
	writeFile(t, filepath.Join(dir, "ignored.log"), "not in git, but in the workspace\n")
	writeFile(t, filepath.Join(dir, "name with ä\n newline"), "odd\n")
	if err := os.Symlink("src/pkg00", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"init", "-q"}, {"add", "."},
		{"-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "all"},
		{"gc", "-q"},
	} {
		cmd := exec.Command("git", argv...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", argv, err, out)
		}
	}
}

// hashTree returns what every entry below dir is.
func hashTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		switch {
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%x", sha256.Sum256(data))
		case fi.Mode()&fs.ModeSymlink != 0:
			if content, err = os.Readlink(name); err != nil {
				return err
			}
		}
		rel, err := filepath.Rel(dir, name)
		tree[rel] = fi.Mode().String() + " " + content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func copyTree(t *testing.T, src string) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", src, dst).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", src, err, out)
	}
	return dst
}

// onHost runs a script in dir on the host.
func onHost(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// edits is work as an agent does it. It gives the same result wherever it is
// done.
const edits = `
umask 022
echo more >> src/pkg01/file01.txt
sed -i 's/some/any/' src/pkg02/file02.txt
echo new > src/pkg03/new.txt
mkdir -p deep/er/dir && echo x > deep/er/dir/file
rm src/pkg04/file04.txt
rm -r src/pkg05
mv src/pkg06/file06.txt src/pkg06/moved.txt
mv src/pkg07 src/moved
perl -e 'rename "src/pkg16", "deep/pkg16" or die $!' && echo more >> deep/pkg16/file00.txt
perl -e 'rename "deep/pkg16", "deep/er/renamed" or die $!'
chmod 755 src/pkg08/file08.txt
chmod +x build.sh
rm src/pkg09/file09.txt && mkdir src/pkg09/file09.txt && echo in > src/pkg09/file09.txt/inside
rm -r src/pkg10 && echo flat > src/pkg10
ln -s file01.txt src/pkg01/symlink
ln -sfn src/pkg01 link
: > src/pkg11/empty.txt
: > src/pkg11/file11.txt
printf 'odd\n' > "name with \"quotes\" and \\"
rm name*newline
# Nothing of these is a change.
touch src/pkg12/file12.txt
mv src/pkg13/file13.txt x && mv x src/pkg13/file13.txt
cp src/pkg14/file14.txt x && mv x src/pkg14/file14.txt
echo gone > src/pkg15/temporary && rm src/pkg15/temporary
`

// TestWorkspacePart works in a sub-directory of a linked worktree, whose repository is not in
// the copy. At the end of the run the commits are where they belong.
func TestWorkspacePart(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	onHost(t, h.Dir, `git init -q -b main repo; cd repo; git config user.name U; git config user.email u@example.com
		mkdir part; echo 1 > part/a; echo 1 > top; echo '*.log' > .gitignore; git add -A; git commit -qm first
		git worktree add -q -b work ../linked`)
	r := h.Run(0, "run", "--apply", "--all", "-w", filepath.Join(h.Dir, "linked/part"), "--", "sh", "-ec", `test -z "$(git status --porcelain)"
		git config user.name G; git config user.email g@example.com
		echo 2 > a; echo l > x.log; git commit -qam two; echo n > new; git add .; git commit -qm three; echo 3 > a
		test "$(git log --format=%s)" = "$(printf 'three\ntwo\nfirst')"; test "$(git status --porcelain)" = ' M part/a'`)
	if !strings.Contains(r.Stderr, "work: fast-forwarded to ") {
		t.Errorf("run does not tell of the commits: %s", r.Stderr)
	}
	onHost(t, filepath.Join(h.Dir, "linked"), `test "$(git log --format=%s)" = "$(printf 'three\ntwo\nfirst')"
		test "$(git status --porcelain)" = ' M part/a'; test -f top; test -f .git; test ! -e part/.git
		test "$(git diff --name-only HEAD~2 HEAD)" = "$(printf 'part/a\npart/new')"; git fsck --strict`)
}

// What changed in a machine comes back exactly, and nothing else does.
func TestWorkspace(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	makeRepository(t, h.Dir)
	before := hashTree(t, h.Dir)
	twin := copyTree(t, h.Dir)
	onHost(t, twin, edits)
	want := hashTree(t, twin)

	r := h.Run(0, "run", "--keep", "--name", "w", "--", "git", "status", "--porcelain")
	if r.Stdout != "" {
		t.Errorf("git status is not clean in the machine:\n%s", vm.Clip(r.Stdout))
	}
	if got := paths(t, h.Run(0, "diff", "--json", "w").Stdout); len(got) > 0 {
		t.Errorf("after git status alone these differ: %q", got)
	}

	h.Run(0, "exec", "w", "--", "sh", "-ec", edits+"echo '#!/bin/sh' > .git/hooks/post-commit")
	diff := paths(t, h.Run(0, "diff", "--json", "w").Stdout)
	for _, line := range []string{
		"M src/pkg01/file01.txt", "A src/pkg03/new.txt", "D src/pkg04/file04.txt", "R src/pkg06/moved.txt",
		"M src/pkg08/file08.txt", "M build.sh", "R src/moved", "R deep/er/renamed", "A .git/hooks/post-commit",
	} {
		if !slices.Contains(diff, line) {
			t.Errorf("diff lists no %q", line)
		}
	}
	for _, line := range diff {
		for _, same := range []string{"pkg12", "pkg13", "pkg14", "pkg15", "ignored.log"} {
			if strings.Contains(line, same) {
				t.Errorf("diff lists %q, which did not change", line)
			}
		}
	}
	if n := slices.IndexFunc(diff, func(s string) bool { return strings.Contains(s, "moved/") || strings.Contains(s, "pkg07") }); n >= 0 {
		t.Errorf("diff lists %q beside the rename of its directory", diff[n])
	}
	if d := cmp.Diff(before, hashTree(t, h.Dir)); d != "" {
		t.Fatalf("the directory changed before apply (-before +after):\n%s", d)
	}

	// All of it but the hook, which never comes back as a file.
	if r := h.Run(3, "apply", "--all", "w"); !strings.Contains(r.Stderr, "held back: .git/hooks/post-commit: ") {
		t.Errorf("apply does not name the hook: %s", r.Stderr)
	}
	if d := cmp.Diff(want, hashTree(t, h.Dir)); d != "" {
		t.Fatalf("after apply the directory is not as if the work had been done in it (-want +got):\n%s", d)
	}

	// An apply can be taken back, and repeated.
	h.Run(0, "undo", "w")
	if d := cmp.Diff(before, hashTree(t, h.Dir)); d != "" {
		t.Errorf("after undo the directory is not as before the apply (-want +got):\n%s", d)
	}
	h.Run(3, "apply", "--all", "w")
	if d := cmp.Diff(want, hashTree(t, h.Dir)); d != "" {
		t.Fatalf("after the second apply the directory is not as if the work had been done in it (-want +got):\n%s", d)
	}

	// Two commits, and something that is in none. The user has looked at the status meanwhile.
	onHost(t, h.Dir, "git status")
	h.Run(0, "exec", "w", "--", "sh", "-ec", `git config user.name G; git config user.email g@example.com
		git add -A; git commit -qm one; echo two > src/pkg22/two.txt; git add -A; git commit -qm two; echo u > untracked`)
	if r := h.Run(3, "apply", "--all", "w"); !strings.Contains(r.Stderr, ": fast-forwarded to ") {
		t.Errorf("apply does not tell of the commits: %s", r.Stderr)
	}
	onHost(t, h.Dir, `test "$(git log --format=%s)" = "$(printf 'two\none\nall')"
		test "$(git status --porcelain)" = '?? untracked'
		test "$(git config --get user.email)" != g@example.com
		git fsck --strict`)

	// A file that both sides changed is the host's.
	writeFile(t, filepath.Join(h.Dir, "src/pkg20/file20.txt"), "the host's\n")
	h.Run(0, "exec", "w", "--", "sh", "-ec", "echo guest > src/pkg20/file20.txt; echo guest > src/pkg21/file21.txt")
	r = h.Run(1, "apply", "--all", "w")
	if !strings.Contains(r.Stderr, "src/pkg20/file20.txt") {
		t.Errorf("apply does not name the conflict: %s", r.Stderr)
	}
	for name, content := range map[string]string{"20/file20": "the host's\n", "21/file21": "guest\n"} {
		if got := readFile(t, filepath.Join(h.Dir, "src/pkg"+name+".txt")); got != content {
			t.Errorf("%s holds %q; want %q", name, got, content)
		}
	}
	testSync(t, h)
	h.Run(0, "rm", "w")
}

// testSync sends newer edits of the host into the machine w, which has changed files itself
// and of which changes were applied.
func testSync(t *testing.T, h *vm.Host) {
	t.Helper()
	writeFile(t, filepath.Join(h.Dir, "src/pkg23/file23.txt"), "newer\n")
	writeFile(t, filepath.Join(h.Dir, "src/pkg21/file21.txt"), "newer than what was applied\n")
	writeFile(t, filepath.Join(h.Dir, "newer/dir/file"), "new\n")
	onHost(t, h.Dir, `rm src/pkg24/file24.txt; rm -r src/pkg25; chmod 750 src/pkg26/file01.txt; ln -s ../outside newer/link
		rm src/pkg27/file27.txt; mkdir src/pkg27/file27.txt; echo in > src/pkg27/file27.txt/inside`)
	r := h.Run(1, "sync", "w")
	if !strings.Contains(r.Stderr, "not sent: src/pkg20/file20.txt: changed in the machine, too") || strings.Count(r.Stderr, "not sent: ") != 1 {
		t.Errorf("sync says of conflicts: %s", vm.Clip(r.Stderr))
	}
	h.Run(0, "exec", "w", "--", "sh", "-ec", `
		test "$(cat src/pkg23/file23.txt)" = newer; test "$(stat -c %U src/pkg23/file23.txt)" = "$(id -un)"
		test "$(cat src/pkg21/file21.txt)" = "newer than what was applied"
		test "$(cat newer/dir/file)" = new; test "$(readlink newer/link)" = ../outside
		test ! -e src/pkg24/file24.txt; test ! -e src/pkg25; test "$(stat -c %a src/pkg26/file01.txt)" = 750
		test "$(cat src/pkg27/file27.txt/inside)" = in; test "$(cat src/pkg20/file20.txt)" = guest
		test -z "$(find . -name '.mayfly-sync-*')"`)
	// What was sent is no change of the machine's, and what it makes of that is.
	if got, want := paths(t, h.Run(0, "diff", "--json", "w").Stdout), []string{"M src/pkg20/file20.txt", "A .git/hooks/post-commit"}; !slices.Equal(withoutGit(got), withoutGit(want)) {
		t.Errorf("after a sync diff lists %q; want %q", got, want)
	}
	h.Run(0, "exec", "w", "--", "sh", "-ec", "echo guest >> src/pkg23/file23.txt; mv newer newest; echo again > src/pkg24/file24.txt")
	got := withoutGit(paths(t, h.Run(0, "diff", "--json", "w").Stdout))
	for _, want := range []string{"M src/pkg23/file23.txt", "R newest/dir/file", "A src/pkg24/file24.txt"} {
		if !slices.Contains(got, want) {
			t.Errorf("diff lists no %q: %q", want, got)
		}
	}
	h.Run(1, "apply", "--all", "w")
	if got, want := readFile(t, filepath.Join(h.Dir, "src/pkg23/file23.txt")), "newer\nguest\n"; got != want {
		t.Errorf("file23.txt holds %q; want %q", got, want)
	}
	// On request, texts that both sides changed are merged in the machine.
	onHost(t, h.Dir, "sed -i '1s/.*/first/' src/pkg28/file28.txt")
	h.Run(0, "exec", "w", "--", "sh", "-ec", "echo last >> src/pkg28/file28.txt")
	r = h.Run(1, "sync", "--merge", "w")
	if !strings.Contains(r.Stderr, "merged in the machine: src/pkg28/file28.txt\n") || !strings.Contains(r.Stderr, "src/pkg20/file20.txt, with 1 conflict between markers") {
		t.Errorf("sync --merge printed %s", vm.Clip(r.Stderr))
	}
	h.Run(0, "exec", "w", "--", "sh", "-ec", `test "$(head -n 1 src/pkg28/file28.txt)" = first; test "$(tail -n 1 src/pkg28/file28.txt)" = last
		grep -q "<<<<<<< machine" src/pkg20/file20.txt`)
}

// withoutGit returns the lines that are not of git's own files.
func withoutGit(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.Contains(l, " .git/") })
}

// paths returns the lines "OP path" of diff --json.
func paths(t *testing.T, text string) []string {
	t.Helper()
	var edits []struct{ Op, Path string }
	if err := json.Unmarshal([]byte(text), &edits); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var lines []string
	for _, e := range edits {
		lines = append(lines, e.Op+" "+e.Path)
	}
	return lines
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// At a terminal the user is asked.
func TestReview(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	c := h.Terminal("run", "--no-detect", "--", "sh", "-c", "stty -a | grep -o ' rows [0-9]*'; echo from a guest > file")
	c.Expect("rows 24")
	c.Expect("apply these changes? [yes/no/keep/pick/diff]")
	c.Type("what?\n")
	c.Expect("apply these changes? [yes/no/keep/pick/diff]")
	c.Type("y\n")
	if r := c.Wait(); r.Code != 0 {
		t.Errorf("exit code %d; want 0\n%s", r.Code, c.Screen())
	}
	if got := readFile(t, filepath.Join(h.Dir, "file")); got != "from a guest\n" {
		t.Errorf("the file holds %q", got)
	}

	c = h.Terminal("run", "--no-detect", "--", "sh", "-c", "echo again > file; exit 4")
	c.Expect("apply these changes?")
	c.Type("k\n")
	c.Expect("is kept")
	if r := c.Wait(); r.Code != 4 {
		t.Errorf("exit code %d; want 4\n%s", r.Code, c.Screen())
	}
	name := h.Machine()
	if got := h.Run(0, "exec", name, "--", "cat", "file").Stdout; got != "again\n" {
		t.Errorf("in the kept machine the file holds %q", got)
	}
	if got := readFile(t, filepath.Join(h.Dir, "file")); got != "from a guest\n" {
		t.Errorf("the file holds %q", got)
	}
	h.Run(0, "apply", name)
	if got := readFile(t, filepath.Join(h.Dir, "file")); got != "again\n" {
		t.Errorf("after apply the file holds %q", got)
	}
	h.Run(0, "rm", name)

	// Who only leaves has decided nothing.
	c = h.Terminal("run", "--no-detect", "--", "sh", "-c", "echo third > file")
	c.Expect("apply these changes?")
	c.Type("\x04") // Ctrl-D
	c.Expect("is kept")
	if r := c.Wait(); r.Code != 1 {
		t.Errorf("exit code %d; want 1\n%s", r.Code, c.Screen())
	}
	h.Run(0, "apply", h.Machine())
	if got := readFile(t, filepath.Join(h.Dir, "file")); got != "third\n" {
		t.Errorf("after apply the file holds %q", got)
	}
	h.Run(0, "rm", h.Machine())
}

// Two machines work on one directory at once, and know nothing of each other,
// nor of one that was.
func TestTwoMachines(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	writeFile(t, filepath.Join(h.Dir, "file"), "original\n")
	first := h.Mayfly("run", "--keep", "--name", "one", "--no-detect", "--", "sh", "-ec",
		"echo one > file; sudo sh -c 'echo x > /etc/marker; rm /usr/bin/less'; cat file")
	second := h.Mayfly("run", "--keep", "--name", "two", "--no-detect", "--", "sh", "-ec",
		"echo two > file; test -e /usr/bin/less; test ! -e /etc/marker; cat file")
	first.Start()
	second.Start()
	for c, want := range map[*vm.Command]string{first: "one\n", second: "two\n"} {
		if r := c.Wait(); r.Code != 0 || r.Stdout != want {
			t.Errorf("exit code %d, stdout %q; want 0 and %q\n%s", r.Code, r.Stdout, want, r.Stderr)
		}
	}
	h.Run(0, "exec", "two", "--", "sh", "-ec", "test ! -e /etc/marker; grep two file")
	h.Run(0, "rm", "one")
	h.Run(0, "rm", "--force", "two")
	// The root file system of the first is gone, too.
	h.Run(0, "run", "--no-detect", "--", "sh", "-ec", "test -e /usr/bin/less; test ! -e /etc/marker; grep original file")
}
