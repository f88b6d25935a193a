package commits_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/apt"
)

// TestNewerGit does the same with the git of a newer Debian: 2.47 in trixie. Another suite,
// such as sid, is in MAYFLY_TEST_GIT_SUITE.
func TestNewerGit(t *testing.T) {
	if testing.Short() {
		t.Skip("it may fetch packages")
	}
	dir := newerGit(t, cmp.Or(os.Getenv("MAYFLY_TEST_GIT_SUITE"), "trixie"))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for name, test := range map[string]func(*testing.T){
		"Branch": TestBranch, "Forward": TestForward, "Places": TestPlaces, "Names": TestNames,
		"Hostile": TestHostile, "NothingRuns": TestNothingRuns,
		"Carry": func(t *testing.T) { testCarry(t, "linked/dir") }, "Rebase": TestRebase, "RebaseConflict": TestRebaseConflict, "Sign": TestSign,
	} {
		t.Run(name, test)
	}
}

// newerGit returns a directory with a program git that is the one of a suite of Debian's,
// with the libraries of that suite. It is fetched once.
func newerGit(t *testing.T, suite string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(cache, "mayfly", "test-git", suite)
	bin := filepath.Join(dir, "bin")
	if _, err := os.Stat(bin); err != nil {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		root := apt.Root{Dir: filepath.Join(cache, "mayfly", "apt", suite), Suite: suite, Mirror: apt.ReadMirrors(apt.HostDir).Archive}
		if err := root.Update(ctx); err != nil {
			t.Skipf("no newer git: %v", err)
		}
		debs, err := root.Download(ctx, "git", "libc6", "libpcre2-8-0", "zlib1g")
		if err != nil {
			t.Skipf("no newer git: %v", err)
		}
		temp, err := os.MkdirTemp(filepath.Dir(dir), "new-")
		if os.IsNotExist(err) {
			if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			temp, err = os.MkdirTemp(filepath.Dir(dir), "new-")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(temp)
		for _, d := range debs {
			if err := apt.Extract(ctx, d, temp); err != nil {
				t.Fatal(err)
			}
		}
		if err := wrapGit(temp, dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, dir); err != nil && !os.IsExist(err) {
			if _, err := os.Stat(bin); err != nil { // another test was first
				t.Fatal(err)
			}
		}
	}
	out, err := exec.Command(filepath.Join(bin, "git"), "version").CombinedOutput()
	if err != nil {
		t.Fatalf("the newer git does not run: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return bin
}

// wrapGit makes programs in temp/bin by which what was unpacked there runs with its own
// libraries once it is in dir.
func wrapGit(temp, dir string) error {
	if err := os.Mkdir(filepath.Join(temp, "bin"), 0o755); err != nil {
		return err
	}
	libs, err := filepath.Glob(filepath.Join(temp, "usr/lib/*/ld-linux-*.so.*"))
	if err != nil || len(libs) == 0 {
		return fmt.Errorf("no loader of libraries (%v)", err)
	}
	loader := filepath.Join(dir, strings.TrimPrefix(libs[0], temp))
	wrap := func(name, command string) error {
		script := fmt.Sprintf("#!/bin/sh\nexport GIT_EXEC_PATH=%[1]s/bin\nexec %[2]s --argv0 git --library-path %[3]s %[1]s/usr/bin/git %[4]s\"$@\"\n", dir, loader, filepath.Dir(loader), command)
		return os.WriteFile(filepath.Join(temp, "bin", name), []byte(script), 0o755)
	}
	for name, command := range map[string]string{"git": "", "git-upload-pack": "upload-pack ", "git-receive-pack": "receive-pack "} {
		if err := wrap(name, command); err != nil {
			return err
		}
	}
	for _, script := range []string{"git-submodule", "git-sh-setup", "git-sh-i18n", "git-merge-one-file"} {
		if err := os.Symlink(filepath.Join(dir, "usr/lib/git-core", script), filepath.Join(temp, "bin", script)); err != nil {
			return err
		}
	}
	return nil
}
