package debian_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/debian"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

func TestCheckNames(t *testing.T) {
	if err := debian.CheckNames([]string{"g++", "libc6-dev", "python3.13", "make=4.4.1-2", "libstdc++6"}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "Make", "x", "vim-", "--yes", "a b", "a;b", "$(x)", "a`b`", "a'b", "../x", "make=$(x)", "make/sid", "a\nb"} {
		err := debian.CheckNames([]string{"make", name})
		unknown, ok := errors.AsType[*debian.UnknownPackageError](err)
		if !ok || len(unknown.Names) != 1 || fault.CodeOf(err) != fault.PackageNameInvalid {
			t.Errorf("CheckNames(%q) = %v; want an error that names it", name, err)
		}
	}
}

// fake puts a program called mmdebstrap first in PATH. Root is needed because
// a normal user's builds want more than that.
func fake(t *testing.T, script string) {
	t.Helper()
	env.NeedRoot(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestBase(t *testing.T) {
	fake(t, `echo "$SOURCE_DATE_EPOCH $TMPDIR $*"; echo "python $PYTHONDONTWRITEBYTECODE $PYTHONHASHSEED"; echo "I: installing essential packages..." >&2; echo "I: main() noise" >&2`)
	var text []string
	b := debian.Builder{
		Suite:   "trixie",
		Mirrors: apt.Mirrors{Archive: "http://MIRROR", Security: "http://SECURITY"},
		Dir:     t.TempDir(),
		Text:    func(s string) { text = append(text, s) },
	}
	keyring, err := apt.Keyring()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := b.Base(t.Context(), []string{"make", "gcc"}, "", &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1754697600 " + b.Dir + " --mode=root", "\npython 1 0\n", " --include=make,gcc ", " trixie - deb [signed-by=" + keyring + "] http://MIRROR trixie main deb [signed-by=" + keyring + "] http://MIRROR trixie-updates main deb [signed-by=" + keyring + "] http://SECURITY trixie-security main\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("mmdebstrap was called with %q; want %q in it", out.String(), want)
		}
	}
	if len(text) != 1 || text[0] != "installing essential packages" {
		t.Errorf("text = %q; want one stage", text)
	}
}

// Manual pages are left out, and their directories are not: update-alternatives(1) fails
// without them, and so does the installation of Java.
func TestManualDirectories(t *testing.T) {
	fake(t, `for a; do case $a in --customize-hook=*) clean=${a#*=};; esac; done
mkdir -p root/usr/share/man/de/man1 root/usr/share/man/man1 root/usr/share/man/man3 root/usr/share/doc
touch root/usr/share/man/man1/ls.1.gz
sh -c "$clean" sh "$PWD/root" && cd root/usr/share/man && find . | sort`)
	for what, build := range map[string]func(debian.Builder, io.Writer) error{
		"a base": func(b debian.Builder, w io.Writer) error { return b.Base(t.Context(), nil, "", w) },
		"packages": func(b debian.Builder, w io.Writer) error {
			return b.Install(t.Context(), func(io.Writer) error { return nil }, nil, w)
		},
	} {
		var out strings.Builder
		b := debian.Builder{Suite: "trixie", Mirrors: apt.Mirrors{Archive: "http://MIRROR", Security: "http://SECURITY"}, Dir: t.TempDir()}
		if err := build(b, &out); err != nil {
			t.Fatal(what, err)
		}
		if want := ".\n./man1\n./man2\n./man3\n./man4\n./man5\n./man6\n./man7\n./man8\n"; out.String() != want {
			t.Errorf("%s has %q of manual pages; want %q", what, out.String(), want)
		}
	}
}

func TestDefaultMirrors(t *testing.T) {
	// What mmdebstrap makes of nothing is much like this.
	const tree = `mkdir -p "$TMPDIR/root/etc/apt/sources.list.d" && cd "$TMPDIR/root" && `
	const pack = `tar -c .`
	for _, tt := range []struct {
		script string
		want   apt.Mirrors
	}{
		{tree + `echo 'deb http://m.example/debian trixie main' > etc/apt/sources.list && ` + pack, apt.Mirrors{Archive: "http://m.example/debian"}},
		{
			tree + `printf 'Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n' > etc/apt/sources.list.d/a.sources && ` +
				`echo 'deb http://m.example/debian-security trixie-security main' > etc/apt/sources.list.d/b.list && ` + pack,
			apt.Mirrors{Archive: "http://m.example/debian", Security: "http://m.example/debian-security"},
		},
		{tree + pack, apt.Mirrors{}},
		{"echo no tar at all", apt.Mirrors{}},
		{"exit 1", apt.Mirrors{}},
	} {
		fake(t, tt.script)
		got, err := debian.Builder{Suite: "trixie", Dir: t.TempDir()}.DefaultMirrors(t.Context())
		if got != tt.want || (err == nil) != (tt.want.Archive != "") {
			t.Errorf("DefaultMirrors() with %q = %+v, %v; want %+v", tt.script, got, err, tt.want)
		}
	}
}

func TestInstall(t *testing.T) {
	fake(t, `cat base.tar; echo " and more"`)
	b := debian.Builder{Suite: "trixie", Dir: t.TempDir()}
	base := func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Repeat("base", 100000))
		return err
	}
	var out strings.Builder
	if err := b.Install(t.Context(), base, []string{"make"}, &out); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("base", 100000) + " and more\n"; out.String() != want {
		t.Errorf("Install() wrote %d bytes; want the base and more, %d bytes", out.Len(), len(want))
	}
}

func TestInstallErrors(t *testing.T) {
	fake(t, `cat base.tar > /dev/null; echo "E: Unable to locate package frobnicate" >&2; echo "E: Unable to locate package xyzzy" >&2; exit 100`)
	base := func(w io.Writer) error { return nil }
	err := debian.Builder{Suite: "trixie", Dir: t.TempDir()}.Install(t.Context(), base, []string{"make"}, io.Discard)
	unknown, ok := errors.AsType[*debian.UnknownPackageError](err)
	if !ok || strings.Join(unknown.Names, " ") != "frobnicate xyzzy" {
		t.Errorf("Install() = %v; want an error about two packages", err)
	}

	broken := errors.New("broken base")
	err = debian.Builder{Suite: "trixie", Dir: t.TempDir()}.Install(t.Context(), func(io.Writer) error { return broken }, nil, io.Discard)
	if !errors.Is(err, broken) {
		t.Errorf("Install(broken base) = %v; want %v", err, broken)
	}
}

// Nobody reads the FIFO when mmdebstrap fails at once, or is stopped.
func TestInstallWithoutReader(t *testing.T) {
	base := func(w io.Writer) error {
		_, err := io.Copy(w, zeros{})
		return err
	}
	fake(t, "exit 1")
	if err := (debian.Builder{Suite: "trixie", Dir: t.TempDir()}).Install(t.Context(), base, nil, io.Discard); err == nil {
		t.Error("Install() succeeded")
	}
	fake(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := debian.Builder{Suite: "trixie", Dir: t.TempDir()}.Install(ctx, base, nil, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Install(cancelled) = %v; want context.DeadlineExceeded", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "build")
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := debian.Remove(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("Stat(removed) = %v; want not exist", err)
	}
}
