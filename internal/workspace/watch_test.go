package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// watchTree watches a directory, and returns its batches.
func watchTree(t *testing.T, dir string, o WatchOptions) (batches chan []string) {
	t.Helper()
	o.Skip = func(p string) bool { return p == ".git" || strings.HasPrefix(p, ".git/") }
	batches = make(chan []string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, dir, o, func(at []string) error {
			batches <- at
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch() = %v; want no error at its end", err)
		}
	})
	if at := <-batches; at != nil {
		t.Errorf("the first batch is %q; want everything", at)
	}
	return batches
}

// want waits until all of paths were told, and nothing else than them and what is below.
func want(t *testing.T, batches chan []string, paths ...string) {
	t.Helper()
	missing := slices.Clone(paths)
	for deadline := time.After(time.Minute); len(missing) > 0; {
		select {
		case at := <-batches:
			for _, path := range at {
				if !slices.ContainsFunc(paths, func(p string) bool { return path == p || below(path, p) }) {
					t.Errorf("told of %s; want of %q only", path, paths)
				}
				missing = slices.DeleteFunc(missing, func(p string) bool { return p == path })
			}
		case <-deadline:
			t.Fatalf("not told of %q", missing)
		}
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a/b/c", "1")
	put(t, dir, ".git/HEAD", "1")
	put(t, dir, "out/x", "1")
	put(t, dir, "top", "1")
	batches := watchTree(t, dir, WatchOptions{Exclude: []string{"out/"}})
	put(t, dir, "a/b/c", "2")
	put(t, dir, ".git/HEAD", "2")
	put(t, dir, "out/x", "2")
	want(t, batches, "a/b/c")
	// What is in a new directory is met however fast it comes, and one that was moved
	// is known by its new name.
	put(t, dir, "new/deep/er/file", "1")
	want(t, batches, "new")
	put(t, dir, "new/deep/er/file", "2")
	want(t, batches, "new/deep/er/file")
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a/moved")); err != nil {
		t.Fatal(err)
	}
	want(t, batches, "new", "a/moved")
	put(t, dir, "a/moved/deep/er/file", "3")
	want(t, batches, "a/moved/deep/er/file")
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "a/moved")), os.Chmod(filepath.Join(dir, "top"), 0o700)); err != nil {
		t.Fatal(err)
	}
	want(t, batches, "a/moved", "top")
}

// Where the kernel loses count, everything is looked at.
func TestWatchOverflow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip(err)
	}
	var most int
	if _, err := fmt.Sscan(string(text), &most); err != nil || most > 20_000 {
		t.Skipf("the kernel keeps %d events, %v", most, err)
	}
	dir := t.TempDir()
	put(t, dir, "a", "1")
	put(t, dir, "b", "1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	calls := 0
	err = Watch(ctx, dir, WatchOptions{Skip: func(string) bool { return false }}, func(at []string) error {
		switch calls++; {
		case calls == 1: // while the first batch is worked on, more happens than the kernel keeps
			for i := range most + 100 {
				if err := os.Chmod(filepath.Join(dir, string("ab"[i%2])), 0o600); err != nil {
					return err
				}
			}
			return nil
		case at == nil:
			cancel()
			return nil
		}
		return fmt.Errorf("batch %d is %q; want everything", calls, at)
	})
	if err != nil || calls != 2 {
		t.Errorf("Watch() = %v after %d batches", err, calls)
	}
}

// Without the kernel's help everything is looked at from time to time.
func TestPoll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop := errors.New("stop")
	calls := 0
	err := poll(ctx, func(at []string) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	if err != stop || calls != 2 {
		t.Errorf("poll() = %v after %d calls", err, calls)
	}
	cancel()
	if err := poll(ctx, func([]string) error { return nil }); err != nil {
		t.Errorf("poll() at the end = %v", err)
	}
}
