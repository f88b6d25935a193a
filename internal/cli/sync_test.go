package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// newSyncer makes a directory and a machine with a copy of it, whose guest takes what is
// sent as that of a machine does.
func newSyncer(t *testing.T, files map[string]string) *committer {
	t.Helper()
	s := &committer{t: t, home: t.TempDir()}
	dir := filepath.Join(s.home, "project")
	s.fakeMachine = &fakeMachine{dir: dir}
	for name, text := range files {
		s.write(dir, name, text)
	}
	s.start()
	return s
}

// tree returns what is in a directory.
func (s *committer) tree(dir string) string {
	s.t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(data)
		case d.Type()&fs.ModeSymlink != 0:
			if text, err = os.Readlink(path); err != nil {
				return err
			}
		}
		lines = append(lines, fmt.Sprintf("%s %v %q", strings.TrimPrefix(path, dir+"/"), fi.Mode(), text))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// must fails the test for an error.
func (s *committer) must(errs ...error) {
	s.t.Helper()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
}

// Everything that a user can do to a directory arrives, and is no change of the machine.
func TestSync(t *testing.T) {
	s := newSyncer(t, map[string]string{
		"same": "1", "edited": "1", "gone": "1", "mode": "1", "dir/a": "1", "dir/deep/b": "1", "tofile/x": "1", "todir": "1", "tolink": "1",
		".git/HEAD": "ref: refs/heads/main\n", "pipe": "1",
	})
	in := func(name string) string { return filepath.Join(s.dir, name) }
	s.write(s.dir, "edited", "22")
	s.write(s.dir, "new/deep/er", "new")
	s.must(os.Remove(in("gone")), os.Chmod(in("mode"), 0o750), os.RemoveAll(in("dir")))
	s.must(os.RemoveAll(in("tofile")), os.Remove(in("todir")), os.Remove(in("tolink")))
	s.write(s.dir, "tofile", "file")
	s.write(s.dir, "todir/y", "y")
	s.must(os.Symlink("../../outside", in("tolink")), os.Mkdir(in("empty"), 0o700))
	s.write(s.dir, "readonly/x", "x")
	s.must(os.Chmod(in("readonly"), 0o555))
	t.Cleanup(func() {
		os.Chmod(in("readonly"), 0o755)
		os.Chmod(filepath.Join(s.guest, "readonly"), 0o755)
	})

	before := s.tree(s.guest)
	out, err := s.mayfly("sync", "m", "--dry-run")
	if err != nil || !strings.Contains(out, "M  edited\n") || !strings.Contains(out, "D  gone\n") || !strings.Contains(out, "A  new/\n") || !strings.Contains(out, "would be sent to m") {
		t.Errorf("sync --dry-run = %v, printed %q", err, out)
	}
	s.is("the guest after a dry run", s.tree(s.guest), before)

	out, err = s.mayfly("sync", "m")
	if err != nil || !strings.Contains(out, "M  edited\n") || !strings.Contains(out, "D  dir/deep/b\n") || !strings.Contains(out, "sent ") {
		t.Errorf("sync = %v, printed %q", err, out)
	}
	s.is("the guest", s.tree(s.guest), s.tree(s.dir))
	out, err = s.mayfly("diff", "m")
	s.must(err)
	if strings.Contains(out, "edited") || strings.Contains(out, "new") {
		t.Errorf("diff printed %q; want no changes", out)
	}
	out, err = s.mayfly("sync", "m")
	s.must(err)
	s.is("sync once more", out, "mayfly: m has all that is in your directory\n")

	// git's own files stay.
	s.write(s.dir, ".git/HEAD", "ref: refs/heads/other\n")
	s.write(s.dir, "sub/.git/config", "[core]\n")
	if _, err = s.mayfly("sync", "m"); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(filepath.Join(s.guest, ".git/HEAD")); string(text) != "ref: refs/heads/main\n" {
		t.Errorf(".git/HEAD in the guest holds %q", text)
	}
	if _, err := os.Lstat(filepath.Join(s.guest, "sub/.git")); err == nil {
		t.Error("sub/.git was sent")
	}

	// What cannot be copied is named, and what the machine has in its place stays.
	s.must(os.Remove(in("pipe")))
	s.must(syscall.Mkfifo(in("pipe"), 0o600))
	s.write(s.dir, "edited", "333")
	out, err = s.mayfly("sync", "m")
	s.must(err)
	if !strings.Contains(out, "pipe: a named pipe; left out") || !strings.Contains(out, "M  edited\n") {
		t.Errorf("sync printed %q", out)
	}
	if _, err := os.Lstat(filepath.Join(s.guest, "pipe")); err != nil {
		t.Error(err)
	}
}

// What both sides changed is left alone and named; what both made the same is no conflict.
func TestSyncConflicts(t *testing.T) {
	s := newSyncer(t, map[string]string{"both": "1", "gonehere": "1", "gonethere": "1", "agreed": "1", "dir/a": "1", "free": "1"})
	for _, name := range []string{"both", "gonehere", "agreed"} {
		s.write(s.guest, name, "agent "+name)
	}
	s.write(s.guest, "new", "agent")
	s.write(s.guest, "dir/kept", "agent")
	s.must(os.Remove(filepath.Join(s.guest, "gonethere")))
	for _, name := range []string{"both", "gonethere", "new", "free"} {
		s.write(s.dir, name, "user")
	}
	s.write(s.dir, "agreed", "agent agreed")
	s.must(os.Remove(filepath.Join(s.dir, "gonehere")), os.RemoveAll(filepath.Join(s.dir, "dir")))

	out, err := s.mayfly("sync", "m")
	if code := exitCode(0); !errors.As(err, &code) || code != exitError {
		t.Errorf("sync = %v; want exit code %d", err, exitError)
	}
	for _, want := range []string{
		"not sent: both: changed in the machine, too", "not sent: gonehere: changed in the machine, and deleted here",
		"not sent: gonethere: deleted in the machine", "not sent: new: something else of that name was made in the machine",
		"not sent: dir: the directory still holds files in the machine", "M  free\n", "D  dir/a\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("sync printed %q; want %q", out, want)
		}
	}
	if strings.Contains(out, "agreed") {
		t.Errorf("sync printed %q; want nothing of what is the same", out)
	}
	for name, want := range map[string]string{"both": "agent both", "gonehere": "agent gonehere", "new": "agent", "dir/kept": "agent", "free": "user", "agreed": "agent agreed"} {
		if text, err := os.ReadFile(filepath.Join(s.guest, name)); string(text) != want {
			t.Errorf("%s in the guest holds %q, %v; want %q", name, text, err, want)
		}
	}
	out, err = s.mayfly("sync", "m", "--json")
	var res mayfly.SyncResult
	if json.Unmarshal([]byte(out), &res) != nil || len(res.Conflicts) != 5 || len(res.Sent) != 0 {
		t.Errorf("sync --json printed %q, %v", out, err)
	}
	// An apply sees the same five from the other side.
	out, err = s.mayfly("apply", "m", "--all")
	if err == nil || !strings.Contains(out, "not applied: both: changed on the host since it was copied") {
		t.Errorf("apply = %v, printed %q", err, out)
	}
	s.is("both here", s.read(s.dir, "both"), "user")
}

func (s *committer) read(dir, name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	s.must(err)
	return string(text)
}

// diff, apply and undo are right after a sync: what was sent is where the machine's changes
// begin.
func TestSyncThenApply(t *testing.T) {
	s := newSyncer(t, map[string]string{"a": "1\n", "b": "1\n", "c": "1\n", "d/e": "1\n"})
	s.write(s.dir, "a", "user\n")
	s.write(s.dir, "b", "user\n")
	s.write(s.dir, "d/new", "user\n")
	s.must(os.Remove(filepath.Join(s.dir, "c")))
	_, err := s.mayfly("sync", "m")
	s.must(err)

	s.write(s.guest, "a", "user\nagent\n")
	s.must(os.Remove(filepath.Join(s.guest, "d/new")))
	s.write(s.guest, "c", "agent\n")
	out, err := s.mayfly("diff", "m", "--name-only")
	s.must(err)
	s.is("diff", out, "a\nc\nd/new\n")
	out, err = s.mayfly("diff", "m", "--patch", "a")
	s.must(err)
	if !strings.Contains(out, "+agent") || strings.Contains(out, "+user") {
		t.Errorf("diff --patch printed %q", out)
	}
	before := s.tree(s.dir)
	// What the user edits now is a conflict only where the machine changed the same.
	s.write(s.dir, "b", "user again\n")
	if out, err = s.mayfly("apply", "m", "--all"); err != nil {
		t.Errorf("apply = %v, printed %q", err, out)
	}
	s.is("a", s.read(s.dir, "a"), "user\nagent\n")
	s.is("b", s.read(s.dir, "b"), "user again\n")
	s.is("c", s.read(s.dir, "c"), "agent\n")
	if _, err := os.Lstat(filepath.Join(s.dir, "d/new")); err == nil {
		t.Error("d/new is still here")
	}
	if out, err = s.mayfly("undo", "m"); err != nil {
		t.Errorf("undo = %v, printed %q", err, out)
	}
	s.write(s.dir, "b", "user\n")
	s.is("after undo", s.tree(s.dir), before)
}

// What a user edits on top of what was applied is newer than what the machine has.
func TestSyncAfterApply(t *testing.T) {
	s := newSyncer(t, map[string]string{"a": "1\n", "b": "1\n"})
	s.write(s.guest, "a", "agent\n")
	s.write(s.guest, "b", "agent\n")
	s.write(s.guest, "new", "agent\n")
	if out, err := s.mayfly("apply", "m", "--all"); err != nil {
		t.Fatalf("apply = %v, printed %q", err, out)
	}
	s.write(s.dir, "a", "agent\nuser\n")
	s.must(os.Remove(filepath.Join(s.dir, "new")))
	s.write(s.guest, "b", "agent again\n")
	s.write(s.dir, "b", "user\n")
	out, err := s.mayfly("sync", "m")
	if err == nil || !strings.Contains(out, "M  a\n") || !strings.Contains(out, "D  new\n") || !strings.Contains(out, "not sent: b: changed in the machine, too") {
		t.Errorf("sync = %v, printed %q", err, out)
	}
	s.is("a", s.read(s.guest, "a"), "agent\nuser\n")
	s.is("b", s.read(s.guest, "b"), "agent again\n")
	out, err = s.mayfly("diff", "m", "--name-only")
	s.must(err)
	s.is("diff", out, "b\n")

	// A conflict of an apply is none that a sync decides.
	s = newSyncer(t, map[string]string{"a": "1\n"})
	s.write(s.guest, "a", "agent\n")
	s.write(s.dir, "a", "user\n")
	if out, err = s.mayfly("apply", "m"); err == nil {
		t.Errorf("apply printed %q; want a conflict", out)
	}
	if out, err = s.mayfly("sync", "m"); err == nil || !strings.Contains(out, "not sent: a: changed in the machine, too") {
		t.Errorf("sync after a conflict = %v, printed %q", err, out)
	}
	s.is("a after a conflict", s.read(s.guest, "a"), "agent\n")

	// What was taken back is not to be lost in the machine.
	s = newSyncer(t, map[string]string{"a": "1\n"})
	s.write(s.guest, "a", "agent\n")
	_, err = s.mayfly("apply", "m")
	s.must(err)
	_, err = s.mayfly("undo", "m")
	s.must(err)
	out, err = s.mayfly("sync", "m")
	s.must(err)
	s.is("sync after undo", out, "mayfly: m has all that is in your directory\n")
	s.write(s.dir, "a", "user\n")
	if out, err = s.mayfly("sync", "m"); err == nil || !strings.Contains(out, "not sent: a: changed in the machine, too") {
		t.Errorf("sync = %v, printed %q", err, out)
	}
	s.is("a after undo", s.read(s.guest, "a"), "agent\n")
}

// A sync that was broken off is made whole by the next one.
func TestSyncBrokenOff(t *testing.T) {
	s := newSyncer(t, map[string]string{"a": "1", "b": "1", "c": "1"})
	for _, name := range []string{"a", "b", "c"} {
		s.write(s.dir, name, "user")
	}
	s.must(os.WriteFile(filepath.Join(s.guest, "a"), []byte("user"), 0o644)) // the list was not written any more
	out, err := s.mayfly("sync", "m")
	s.must(err)
	if strings.Contains(out, "M  a") || !strings.Contains(out, "M  b\nM  c\n") {
		t.Errorf("sync printed %q", out)
	}
	out, err = s.mayfly("diff", "m", "--name-only")
	s.must(err)
	s.is("diff", out, "")
}

// A directory that is not there any more, such as a disk that is not mounted, deletes nothing.
func TestSyncEmpty(t *testing.T) {
	s := newSyncer(t, map[string]string{"a": "1"})
	s.must(os.Remove(filepath.Join(s.dir, "a")))
	if out, err := s.mayfly("sync", "m"); errorCode(err) != "sync-empty" {
		t.Errorf("sync = %v, printed %q; want the code sync-empty", err, out)
	}
	s.must(os.Remove(s.dir))
	if out, err := s.mayfly("sync", "m"); err == nil {
		t.Errorf("sync without the directory printed %q; want an error", out)
	}
	s.is("a", s.read(s.guest, "a"), "1")
}

// A guest may answer anything: the host's directory stays as it is, and the command ends.
func TestSyncHostileAnswers(t *testing.T) {
	for _, answer := range []wire.SyncAnswer{
		{}, {Result: "yes"}, {Result: wire.SyncDone}, {Result: wire.SyncSame},
		{Result: wire.SyncConflict, Now: wire.SyncState{Kind: "\x1b[2J", Target: []byte(strings.Repeat("x", 1<<17))}},
		{Result: wire.SyncConflict, Now: wire.SyncState{Sum: make([]byte, 1000)}},
		{Result: wire.SyncFailed, Error: "\x1b]0;title\a\nmayfly: all is well " + strings.Repeat("é", 1000)},
	} {
		s := newSyncer(t, map[string]string{"a": "1", "b": "1"})
		s.write(s.dir, "a", "user")
		s.write(s.dir, "b", "user")
		before := s.tree(s.dir)
		serve := func(conn io.ReadWriter) {
			for range 4 {
				if wire.WriteMessage(conn, answer) != nil {
					return
				}
			}
		}
		s.sync.Store(&serve)
		out, err := s.mayfly("sync", "m")
		if strings.ContainsAny(out, "\x1b\a") || slices.ContainsFunc(strings.Split(strings.TrimSpace(out), "\n"), func(l string) bool { return strings.HasPrefix(l, "mayfly: all") }) || len(out) > 4000 {
			t.Errorf("%+v: sync = %v, printed %q", answer, err, out)
		}
		s.is("the directory", s.tree(s.dir), before)
	}
}

// A watch sends each edit, and ends well with a signal or with the machine.
func TestSyncWatch(t *testing.T) {
	for _, end := range []string{"signal", "machine"} {
		t.Run(end, func(t *testing.T) {
			s := newSyncer(t, map[string]string{"a": "1", "b": "1", "dir/c": "1"})
			s.write(s.dir, "a", "before")
			s.write(s.guest, "b", "agent")
			a := userOf(t, s.home, nil)
			r, w, err := os.Pipe()
			s.must(err)
			defer r.Close()
			a.Out, a.Err = w, w
			done := make(chan error, 1)
			go func() {
				done <- a.command("sync", "m", "--watch")
				w.Close()
			}()
			lines := bufio.NewScanner(r)
			next := func(want string) {
				t.Helper()
				if !lines.Scan() || !strings.Contains(lines.Text(), want) {
					t.Fatalf("it printed %q; want %q", lines.Text(), want)
				}
			}
			next("what you edit is sent to m")
			next("M  a")
			s.write(s.dir, "b", "user")
			next("not sent: b: changed in the machine, too")
			s.write(s.dir, "dir/c", "user")
			next("M  dir/c")
			s.write(s.dir, "new/file", "user")
			next("A  new/")
			s.is("new/file", s.read(s.guest, "new/file"), "user")
			s.must(os.RemoveAll(filepath.Join(s.dir, "dir")))
			next("D  dir/")
			if _, err := os.Lstat(filepath.Join(s.guest, "dir")); err == nil {
				t.Error("dir is still in the machine")
			}
			if end == "signal" {
				syscall.Kill(os.Getpid(), syscall.SIGTERM)
			} else {
				s.must(control.Stop(s.Machine))
				next("m has ended")
			}
			if err := <-done; err != nil {
				t.Errorf("sync --watch = %v; want a good end", err)
			}
			s.is("b", s.read(s.guest, "b"), "agent")
		})
	}
}

// Texts that both sides changed are merged on request, in the machine only; what cannot be
// merged says why.
func TestSyncMerge(t *testing.T) {
	lines := "1\n2\n3\n4\n5\n6\n7\n"
	s := newSyncer(t, map[string]string{"apart": lines, "both": lines, "binary": "1\x00", "large": "1\n", "gone": "1\n", "mode": lines})
	edit := func(dir, name string, pairs ...string) {
		s.write(dir, name, strings.NewReplacer(pairs...).Replace(lines))
	}
	edit(s.guest, "apart", "2", "agent")
	edit(s.dir, "apart", "6", "user")
	edit(s.guest, "both", "2", "agent", "7", "last")
	edit(s.dir, "both", "2", "user")
	edit(s.guest, "mode", "2", "agent")
	edit(s.dir, "mode", "6", "user")
	s.must(os.Chmod(filepath.Join(s.dir, "mode"), 0o750))
	for name, text := range map[string]string{"binary": "\x00", "large": strings.Repeat("x", 1<<20), "new": ""} {
		s.write(s.guest, name, "agent"+text)
		s.write(s.dir, name, "user"+text)
	}
	s.write(s.dir, "gone", "user")
	s.must(os.Remove(filepath.Join(s.guest, "gone")))
	here := s.tree(s.dir)
	if out, err := s.mayfly("sync", "m"); err == nil || strings.Contains(out, "merged in") {
		t.Errorf("sync = %v, printed %q; want no merge without --merge", err, out)
	}
	_, err := s.mayfly("diff", "m") // for the contents of the guest
	s.must(err)
	out, err := s.mayfly("sync", "m", "--merge")
	if code := exitCode(0); !errors.As(err, &code) || code != exitError {
		t.Errorf("sync --merge = %v; want exit code %d", err, exitError)
	}
	s.says(out, "merged in the machine: apart\n", "merged in the machine: both, with 1 conflict between markers\n", "merged in the machine: mode\n",
		"not sent: binary: changed in the machine, too; not merged: it is no text\n",
		"not sent: large: changed in the machine, too; not merged: it is larger than 1 MiB\n",
		"not sent: new: something else of that name was made in the machine; not merged: the content that both began with is not there\n",
		"not sent: gone: deleted in the machine\n")
	s.is("apart", s.read(s.guest, "apart"), "1\nagent\n3\n4\n5\nuser\n7\n")
	s.is("both", s.read(s.guest, "both"), "1\n<<<<<<< machine\nagent\n||||||| before\n2\n=======\nuser\n>>>>>>> host\n3\n4\n5\n6\nlast\n")
	s.is("gone here", s.read(s.guest, "new"), "agent")
	if fi, err := os.Stat(filepath.Join(s.guest, "mode")); err != nil || fi.Mode().Perm() != 0o750 {
		t.Errorf("the mode of a merged file is %v, %v", fi.Mode(), err)
	}
	s.is("the host's directory", s.tree(s.dir), here)
	// The machine's changes begin at what the host has now.
	out, err = s.mayfly("diff", "m", "--patch", "apart")
	s.must(err)
	if !strings.Contains(out, "+agent") || strings.Contains(out, "user\n+") || strings.Contains(out, "+user") {
		t.Errorf("diff --patch printed %q", out)
	}
	if out, err = s.mayfly("apply", "m", "apart"); err != nil {
		t.Errorf("apply = %v, printed %q", err, out)
	}
	s.is("apart here", s.read(s.dir, "apart"), "1\nagent\n3\n4\n5\nuser\n7\n")
}
