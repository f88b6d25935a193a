package cli

import (
	"bytes"
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

// TestMemory has guests list what takes the most of the host's memory: as much as is taken,
// and more, which is refused. Neither may take more than 128 MiB.
func TestMemory(t *testing.T) {
	const most = 128
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("a program that is watched for races takes several times the memory")
	}
	sum, _ := sparse.SumOf(t.Context(), strings.NewReader("x"), 1)
	file := func(format string, args ...any) wire.Change {
		return wire.Change{Path: fmt.Appendf(nil, format, args...), Kind: wire.KindFile, Mode: 0o644, Size: 1, Sum: sum[:]}
	}
	long := bytes.Repeat([]byte("n"), 250)
	for _, tt := range []struct {
		name  string
		count int // of changes; endless lists have a million
		entry func(i int) wire.Change
		code  string
	}{
		{"many small files", 60_000, func(i int) wire.Change { return file("d/some-file-%d.go", i) }, ""},
		{"suspicious ones", 40_000, func(i int) wire.Change { return file("d/git~1-%d\u202e\x1b[31m", i) }, ""},
		{"links that lead out", 20_000, func(i int) wire.Change {
			return wire.Change{Path: fmt.Appendf(nil, "d/%d", i), Kind: wire.KindSymlink, Target: fmt.Appendf(nil, "../../%s/%d", bytes.Repeat([]byte("t"), 1000), i)}
		}, ""},
		{"long names", 40_000, func(i int) wire.Change { return file("d/%s%d", long, i) }, ""},
		{"endless small files", 1_000_000, func(i int) wire.Change { return file("d/%d", i) }, "changes-memory"},
		{"endless long targets", 1_000_000, func(i int) wire.Change {
			return wire.Change{Path: fmt.Appendf(nil, "d/%d", i), Kind: wire.KindSymlink, Target: bytes.Repeat([]byte("t"), 4000)}
		}, "changes-memory"},
		{"endless hard links", 1_000_000, func(i int) wire.Change {
			if i == 0 {
				return file("d/0")
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
			m.list = func(conn net.Conn) {
				first := tt.entry(0)
				m.files[string(first.Path)] = "x"
				wire.WriteMessage(conn, wire.Change{Path: []byte("d"), Kind: wire.KindDir, Mode: 0o755})
				for i := range tt.count {
					if wire.WriteMessage(conn, tt.entry(i)) != nil {
						return
					}
				}
				wire.WriteMessage(conn, wire.Change{End: true})
			}
			mib, code := measured(t, home, "diff", "m")
			t.Logf("%d MiB", mib)
			if code != tt.code || mib > most {
				t.Errorf("diff of it took %d MiB and ended with %q; want at most %d MiB and %q", mib, code, most, tt.code)
			}
		})
	}
}
