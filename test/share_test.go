package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/share"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// sharer is a user with directories to share.
type sharer struct {
	*vm.Host
	uid, gid int    // whose files a machine makes
	root     string // of everything below, beside a canary
	work     string // the workspace
	state    string // an agent's, shared by all machines
	docs     string // read-only
}

// newSharer lets the user of h own directories.
func newSharer(t *testing.T, h *vm.Host, root string, uid, gid int) *sharer {
	t.Helper()
	s := &sharer{
		Host: h, uid: uid, gid: gid, root: root,
		work: filepath.Join(root, "work"), state: filepath.Join(root, "state"), docs: filepath.Join(root, "docs"),
	}
	writeFile(t, filepath.Join(root, "canary"), "canary\n")
	writeFile(t, filepath.Join(s.docs, "text"), "of the host\n")
	writeFile(t, filepath.Join(s.state, "settings"), "of the host\n")
	writeFile(t, filepath.Join(s.work, "src/file"), "of the host\n")
	writeFile(t, filepath.Join(s.work, "src/.env"), "SECRET\n")
	writeFile(t, filepath.Join(s.work, "conf/deploy/script"), "of the host\n")
	for _, dir := range []string{s.docs, s.state, s.work} {
		if err := os.Symlink("../canary", filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
	}
	s.git(t, "init", "-q")
	s.git(t, "add", "src/file")
	s.git(t, "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "all")
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// git runs git in the workspace, whoever it belongs to.
func (s *sharer) git(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = s.work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", args, err, out)
	}
}

// keep starts a machine with all of the directories, and keeps it.
func (s *sharer) keep(t *testing.T, name string) {
	t.Helper()
	config := filepath.Join(s.root, "config.toml")
	writeFile(t, config, fmt.Sprintf("version = 1\n[workspace]\npath = %q\nmode = \"share\"\nhide = [\".env\"]\nprotect = [\"/conf/deploy\"]\n[[share]]\nsource = %q\n", s.work, s.state))
	s.Run(0, "run", "--config", config, "--no-detect", "--share", s.docs+":/srv/docs:ro", "--keep", "--name", name, "--", "true")
}

// in runs a script in the machine name and returns what it printed.
func (s *sharer) in(t *testing.T, name, script string) string {
	t.Helper()
	return s.Mayfly("exec", name, "--", "sh", "-c", "export LC_ALL=C; exec 2>&1; "+script).Want(0).Stdout
}

func TestShare(t *testing.T) {
	vm.Lock(t)
	if _, err := share.Find(t.Context(), os.Getenv("PATH")); err != nil {
		t.Skip(err)
	}
	t.Run("as who runs the tests", func(t *testing.T) {
		h := vm.New(t)
		uid, gid := os.Geteuid(), os.Getegid()
		if uid == 0 {
			uid, gid = 1000, 1000 // the guest's user, plan.User
		}
		testShare(t, newSharer(t, h, filepath.Join(h.Home, "shared"), uid, gid))
	})
	t.Run("as a normal user", func(t *testing.T) {
		h := vm.NewUser(t)
		h.BorrowStore()
		c := h.Credential
		testShare(t, newSharer(t, h, filepath.Join(h.Home, "shared"), int(c.Uid), int(c.Gid)))
	})
}

func testShare(t *testing.T, s *sharer) {
	t.Run("server fails", func(t *testing.T) {
		sub := *s
		sub.Host = s.Host.For(t)
		shareFails(t, &sub)
	})
	s.keep(t, "one")
	for _, tt := range []struct {
		name string
		test func(*testing.T, *sharer)
	}{
		{"workspace", shareWorkspace},
		{"owners", shareOwners},
		{"read-only", shareReadOnly},
		{"programs", sharePrograms},
		{"no setuid and no devices", shareModes},
		{"nothing outside", shareOutside},
		{"confined", shareConfined},
		{"watched", shareWatched},
		{"guarded", shareGuarded},
		{"clone", shareClone},
		{"two machines", shareTwo},
		{"removed on the host", shareRemoved},
		{"server dies", shareLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sub := *s
			sub.Host = s.Host.For(t)
			tt.test(t, &sub)
		})
	}
	// Whatever happened to its server, a machine ends in time, and what it changed is told.
	writeFile(t, filepath.Join(s.work, ".envrc"), "export A=1\n")
	if err := os.Chown(filepath.Join(s.work, ".envrc"), s.uid, s.gid); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if r := s.Run(0, "rm", "one"); !strings.Contains(r.Stderr, "A .envrc (runs): ") {
		t.Errorf("rm printed %q; want what changed", r.Stderr)
	}
	if took := time.Since(start); took > 25*time.Second {
		t.Errorf("rm took %v", took)
	}
	s.check(t)
}

// check finds what no machine may make anywhere below the directories.
func (s *sharer) check(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(s.root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		if fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice) != 0 {
			t.Errorf("%s has the mode %v", name, fi.Mode())
		}
		if ours := d.Name() == "config.toml"; !ours && (int(st.Uid) != s.uid || int(st.Gid) != s.gid) {
			t.Errorf("%s belongs to %d:%d; want %d:%d", name, st.Uid, st.Gid, s.uid, s.gid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A server that does not work is the start's error, with what it said.
func shareFails(t *testing.T, s *sharer) {
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-share-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	script := "#!/usr/bin/sh\nif test \"$1\" = --version; then echo virtiofsd 1.13.2; exit; fi\necho first line\necho it does not work\nexit 3\n"
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "virtiofsd"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	c := s.Mayfly("run", "--no-workspace", "--share", s.docs+":ro", "--", "true")
	c.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if r := c.Want(1); !strings.Contains(r.Stderr, "the server of "+s.docs+" ended: it does not work\n") {
		t.Errorf("mayfly printed %q; want the last line of the server", r.Stderr)
	}
}

// The workspace is at the same path, both ways and at once.
func shareWorkspace(t *testing.T, s *sharer) {
	if got, want := s.in(t, "one", "pwd; id -u; id -g; cat src/file; git status --porcelain --untracked-files=no"), fmt.Sprintf("%s\n%d\n%d\nof the host\n", s.work, s.uid, s.gid); got != want {
		t.Errorf("in the machine: %q; want %q", got, want)
	}
	s.in(t, "one", "set -e; echo new >new; mkdir dir; mv new dir/new; ln -s dir/new link; ln dir/new hard; echo more >>src/file; git add dir; git -c user.name=B -c user.email=b@example.com commit -q -m guest")
	if data, err := os.ReadFile(filepath.Join(s.work, "link")); string(data) != "new\n" || err != nil {
		t.Errorf("on the host: %q, %v; want what the machine wrote", data, err)
	}
	s.git(t, "fsck", "--strict")
	writeFile(t, filepath.Join(s.work, "from-host"), "of the host\n")
	if err := os.Chown(filepath.Join(s.work, "from-host"), s.uid, s.gid); err != nil {
		t.Fatal(err)
	}
	if got := s.in(t, "one", "cat from-host"); got != "of the host\n" {
		t.Errorf("the machine reads %q; want what the host wrote", got)
	}
	if r := s.Run(1, "apply", "one"); !strings.Contains(r.Stderr, "there is nothing to apply") || strings.Count(r.Stderr, "\n") != 1 {
		t.Errorf("mayfly apply: %q; want one line that says why not", r.Stderr)
	}
	if r := s.Run(0, "diff", "one"); r.Stdout != "" {
		t.Errorf("mayfly diff: %q; want nothing: a commit changes nothing that runs", r.Stdout)
	}
}

// What is hidden and protected is so whatever the machine's root does.
func shareGuarded(t *testing.T, s *sharer) {
	got := s.in(t, "one", `
cat src/.env; wc -c <src/.env
sudo sh 2>/dev/null -c '
	cat src/.env; mount -t virtiofs share0 /mnt && cat /mnt/src/.env; umount /mnt
	for f in src/.env conf/deploy/script .git/hooks/pre-commit conf/deploy/new; do echo evil >$f; rm -f $f; done
	for d in src conf conf/deploy .git .git/hooks; do mv $d moved && echo moved $d; rm -rf moved; done # mv may have copied it
	rm -rf conf .git/hooks
	ln conf/deploy/script linked && echo linked
	umount -l conf/deploy .git/hooks && echo unmounted
	mount -o remount,rw `+s.work+`
	mount --bind conf/deploy /mnt; mount -o remount,rw /mnt; echo evil >/mnt/script; umount /mnt
'
git status --porcelain --untracked-files=no; git branch work; git checkout -q work 2>&1; git checkout -q - 2>&1; git branch -d work >/dev/null; git config a.b c; git config --remove-section a
echo x >conf/other; mkdir src/sub; (cd src/sub && git rev-parse --show-prefix); rmdir src/sub; rm conf/other
cat conf/deploy/script; ls .git/hooks | wc -l
`)
	if strings.Contains(got, "SECRET") || strings.Contains(got, "moved") || strings.Contains(got, "linked") || strings.Contains(got, "unmounted") ||
		!strings.HasPrefix(got, "0\n") || !strings.Contains(got, "src/sub/\nof the host\n") {
		t.Errorf("the machine printed:\n%s", got)
	}
	for name, want := range map[string]string{"src/.env": "SECRET\n", "conf/deploy/script": "of the host\n"} {
		if data, err := os.ReadFile(filepath.Join(s.work, name)); string(data) != want {
			t.Errorf("%s on the host is %q, %v; want %q", name, data, err, want)
		}
	}
	// Who replaces what is guarded hears that the guard is gone.
	events := s.Mayfly("events", "one")
	events.Start()
	events.Printed("ready")
	next := filepath.Join(s.root, "next")
	writeFile(t, next, "NEXT\n")
	if err := errors.Join(os.Chown(next, s.uid, s.gid), os.Rename(next, filepath.Join(s.work, "src/.env"))); err != nil {
		t.Fatal(err)
	}
	events.Printed("src/.env in " + s.work + " was replaced or removed on this computer")
	events.Signal(syscall.SIGINT)
	events.Wait()
	for _, name := range []string{".git/hooks/pre-commit", "conf/deploy/new", "linked"} {
		if _, err := os.Lstat(filepath.Join(s.work, name)); err == nil {
			t.Errorf("the machine made %s", name)
		}
	}
}

// What the host runs by itself is listed while the machine runs.
func shareWatched(t *testing.T, s *sharer) {
	s.in(t, "one", `git config core.fsmonitor ./evil; mkdir -p src/.vscode; echo '{"runOn": "folderOpen"}' >src/.vscode/tasks.json; echo Obey. >`+s.state+`/AGENTS.md`)
	r := s.Run(0, "diff", "--name-only", "one")
	want := s.work + "/.git/config\n" + s.work + "/src/.vscode/tasks.json\n" + s.state + "/AGENTS.md\n"
	if r.Stdout != want {
		t.Errorf("mayfly diff printed %q; want %q", r.Stdout, want)
	}
	s.in(t, "one", "git config --unset core.fsmonitor; rm -r src/.vscode "+s.state+"/AGENTS.md")
}

// What anybody in the machine makes is the user's.
func shareOwners(t *testing.T, s *sharer) {
	got := s.in(t, "one", `
touch by-user; mkdir by-user.d; ln -s x by-user.l
sudo sh -c 'touch by-root; mkdir by-root.d; mknod by-root.f p; cp -a /etc/hostname by-root.cp; ln -s x by-root.l'
sudo chmod 777 .
sudo setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c ': >by-nobody && mkdir by-nobody.d' || echo nobody cannot
sudo setpriv --reuid=1234 --regid=5678 --clear-groups sh -c ': >by-number' || echo 1234 cannot
chown $(id -u):$(id -g) by-user || echo cannot chown to oneself
sudo chown 0:0 by-user
sudo chgrp 5 by-user
chmod 755 .
stat -c '%U %n' by-root
`)
	for _, bad := range []string{"Invalid argument", "cannot\n"} {
		if strings.Contains(got, bad) {
			t.Errorf("the machine printed %q:\n%s", bad, got)
		}
	}
	if n := strings.Count(got, "Operation not permitted"); n < 2 {
		t.Errorf("changes of the owner: %q; want two refusals", got)
	}
	for _, name := range []string{"by-user", "by-user.d", "by-user.l", "by-root", "by-root.d", "by-root.f", "by-root.cp", "by-root.l", "by-nobody", "by-nobody.d", "by-number"} {
		fi, err := os.Lstat(filepath.Join(s.work, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if st := fi.Sys().(*syscall.Stat_t); int(st.Uid) != s.uid || int(st.Gid) != s.gid {
			t.Errorf("%s belongs to %d:%d; want %d:%d", name, st.Uid, st.Gid, s.uid, s.gid)
		}
	}
}

// The host keeps a directory read-only, whatever the machine's root mounts.
func shareReadOnly(t *testing.T, s *sharer) {
	before := hashTree(t, s.docs)
	got := s.in(t, "one", `
cat /srv/docs/text
echo x >/srv/docs/new
sudo mount -o remount,rw /srv/docs && echo remounted
sudo sh -c 'echo x >/srv/docs/new; echo x >>/srv/docs/text; rm /srv/docs/text; mkdir /srv/docs/dir; chmod 777 /srv/docs/text; mv /srv/docs/text /srv/docs/other; ln /srv/docs/text /srv/docs/hard; touch -d yesterday /srv/docs/text; truncate -s 0 /srv/docs/text'
sudo mkdir -p /mnt/again && sudo mount -t virtiofs -o rw share1 /mnt/again && sudo touch /mnt/again/ok && sudo rm /mnt/again/ok
`)
	if !strings.HasPrefix(got, "of the host\n") || !strings.Contains(got, "remounted\n") {
		t.Errorf("the machine printed %q; want it to read, and to think that it can write", got)
	}
	if n := strings.Count(got, "Read-only file system"); n < 9 {
		t.Errorf("%d times read-only; want 9 in\n%s", n, got)
	}
	if after := hashTree(t, s.docs); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("the directory was %v and is %v", before, after)
	}
}

// A program runs on a share, also in memory that held other programs before: an emulation may have
// translated those.
func sharePrograms(t *testing.T, s *sharer) {
	path, err := exec.LookPath(s.Program) // of static code, and large
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.docs, "mayfly") // by its name it knows what it is
	defer os.Remove(name)
	if err := errors.Join(os.WriteFile(name, text, 0o755), os.Chmod(name, 0o755), os.Chown(name, s.uid, s.gid)); err != nil {
		t.Fatal(err)
	}
	const times = 3
	want := strings.Repeat(s.Mayfly("version").Want(0).Stdout, 2*times)
	got := s.in(t, "one", fmt.Sprintf(`
export GOCOVERDIR=/tmp # or a build that measures coverage says that it does not
for i in $(seq %d); do
	cp /srv/docs/mayfly /var/tmp/mayfly && /var/tmp/mayfly version
	rm /var/tmp/mayfly
	echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null
	/srv/docs/mayfly version
done
`, times))
	if got != want {
		t.Errorf("the machine printed %q; want %q", got, want)
	}
}

// Nothing that a machine makes runs as somebody else or is a device.
func shareModes(t *testing.T, s *sharer) {
	old := filepath.Join(s.work, "old-setuid") // the user's own
	writeFile(t, old, "old\n")
	if err := errors.Join(os.Chown(old, s.uid, s.gid), os.Chmod(old, 0o755|fs.ModeSetuid)); err != nil {
		t.Fatal(err)
	}
	got := s.in(t, "one", `
cp /bin/sh sh; chmod 4755 sh; chmod u+s sh; chmod g+s sh
sudo sh -c 'cp /bin/sh rootsh; chown root:root rootsh; chmod 4755 rootsh; chmod 2755 .; install -m 4755 /bin/true inst; mknod null c 1 3; mknod disk b 8 0; mknod wh c 0 0; cp -a /usr/bin/passwd passwd; cp -a /dev/null devnull; tar -C /usr/bin -cf - passwd | tar -xpf -'
sudo setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 sh
sudo setcap cap_net_raw+ep sh
python3 - <<'E' || perl -e 'use Fcntl; sysopen(F, "perl", O_CREAT|O_WRONLY, 04755) or print "perl: $!\n"; syscall(316, -100, "sh", -100, "moved", 4) and print "whiteout: $!\n"'
import os
try: os.open("py", os.O_CREAT|os.O_WRONLY, 0o4755)
except OSError as e: print("py:", e.strerror)
E
echo changed >old-setuid
exit 0
`)
	if n := strings.Count(got, "Operation not permitted"); n < 8 {
		t.Errorf("%d times not permitted; want 8 in\n%s", n, got)
	}
	fi, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(old); string(data) != "changed\n" || fi.Mode()&fs.ModeSetuid != 0 {
		t.Errorf("a setuid file that the machine changed is %q, %v, %v; want it without setuid", data, fi.Mode(), err)
	}
	if err := exec.Command("getcap", filepath.Join(s.work, "sh")).Err; err == nil {
		if out, err := exec.Command("getcap", filepath.Join(s.work, "sh")).Output(); err != nil || len(out) > 0 {
			t.Errorf("the program has the capabilities %q, %v", out, err)
		}
	}
	s.check(t)
}

// Links lead nowhere, and nothing beside the directories is reached.
func shareOutside(t *testing.T, s *sharer) {
	got := s.in(t, "one", fmt.Sprintf(`
cat out; cat /srv/docs/out; cat ../canary; cat %[1]s/canary
sudo sh -c 'cat out; cat %[2]s/out; ls -a %[1]s; cat %[2]s/../canary'
sudo ln -s / slash; ls slash/home; sudo ln -s %[1]s/canary absolute; cat absolute
sudo ln %[1]s/canary hard; sudo mv src/../../canary moved
sudo grep -rl canary %[1]s /srv 2>/dev/null
exit 0
`, s.root, s.state))
	if strings.Contains(got, "canary\n") && strings.Contains("\n"+got, "\ncanary\n") {
		t.Errorf("the machine read the canary:\n%s", got)
	}
	if data, err := os.ReadFile(filepath.Join(s.root, "canary")); string(data) != "canary\n" || err != nil {
		t.Errorf("the canary is %q, %v", data, err)
	}
}

// servers returns the processes of virtiofsd for s's machines.
func (s *sharer) servers(t *testing.T) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		status, _ := os.ReadFile(filepath.Join(dir, "status"))
		if strings.Contains(string(args), "virtiofsd\x00") && strings.Contains(string(args), "/tree") && strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", s.uid)) {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// The servers have given up what they could be turned against.
func shareConfined(t *testing.T, s *sharer) {
	pids := s.servers(t)
	if len(pids) != 3 {
		t.Fatalf("servers: %v; want 3", pids)
	}
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d", pid)
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
			"NoNewPrivs:\t1", "Seccomp:\t2", fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", s.uid), fmt.Sprintf("Gid:\t%d\t%[1]d\t%[1]d\t%[1]d", s.gid),
		} {
			if !strings.Contains(string(status), want+"\n") {
				t.Errorf("process %d: no %q in its status:\n%s", pid, want, status)
			}
		}
		limits, err := os.ReadFile(dir + "/limits")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") {
				if n, err := strconv.Atoi(f[4]); err != nil || n > 1<<18 {
					t.Errorf("process %d may have %s files open", pid, f[4])
				}
			} else if strings.HasPrefix(line, "Max file size") && f[3] != "unlimited" {
				t.Errorf("process %d is limited to files of %s bytes", pid, f[3])
			}
		}
		for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
			own, err1 := os.Readlink(dir + "/ns/" + ns)
			host, err2 := os.Readlink("/proc/self/ns/" + ns)
			if err1 != nil || err2 != nil || own == host {
				t.Errorf("process %d is in the host's namespace %s, %v, %v", pid, ns, err1, err2)
			}
		}
		// Its root, as far as we can look: one in C has changed it again.
		names, err := os.ReadDir(dir + "/root")
		if err != nil {
			t.Error(err)
		}
		for _, e := range names {
			if e.Name() == "home" || e.Name() == "root" || e.Name() == "canary" {
				t.Errorf("process %d sees %s", pid, e.Name())
			}
		}
	}
}

// git is not run on the host where a guest can change what it reads.
func shareClone(t *testing.T, s *sharer) {
	for i, dir := range []string{s.work, filepath.Join(s.work, "src"), s.state} {
		r := s.Run(1, "new", fmt.Sprint("clone", i), "--workspace", dir, "--clone", s.work)
		if want := "one has it live, and could make git run something here\nmayfly: hint: mayfly stop one\n"; !strings.HasSuffix(r.Stderr, want) {
			t.Errorf("a clone into %s: %q; want %q", dir, r.Stderr, want)
		}
	}
	if r := s.Run(0, "ls"); strings.Contains(r.Stdout, "clone") {
		t.Errorf("left of clones that were refused: %s", r.Stdout)
	}
}

// Two machines have one directory at the same time.
func shareTwo(t *testing.T, s *sharer) {
	s.keep(t, "two")
	s.in(t, "one", "echo login >"+s.state+"/token")
	if got := s.in(t, "two", "cat "+s.state+"/token; echo second >>"+s.state+"/token"); got != "login\n" {
		t.Errorf("the second machine reads %q; want what the first wrote", got)
	}
	if data, err := os.ReadFile(filepath.Join(s.state, "token")); string(data) != "login\nsecond\n" || err != nil {
		t.Errorf("on the host: %q, %v", data, err)
	}
	// A machine that was kept and whose servers die with its supervisor. Whoever comes next
	// hears what it changed.
	s.in(t, "two", "echo Obey. >"+s.state+"/CLAUDE.md")
	var st state.Status
	if err := state.ReadJSON(s.File("two", state.StatusFile), &st); err != nil || !st.Supervisor.Kill() {
		t.Fatalf("the supervisor cannot be killed: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for told := ""; !strings.Contains(told, "A CLAUDE.md (runs): "); {
		r := s.Run(0, "ls") // until the lock of the supervisor is gone
		if told += r.Stderr; strings.Count(told, "CLAUDE.md") > 1 || time.Now().After(deadline) {
			t.Fatalf("ls printed %q; want what the machine changed, once", told)
		}
	}
	s.Run(0, "rm", "two")
	if pids := s.servers(t); len(pids) != 3 {
		t.Errorf("servers after the end of one machine: %v; want the 3 of the other", pids)
	}
}

// A directory that is removed gives errors, and the machine goes on.
func shareRemoved(t *testing.T, s *sharer) {
	if err := os.RemoveAll(s.docs); err != nil {
		t.Fatal(err)
	}
	got := s.in(t, "one", "sleep 2; timeout 20 cat /srv/docs/text; echo $?; timeout 20 ls /srv/docs/; echo alive")
	if !strings.Contains(got, "No such file") && !strings.Contains(got, "Stale") || !strings.HasSuffix(got, "alive\n") {
		t.Errorf("in the machine: %q; want errors", got)
	}
}

// Without its server a directory gives errors in place of waiting for ever.
func shareLost(t *testing.T, s *sharer) {
	// That of the state alone first.
	state, err := os.Stat(s.state)
	if err != nil {
		t.Fatal(err)
	}
	serves := func(pid int) bool {
		for _, dir := range []string{"root", "root/tree"} { // in C, in Rust
			if fi, err := os.Stat(fmt.Sprintf("/proc/%d/%s", pid, dir)); err == nil && os.SameFile(fi, state) {
				return true
			}
		}
		return false
	}
	killed := s.killServers(t, serves)
	if killed != 1 {
		t.Fatalf("%d servers of %s; want 1", killed, s.state)
	}
	s.gone(t, 1)
	c := s.Mayfly("exec", "one", "--", "sh", "-c", "cat "+s.state+"/settings; echo $?; ls "+s.state+"; echo $?; cat src/file >/dev/null; echo alive")
	c.Timeout = time.Minute
	if r := c.Run(); r.Stdout != "1\n2\nalive\n" || !strings.Contains(r.Stderr, "not connected") {
		t.Errorf("in the machine: %q, %q; want errors for what is lost, and no wait", r.Stdout, r.Stderr)
	}
	s.killServers(t, func(int) bool { return true })
	s.gone(t, 3)
	c = s.Mayfly("exec", "one", "--", "true")
	c.Timeout = time.Minute
	if r := c.Run(); r.Code == 0 {
		t.Log("a command starts in a directory that is lost") // the guest's kernel had it cached
	}
}

// killServers kills the servers of s that are those, and returns their number.
func (s *sharer) killServers(t *testing.T, those func(pid int) bool) (n int) {
	t.Helper()
	for _, pid := range s.servers(t) {
		if !those(pid) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// gone waits until the machine knows that n shares are.
func (s *sharer) gone(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(s.File("one", "supervisor.log"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(data), "a share is gone") == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the supervisor noticed too little\n%s", s.Logs())
		}
	}
}
