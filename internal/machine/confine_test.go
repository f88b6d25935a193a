package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needLandlock skips t on a kernel that has none.
func needLandlock(t testing.TB) (abi int) {
	t.Helper()
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		t.Skipf("the kernel has no Landlock: %v", errno)
	}
	return int(v)
}

// A VMM opens what it was promised, and nothing else.
func TestConfineFiles(t *testing.T) {
	abi := needLandlock(t)
	dir := t.TempDir()
	for _, name := range []string{"readable", "writable", "secret", "dir/inside"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "dir", "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, script string
		want         bool
	}{
		{"read what is readable", "read x <$D/readable", true},
		{"read in a readable directory", "read x <$D/dir/inside", true},
		{"list a readable directory", "set -- $D/dir/*; test $1 = $D/dir/inside", true},
		{"write what is writable", "echo x >>$D/writable", true},
		{"list the system's files", "set -- /usr/bin/*; test -e $1", true},
		{"run the system's programs", "exec ls /usr/bin", false},
		{"read a neighbour", "read x <$D/secret", false},
		{"list the neighbours", "set -- $D/*; test -e $1", false},
		{"read the system's files", "read x </etc/passwd", false},
		{"write what is readable", "echo x >>$D/readable", false},
		{"write into a readable directory", "echo x >$D/dir/new", false},
		{"truncate what is readable", ": >$D/readable", false},
		{"make a file", "echo x >/tmp/mayfly-machine-test", false},
		{"go through a link", "read x <$D/dir/link", false},
		{"trace its parent", "read x </proc/$PPID/mem", false},
		{"signal its parent", "kill -0 $PPID", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.name, "signal") && abi < 6 {
				t.Skip("needs Landlock's ABI 6")
			}
			t.Parallel()
			c := script(tt.script)
			c.Env = []string{"D=" + dir}
			c.Readable = append(c.Readable, filepath.Join(dir, "readable"), filepath.Join(dir, "dir"), filepath.Join(dir, "not-there"))
			c.Writable = []string{filepath.Join(dir, "writable"), "/dev/null"}
			p, output := start(t, c)
			out := output()
			if got := p.Err() == nil; got != tt.want {
				t.Errorf("it could: %v; want %v\n%s", got, tt.want, out)
			}
		})
	}
}

// The first thread stands for our process: confined as a VMM is, it would be
// open to that.
func TestFirstThreadStaysFree(t *testing.T) {
	before := procStatus(t, os.Getpid())
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			p, err := Start(t.Context(), script("exit 0"), os.Stderr, nil)
			if err != nil {
				t.Error(err)
				return
			}
			p.Err()
		})
	}
	wg.Wait()
	after := procStatus(t, os.Getpid())
	for _, field := range []string{"NoNewPrivs", "CapBnd"} {
		if before[field] != after[field] {
			t.Errorf("%s of the first thread became %s; want %s", field, after[field], before[field])
		}
	}
}

// What the kernel says of the process.
func TestConfinePosture(t *testing.T) {
	// A file that we inherited, as from a shell.
	const inherited = 200
	if err := unix.Dup3(0, inherited, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	for _, isolate := range []bool{false, true} {
		c := script("echo ready >&3; exec <&3; read x", File{Socket: Control})
		c.Isolate = isolate
		p, err := Start(t.Context(), c, os.Stderr, nil)
		if err != nil {
			if isolate {
				t.Skipf("may not make namespaces: %v", err)
			}
			t.Fatal(err)
		}
		defer p.Kill()
		conn := p.Sockets[Control]
		conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		status := procStatus(t, p.PID)
		for field, want := range map[string]string{
			"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		} {
			if status[field] != want {
				t.Errorf("isolate %v: %s is %s; want %s", isolate, field, status[field], want)
			}
		}
		if pgid, err := unix.Getpgid(p.PID); err != nil || pgid != p.PID {
			t.Errorf("isolate %v: its process group is %d, %v; want its own", isolate, pgid, err)
		}
		// Its loader has a library open for a moment.
		var open []string
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
			open = nil
			for _, e := range entries {
				open = append(open, e.Name())
			}
			slices.Sort(open)
			if err != nil || slices.Equal(open, []string{"0", "1", "2", "3"}) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("isolate %v: it has the descriptors %v; want 0 to 3", isolate, open)
				break
			}
		}
		for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
			ours, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID, ns))
			if err == nil && (theirs != ours) != isolate {
				t.Errorf("isolate %v: its %s namespace is %s, ours %s", isolate, ns, theirs, ours)
			}
		}
	}
	// We ourselves are not confined by it.
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		t.Errorf("after starting a VMM: %v", err)
	}
}

func procStatus(t testing.TB, pid int) map[string]string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}
