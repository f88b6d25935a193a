package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// A machine that is not well says so, whoever asks, and never leaves anybody waiting.
func TestStates(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	disk := smallDisk(t, 640<<20)
	h.Set("XDG_STATE_HOME", disk)
	h.State = filepath.Join(disk, "mayfly")
	h.Run(0, "run", "--keep", "--name", "m", "--network", "none", "--memory", "512MiB", "--", "true")
	t.Run("the machine's disk is full", func(t *testing.T) { testDiskBound(t, h.For(t)) })
	t.Run("what is freed comes back", func(t *testing.T) { testGivesBack(t, h.For(t)) })
	t.Run("the host's disk is full", func(t *testing.T) { testHostDiskFull(t, h.For(t), disk) })
	t.Run("the guest's memory is full", func(t *testing.T) { testGuestMemoryFull(t, h.For(t)) })
	t.Run("the guest breaks off", func(t *testing.T) { testGuestBreaksOff(t, h.For(t)) })
	h.Run(0, "rm", "m")
}

// listed is what ls says of a machine.
type listed struct {
	Name, State, Reason string
	Bound               int64 `json:"disk_bound"`
}

func info(t *testing.T, h *vm.Host, name string) (found listed) {
	t.Helper()
	var all []listed
	if err := json.Unmarshal([]byte(h.Run(0, "ls", "--json").Stdout), &all); err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Name == name {
			found = i
		}
	}
	return found
}

// A guest that writes more than its bound finds its disk full, as any program expects, and
// stands not still. Beyond that bound even root can write nothing.
func testDiskBound(t *testing.T, h *vm.Host) {
	const script = `fallocate -l 2G /var/tmp/large; rm /var/tmp/large; df -B1 --output=size /var/tmp | tail -1
sudo sh -c 'for d in /sys/block/vd*; do [ "$(cat $d/serial)" = slot0 ] && disk=/dev/${d##*/}; done; echo x | dd of=$disk bs=1M seek=2000 conv=notrunc,fsync'`
	r := h.Run(1, "exec", "m", "--", "sh", "-c", script)
	size, err := strconv.Atoi(strings.TrimSpace(r.Stdout))
	if err != nil || size > 1<<30 || size < 400<<20 {
		t.Errorf("df says %q; want less than 1 GiB", r.Stdout)
	}
	for _, want := range []string{"No space left on device", "Input/output error"} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("the guest says %q; want %q", r.Stderr, want)
		}
	}
	if i := info(t, h, "m"); i.State != "running" || i.Bound != 1<<30 {
		t.Errorf("ls says %q, a bound of %d bytes; want running, 1 GiB", i.State, i.Bound)
	}
	if out := h.Run(0, "inspect", "m").Stdout; !strings.Contains(out, "at most 1024 MiB") {
		t.Errorf("inspect says %q; want the bound", out)
	}
}

// What a guest removes takes no space on the host for long.
func testGivesBack(t *testing.T, h *vm.Host) {
	taken := func() int64 {
		fi, err := os.Stat(h.File("m", "scratch.img"))
		if err != nil {
			t.Fatal(err)
		}
		return fi.Sys().(*syscall.Stat_t).Blocks * 512 >> 20
	}
	before := taken()
	h.Run(0, "exec", "m", "--", "sh", "-c", `head -c 150M /dev/zero | tr '\0' x > /var/tmp/big && sync && sleep 15 && rm /var/tmp/big && sync`)
	if n := taken(); n < before+100 {
		t.Fatalf("the disk takes %d MiB, and %d before; want what was written", n, before)
	}
	for deadline := time.Now().Add(vm.Timeout); taken() > before+50; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the disk takes %d MiB still, and %d before", taken(), before)
		}
	}
}

// While the host's disk is full a machine stands still and says why. It goes on by itself
// when there is room, and what it was writing is right.
func testHostDiskFull(t *testing.T, h *vm.Host, disk string) {
	const megabytes = 100
	// The guest's memory holds less than it writes.
	write := h.Mayfly("exec", "m", "--", "sh", "-c", fmt.Sprintf(
		`head -c %dM /dev/zero | tr '\0' x > /var/tmp/big && sync && echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null && tr -d x < /var/tmp/big | wc -c && stat -c %%s /var/tmp/big`, megabytes))
	events := h.Mayfly("events", "m")
	events.Start()
	events.Printed("ready")
	ballast := filepath.Join(disk, "ballast")
	fill(t, disk, ballast, 40<<20)
	write.Start()
	write.Said("is paused: the file system of")
	events.Printed("is paused: the file system of")
	if i := info(t, h, "m"); i.State != "paused" || !strings.Contains(i.Reason, disk) {
		t.Errorf("ls says %q, %q; want paused, and the directory", i.State, i.Reason)
	}
	if out := h.Run(0, "inspect", "m").Stdout; !strings.Contains(out, "paused") || !strings.Contains(out, "is full") {
		t.Errorf("inspect says %q; want that it is paused, and why", out)
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		waiting := h.Mayfly("exec", "m", "--", "true")
		waiting.Start()
		waiting.Said("is paused")
		waiting.Signal(sig)
		if r := waiting.Wait(); r.Code != 130 || !strings.Contains(r.Stderr, "interrupted") {
			t.Errorf("exec that %v ended: exit code %d, %q; want 130, interrupted", sig, r.Code, r.Stderr)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r := write.Wait()
	if want := fmt.Sprintf("0\n%d\n", megabytes<<20); r.Code != 0 || r.Stdout != want || !strings.Contains(r.Stderr, "m goes on") {
		t.Errorf("the write ended with %d, %q, %q; want %q, and that the machine goes on", r.Code, r.Stdout, r.Stderr, want)
	}
	if i := info(t, h, "m"); i.State != "running" || i.Reason != "" {
		t.Errorf("ls says %q, %q; want running", i.State, i.Reason)
	}
	events.Signal(syscall.SIGINT)
	events.Wait()
}

// fill leaves so many bytes of a file system free.
func fill(t *testing.T, disk, ballast string, leave int64) {
	t.Helper()
	var st syscall.Statfs_t
	f, err := os.Create(ballast)
	if err == nil {
		err = syscall.Statfs(disk, &st)
	}
	if err == nil {
		err = syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// A guest without memory costs a program, says so in one line, and lives on.
func testGuestMemoryFull(t *testing.T, h *vm.Host) {
	const line = "mayfly: the machine ran out of memory (512 MiB): its kernel killed perl; give it more with --memory"
	r := h.Mayfly("exec", "m", "--", "perl", "-e", `push @a, "x" x 1048576 while 1`).Run()
	if r.Code != 137 || !strings.Contains(r.Stderr, line) {
		t.Errorf("exit code %d, %q; want 137 and why", r.Code, r.Stderr)
	}
	r = h.Mayfly("exec", "m", "--", "sh", "-c", `perl -e 'push @a, "x" x 1048576 while 1'; sleep 1; exit 3`).Run()
	if r.Code != 3 || strings.Count(r.Stderr, line) != 1 {
		t.Errorf("exit code %d, %q; want the command's own, and one line", r.Code, r.Stderr)
	}
	h.Run(0, "exec", "m", "--", "true")
}

// breakOff writes garbage into the middle of the conversation, as root can.
const breakOff = `$p = syscall(434, 1, 0);
for $i (3 .. 99) {
	next unless readlink("/proc/1/fd/$i") =~ m{/dev/vport};
	open(F, ">&=" . syscall(438, $p, $i, 0));
	syswrite(F, "x" x 4096);
}`

// A machine whose guest breaks the protocol is unreachable, and ends in a moment.
func testGuestBreaksOff(t *testing.T, h *vm.Host) {
	r := h.Mayfly("exec", "m", "--", "sudo", "perl", "-e", breakOff).Run()
	if r.Code != 125 || !strings.Contains(r.Stderr, "the guest sent a frame") || !strings.Contains(r.Stderr, "hint: mayfly rm m") {
		t.Errorf("the command that broke off: exit code %d, %q; want 125, the reason and a hint", r.Code, r.Stderr)
	}
	if i := info(t, h, "m"); i.State != "unreachable" || !strings.Contains(i.Reason, "the guest sent a frame") {
		t.Errorf("ls says %q, %q; want unreachable, and why", i.State, i.Reason)
	}
	r = h.Mayfly("exec", "m", "--", "true").Run()
	if r.Code == 0 || !strings.Contains(r.Stderr, "the guest sent a frame") {
		t.Errorf("exec: exit code %d, %q; want the reason", r.Code, r.Stderr)
	}
}
