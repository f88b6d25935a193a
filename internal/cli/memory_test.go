package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// memoryVariable holds the home and the arguments of a command that is measured.
const memoryVariable = "MAYFLY_CLI_MEMORY"

// TestMemoryChild is that command, in a process of its own. It prints the most memory that it
// had, in KiB, and the code of its error.
func TestMemoryChild(t *testing.T) {
	home, args, ok := strings.Cut(os.Getenv(memoryVariable), "\n")
	if !ok {
		t.Skip("run by TestMemory only")
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	err := userOf(t, home, nil).command(strings.Split(args, "\n")...)
	status, _ := os.ReadFile("/proc/self/status")
	most := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	fmt.Printf("measured: %s %s.\n", most[1], errorCode(err))
}

// measured runs a command in a process of its own.
func measured(t *testing.T, home string, args ...string) (mib int, code string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryChild$")
	cmd.Env = append(os.Environ(), memoryVariable+"="+home+"\n"+strings.Join(args, "\n"))
	out, err := cmd.CombinedOutput()
	m := regexp.MustCompile(`measured: (\d+) (.*)\.`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v: %v\n%.2000s", args, err, out)
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return kib >> 10, string(m[2])
}

// mostMemory is what a command may take for a list of changes, in MiB.
const mostMemory = 128

// needsMemory skips a test that measures memory where that says nothing.
func needsMemory(t *testing.T) {
	t.Helper()
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("a program that is watched for races takes several times the memory")
	}
}

// small is a file of one byte in a list.
func small(format string, args ...any) wire.Change {
	sum, _ := sparse.SumOf(context.Background(), strings.NewReader("x"), 1)
	return wire.Change{Path: fmt.Appendf(nil, format, args...), Kind: wire.KindFile, Mode: 0o644, Size: 1, Sum: sum[:]}
}

// lists has the guest of m count and list so many changes in a directory.
func (m *fakeMachine) lists(count int, entry func(i int) wire.Change) {
	m.list = func(conn net.Conn) {
		first := entry(0)
		m.files[string(first.Path)] = "x"
		if count < 1_000_000 {
			wire.WriteMessage(conn, wire.Change{Progress: &wire.Progress{Counted: int64(count) + 1}})
		}
		wire.WriteMessage(conn, wire.Change{Path: []byte("d"), Kind: wire.KindDir, Mode: 0o755})
		for i := range count {
			if wire.WriteMessage(conn, entry(i)) != nil {
				return
			}
		}
		wire.WriteMessage(conn, wire.Change{End: true})
	}
}

// TestMemory has guests list what takes the most of the host's memory: as much as is taken,
// and more, which is refused. Neither may take more than 128 MiB.
func TestMemory(t *testing.T) {
	needsMemory(t)
	long := bytes.Repeat([]byte("n"), 250)
	for _, tt := range []struct {
		name  string
		count int // of changes; endless lists have a million
		entry func(i int) wire.Change
		code  string
	}{
		{"many small files", 112_000, func(i int) wire.Change { return small("d/some-file-%d.go", i) }, ""},
		{"suspicious ones", 108_000, func(i int) wire.Change { return small("d/git~1-%d\u202e\x1b[31m", i) }, ""},
		{"links that lead out", 20_000, func(i int) wire.Change {
			return wire.Change{Path: fmt.Appendf(nil, "d/%d", i), Kind: wire.KindSymlink, Target: fmt.Appendf(nil, "../../%s/%d", bytes.Repeat([]byte("t"), 1000), i)}
		}, ""},
		{"long names", 60_000, func(i int) wire.Change { return small("d/%s%d", long, i) }, ""},
		{"endless small files", 1_000_000, func(i int) wire.Change { return small("d/%d", i) }, "changes-memory"},
		{"endless long targets", 1_000_000, func(i int) wire.Change {
			return wire.Change{Path: fmt.Appendf(nil, "d/%d", i), Kind: wire.KindSymlink, Target: bytes.Repeat([]byte("t"), 4000)}
		}, "changes-memory"},
		{"endless hard links", 1_000_000, func(i int) wire.Change {
			if i == 0 {
				return small("d/0")
			}
			return wire.Change{Path: fmt.Appendf(nil, "d/%d", i), Kind: wire.KindFile, Mode: 0o644, Link: []byte("d/0")}
		}, "changes-memory"},
		{"endless copies of a directory of the host", 1_000_000, func(i int) wire.Change {
			return wire.Change{Path: fmt.Appendf(nil, "d/%d", i), Kind: wire.KindDir, Mode: 0o755, Redirect: []byte("/host")}
		}, "changes-memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			for i := range 100 {
				if err := os.MkdirAll(filepath.Join(home, "project/host", strconv.Itoa(i)), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			m := runFakeMachine(t, home, map[string]string{})
			m.lists(tt.count, tt.entry)
			mib, code := measured(t, home, "diff", "m")
			t.Logf("%d MiB", mib)
			if code != tt.code || mib > mostMemory {
				t.Errorf("diff of it took %d MiB and ended with %q; want at most %d MiB and %q", mib, code, mostMemory, tt.code)
			}
		})
	}
}

// TestMemoryOfApply has 90,000 changes listed for a program, applied and taken back.
func TestMemoryOfApply(t *testing.T) {
	needsMemory(t)
	home := t.TempDir()
	m := runFakeMachine(t, home, map[string]string{"d/hook": "x"})
	m.lists(90_000, func(i int) wire.Change {
		if i == 0 {
			return small("d/.envrc") // is held back
		}
		return small("d/package-%d/some-file-%d.txt", i/100, i)
	})
	list := m.list
	m.list = func(conn net.Conn) {
		for i := range 900 {
			wire.WriteMessage(conn, wire.Change{Path: fmt.Appendf(nil, "d/package-%d", i), Kind: wire.KindDir, Mode: 0o755})
		}
		list(conn)
	}
	for _, args := range [][]string{{"diff", "m", "--json"}, {"apply", "m", "--only", "ordinary,suspicious"}, {"undo", "m"}} {
		mib, code := measured(t, home, args...)
		t.Logf("%v: %d MiB", args, mib)
		if code != "" || mib > mostMemory {
			t.Errorf("%v took %d MiB and ended with %q; want at most %d MiB", args, mib, code, mostMemory)
		}
	}
}

// TestMemoryOfIgnored has 200,000 files in a tree that the host's git ignores: they cost little.
func TestMemoryOfIgnored(t *testing.T) {
	needsMemory(t)
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	home := t.TempDir()
	m := runFakeMachine(t, home, map[string]string{})
	cmd := exec.Command("git", "init", "-q")
	cmd.Dir = m.dir
	out, err := cmd.CombinedOutput()
	if err := errors.Join(err, os.WriteFile(filepath.Join(m.dir, ".git", "info", "exclude"), []byte("/d/\n"), 0o644)); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	m.lists(200_000, func(i int) wire.Change { return small("d/lib/some-package/some-file-%d.js", i) })
	for _, args := range [][]string{{"diff", "m"}, {"apply", "m"}} {
		mib, code := measured(t, home, args...)
		t.Logf("%v: %d MiB", args, mib)
		if code != "" || mib > mostMemory {
			t.Errorf("%v took %d MiB and ended with %q; want at most %d MiB", args, mib, code, mostMemory)
		}
	}
	// One by one they are too many.
	if mib, code := measured(t, home, "diff", "m", "--ignored"); code != "changes-memory" || mib > mostMemory {
		t.Errorf("diff --ignored took %d MiB and ended with %q; want at most %d MiB and changes-memory", mib, code, mostMemory)
	}
}
