package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// A machine is the same whether it began from a template or booted.
func TestExec(t *testing.T) {
	for name, start := range map[string][]string{"template": {fromTemplate}, "cold": {byBooting, "--cold"}} {
		t.Run(name, func(t *testing.T) { testExec(t, start[0], start[1:]...) })
	}
}

// testExec starts a machine that serves all these tests: exec is what run does
// once a machine is ready.
func testExec(t *testing.T, start string, flags ...string) {
	vm.Lock(t)
	h := vm.New(t)
	explained(t, h, "") // makes the template
	secret := filepath.Join(h.Home, "secret")
	writeFile(t, secret, "not for a guest")
	writeFile(t, filepath.Join(h.Dir, "README"), "hello\n")
	writeFile(t, filepath.Join(h.Home, ".gitconfig"), "[user]\n\tname = Ada L.\n\temail = ada@example.org\n")
	onHost(t, h.Dir, "git init -q && git config commit.gpgSign true && git config user.signingKey none")
	link := filepath.Join(h.Home, "links/to it")
	onHost(t, h.Home, "mkdir links && ln -s '"+h.Dir+"' '"+link+"'")
	real := h.Dir
	h.Dir = link
	r := h.Run(0, append(append([]string{"run"}, flags...), "--keep", "--name", "m", "--no-detect", "--explain", "--", "true")...)
	wantStart(t, r, start)
	h.Dir = real

	sh := func(t *testing.T, script string) string {
		t.Helper()
		return h.For(t).Run(0, "exec", "m", "--", "sh", "-c", script).Stdout
	}
	t.Run("exit codes", func(t *testing.T) {
		h := h.For(t)
		for code, argv := range map[int][]string{
			0: {"true"}, 1: {"false"}, 255: {"sh", "-c", "exit 255"},
			143: {"sh", "-c", "kill -TERM $$"}, 137: {"sh", "-c", "kill -KILL $$"}, 139: {"sh", "-c", "kill -SEGV $$"},
			127: {"no-such-command"}, 126: {"/etc/passwd"},
		} {
			h.Run(code, append([]string{"exec", "m", "--"}, argv...)...)
		}
	})
	t.Run("arguments", func(t *testing.T) {
		argv := []string{"exec", "m", "--", "printf", `<%s>\n`, "", "a b", "*", "$HOME", `"'\`, "ä\n\t\x01", "--help", "-v"}
		want := "<>\n<a b>\n<*>\n<$HOME>\n<\"'\\>\n<ä\n\t\x01>\n<--help>\n<-v>\n"
		if got := h.For(t).Run(0, argv...).Stdout; got != want {
			t.Errorf("printf printed %q; want %q", got, want)
		}
	})
	t.Run("streams", func(t *testing.T) { testStreams(t, h.For(t)) })
	t.Run("signals", func(t *testing.T) { testSignals(t, h.For(t)) })
	t.Run("terminal", func(t *testing.T) { testTerminal(t, h.For(t)) })

	t.Run("user", func(t *testing.T) {
		if got := sh(t, "id -u; id -g"); strings.HasPrefix(got, "0\n") || strings.HasSuffix(got, "\n0\n") {
			t.Errorf("id = %q; want a user who is not root", got)
		}
		if got := sh(t, "sudo -n id -u"); got != "0\n" {
			t.Errorf("sudo id -u = %q; want 0", got)
		}
		if got := sh(t, "pwd; cat README; touch new && rm new; stat -c %U README ."); got != h.Dir+"\nhello\n"+strings.Repeat(strings.TrimSpace(sh(t, "id -un"))+"\n", 2) {
			t.Errorf("in the workspace: %q", got)
		}
		if got := sh(t, `touch "$HOME/x" /tmp/x && rm "$HOME/x" /tmp/x; echo $USER $LOGNAME; hostname`); got == "" {
			t.Error("the user cannot write where it should")
		}
	})
	t.Run("programs", func(t *testing.T) {
		for _, program := range []string{"git", "rg", "make", "gcc", "curl", "sudo", "zsh", "less", "tmux", "bash", "ps", "editor", "python3", "modprobe"} {
			if sh(t, "command -v "+program+" || true") == "" {
				t.Errorf("the default image has no %s", program)
			}
		}
		got := sh(t, `printf '#include <stdio.h>\nint main(void) { puts("compiled"); }' > /tmp/a.c && gcc -o /tmp/a.out /tmp/a.c && /tmp/a.out`)
		if got != "compiled\n" {
			t.Errorf("a compiled program printed %q", got)
		}
	})
	t.Run("limits", func(t *testing.T) {
		want := "1024 1048576 524288 1024 1048576 4194304\n"
		got := sh(t, "echo $(ulimit -Sn) $(ulimit -Hn) $(cat /proc/sys/fs/inotify/max_user_watches /proc/sys/fs/inotify/max_user_instances /proc/sys/vm/max_map_count /proc/sys/kernel/pid_max)")
		if got != want {
			t.Errorf("limits are %q; want %q", got, want)
		}
	})
	t.Run("path", func(t *testing.T) {
		const path = `echo "$PATH" | grep -q "^$HOME/.local/bin:$HOME/go/bin:$HOME/.cargo/bin:/usr/local/sbin:" && echo there`
		for _, argv := range [][]string{{"sh", "-c", path}, {"bash", "-lc", path}, {"zsh", "-lc", path}} {
			if got := h.For(t).Run(0, append([]string{"exec", "m", "--"}, argv...)...).Stdout; got != "there\n" {
				t.Errorf("%s has no directories of the user's in PATH", argv[:2])
			}
		}
		if got := sh(t, "pip --version >/dev/null 2>&1; cat /etc/pip.conf; echo $NPM_CONFIG_PREFIX; grep -c $USER /etc/subuid"); !strings.Contains(got, "break-system-packages = true") || !strings.Contains(got, "/.local\n1\n") {
			t.Errorf("pip, npm and containers find %q", got)
		}
	})
	t.Run("typed path", func(t *testing.T) {
		if got := sh(t, fmt.Sprintf("readlink '%s'; cat '%[1]s/README'", link)); got != h.Dir+"\nhello\n" {
			t.Errorf("at the path that was typed: %q", got)
		}
	})
	t.Run("commit", func(t *testing.T) {
		if !strings.Contains(r.Stderr, "git does not sign in the machine") {
			t.Errorf("the start said %q", r.Stderr)
		}
		// Root's goes last: what git adds for it to a directory of objects, no other can add to.
		got := sh(t, `commit='git commit -q --allow-empty -m'
$commit one && bash -lc "$commit two" && git tag -a -m t t && git -c commit.gpgsign=true commit --allow-empty -m three 2>&1 | grep -q gpg && sudo $commit three && git log --format='%an <%ae> %cn %G?'`)
		if want := strings.Repeat("Ada L. <ada@example.org> Ada L. N\n", 3); got != want {
			t.Errorf("commits are by %q", got)
		}
	})
	t.Run("modules", func(t *testing.T) {
		got := sh(t, `exec 3<>/dev/fuse 4<>/dev/net/tun && echo opened
			truncate -s 1M /tmp/disk && sudo losetup -d $(sudo losetup -f --show /tmp/disk) && echo loop
			sudo modprobe nf_tables && echo nf_tables`)
		if got != "opened\nloop\nnf_tables\n" {
			t.Errorf("the kernel's modules: %q", got)
		}
	})
	t.Run("isolation", func(t *testing.T) {
		if got := sh(t, "ls /sys/class/net"); got != "eth0\nlo\n" {
			t.Errorf("network interfaces = %q; want lo and one card", got)
		}
		if got := sh(t, "ls -A "+filepath.Dir(h.Dir)); strings.Contains(got, "secret") {
			t.Errorf("beside the workspace is %q", got)
		}
		// Whatever is mounted lies on disks of the machine, or in its memory.
		for line := range strings.Lines(sh(t, "sudo cat /proc/self/mounts")) {
			f := strings.Fields(line)
			switch f[2] {
			case "overlay", "erofs", "ext4", "proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "cgroup2", "rootfs":
			default:
				t.Errorf("mounted: %q", line)
			}
		}
		// Not even root finds the content of the file beside the workspace
		// on any disk.
		disks := sh(t, "ls /sys/block; lsblk -dno NAME,RO | sort")
		if n := strings.Count(sh(t, "ls /sys/block"), "vd"); n != 8 {
			t.Errorf("the machine has %d disks; want 8: %s", n, disks)
		}
		if got := sh(t, "for d in /dev/vd?; do if sudo dd if=/dev/null of=$d bs=1 count=0 2>/dev/null && sudo blockdev --getro $d; then :; fi; done | sort | uniq -c | tr -s ' '"); !strings.Contains(got, " 0\n") {
			t.Errorf("read-only flags of the disks: %q", got)
		}
	})
	t.Run("time", func(t *testing.T) {
		before := time.Now().Add(-time.Minute).Unix()
		var guest int64
		fmt.Sscan(sh(t, "date +%s"), &guest)
		if after := time.Now().Add(time.Minute).Unix(); guest < before || guest > after {
			t.Errorf("the guest's clock is at %d; want between %d and %d", guest, before, after)
		}
	})
	t.Run("wrong clock", func(t *testing.T) {
		h := h.For(t)
		for _, off := range []string{"-3 days", "3 days"} {
			h.Run(0, "exec", "m", "--", "sudo", "date", "-s", off)
			var guest int64
			fmt.Sscan(h.Run(0, "exec", "m", "--", "date", "+%s").Stdout, &guest)
			if d := time.Since(time.Unix(guest, 0)).Abs(); d > 10*time.Second {
				t.Errorf("after date -s %q the next command sees a clock that is off by %v", off, d)
			}
		}
	})
	t.Run("zombies", func(t *testing.T) {
		// Orphans of a command are reaped by the guest's first process.
		sh(t, "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done")
		if got := sh(t, "sleep 1; ps -eo stat= | grep -c ^Z || true"); got != "0\n" {
			t.Errorf("zombies: %q", got)
		}
	})
	t.Run("ls", func(t *testing.T) {
		r := h.For(t).Run(0, "ls", "--json")
		if !strings.Contains(r.Stdout, `"name": "m"`) || !strings.Contains(r.Stdout, `"state": "running"`) {
			t.Errorf("ls --json = %s", r.Stdout)
		}
		r = h.For(t).Run(0, "ls")
		if !strings.Contains(r.Stdout, "m     running") {
			t.Errorf("ls = %s", r.Stdout)
		}
	})
	t.Run("name taken", func(t *testing.T) {
		r := h.For(t).Run(1, "run", "--name", "m", "--no-detect", "--", "true")
		if want := "mayfly: error: the name m is already taken\nmayfly: hint: mayfly ls, or mayfly rm m\n"; !strings.HasSuffix(r.Stderr, want) {
			t.Errorf("stderr = %q; want %q at its end", r.Stderr, want)
		}
	})
	t.Run("gc leaves it alone", func(t *testing.T) {
		h.For(t).Run(0, "gc")
		if got := sh(t, "echo alive"); got != "alive\n" {
			t.Errorf("after gc the machine says %q", got)
		}
	})
	t.Run("logs", func(t *testing.T) {
		r := h.For(t).Run(0, "logs", "--supervisor", "m")
		if !strings.Contains(r.Stdout, "guest configured") {
			t.Errorf("logs = %s", r.Stdout)
		}
	})
	h.Run(0, "rm", "m")
	h.Run(1, "exec", "m", "--", "true")
}

func testStreams(t *testing.T, h *vm.Host) {
	t.Run("binary", func(t *testing.T) {
		all := make([]byte, 1<<16)
		for i := range all {
			all[i] = byte(i ^ i>>8)
		}
		c := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", "tee /dev/stderr")
		c.Stdin = bytes.NewReader(all)
		if r := c.Want(0); r.Stdout != string(all) || r.Stderr != string(all) {
			t.Errorf("64 KiB of all bytes came back as %d and %d bytes, changed", len(r.Stdout), len(r.Stderr))
		}
	})
	t.Run("half closed", func(t *testing.T) {
		// The program sees the end of its input while it still writes.
		c := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", "cat; sleep 0.3; echo after")
		c.Stdin = strings.NewReader("before\n")
		if r := c.Want(0); r.Stdout != "before\nafter\n" {
			t.Errorf("stdout = %q", r.Stdout)
		}
		// And it may close its output first, and go on.
		c = h.For(t).Mayfly("exec", "m", "--", "sh", "-c", "echo one; exec >&- 2>&-; cat > /tmp/in; exit 5")
		c.Stdin = strings.NewReader("late")
		if r := c.Want(5); r.Stdout != "one\n" {
			t.Errorf("stdout = %q", r.Stdout)
		}
		if r := h.For(t).Run(0, "exec", "m", "--", "cat", "/tmp/in"); r.Stdout != "late" {
			t.Errorf("what was read after the output was closed: %q", r.Stdout)
		}
	})
	t.Run("unread input", func(t *testing.T) {
		// The program ends without reading; ours must not wait for more.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		c := h.For(t).Mayfly("exec", "m", "--", "true")
		c.Stdin = r
		c.Start()
		r.Close()
		if got := c.Wait(); got.Code != 0 {
			t.Errorf("exit code %d; want 0", got.Code)
		}
	})
	t.Run("background process", func(t *testing.T) {
		// It holds the output open; the command is over all the same.
		if r := h.For(t).Run(0, "exec", "m", "--", "sh", "-c", "sleep 1000 & echo done"); r.Stdout != "done\n" {
			t.Errorf("stdout = %q", r.Stdout)
		}
		h.For(t).Run(0, "exec", "m", "--", "pkill", "-x", "sleep")
	})
	t.Run("closed output", func(t *testing.T) {
		// As with `mayfly exec m -- yes | head -1`: it ends.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := h.For(t).Mayfly("exec", "m", "--", "yes")
		c.Stdout = w
		c.Start()
		w.Close()
		if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		c.Wait()
		h.For(t).Run(1, "exec", "m", "--", "pgrep", "-x", "yes")
	})
}

func testSignals(t *testing.T, h *vm.Host) {
	const script = `trap 'echo caught; exit 9' %s; echo ready; while :; do sleep 0.05; done`
	for name, sig := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			c := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", fmt.Sprintf(script, name))
			c.Start()
			c.Printed("ready\n")
			c.Signal(sig)
			if r := c.Wait(); r.Code != 9 || r.Stdout != "ready\ncaught\n" {
				t.Errorf("exit code %d, stdout %q; want 9 after the trap\n%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
	t.Run("default", func(t *testing.T) {
		c := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", "echo ready; exec sleep 1000")
		c.Start()
		c.Printed("ready\n")
		c.Signal(syscall.SIGINT)
		if r := c.Wait(); r.Code != 130 {
			t.Errorf("exit code %d; want 130\n%s", r.Code, r.Stderr)
		}
	})
	t.Run("stubborn", func(t *testing.T) {
		// Who presses Ctrl-C three times wants to be gone.
		c := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", `n=0; trap 'n=$((n + 1)); echo interrupt $n' INT; echo ready; while :; do sleep 0.05; done`)
		c.Start()
		c.Printed("ready\n")
		for _, arrived := range []string{"interrupt 1\n", "interrupt 2\n"} {
			c.Signal(syscall.SIGINT)
			c.Printed(arrived)
		}
		c.Signal(syscall.SIGINT)
		if r := c.Wait(); r.Code == 0 {
			t.Error("exit code 0 after three signals")
		}
		// The guest's side is hung up with it.
		h := h.For(t)
		for range 100 {
			if h.Mayfly("exec", "m", "--", "pgrep", "-x", "sleep").Run().Code == 1 {
				return
			}
		}
		t.Error("the command still runs")
	})
	t.Run("killed client", func(t *testing.T) {
		c := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", "echo ready; exec sleep 1000")
		c.Start()
		c.Printed("ready\n")
		c.Signal(syscall.SIGKILL)
		c.Wait()
		h := h.For(t)
		for range 100 {
			if h.Mayfly("exec", "m", "--", "pgrep", "-x", "sleep").Run().Code == 1 {
				return
			}
		}
		t.Error("the command still runs")
	})
}

func testTerminal(t *testing.T, h *vm.Host) {
	t.Run("size and type", func(t *testing.T) {
		c := h.For(t).Terminal("exec", "m", "--", "sh")
		c.Expect("$ ")
		c.Type("stty size; echo $TERM; tty; tput cols\n")
		c.Expect("24 80\r\n")
		c.Expect("xterm-256color\r\n")
		c.Expect("/dev/pts/")
		c.Expect("80\r\n")
		c.Resize(50, 132)
		// The new size is on its way.
		c.Type("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo resi''zed\n")
		c.Expect("resized")
		c.Type("exit 6\n")
		if r := c.Wait(); r.Code != 6 {
			t.Errorf("exit code %d; want 6\n%s", r.Code, c.Screen())
		}
	})
	t.Run("keys", func(t *testing.T) {
		c := h.For(t).Terminal("exec", "m", "--", "bash", "--norc")
		c.Expect("$ ")
		c.Type("sleep 1000\n")
		c.Expect("1000\r\n")
		c.Until("the command", func() bool {
			return h.For(t).Mayfly("exec", "m", "--", "pgrep", "-fx", "sleep 1000").Run().Code == 0
		})
		c.Type("\x03") // Ctrl-C
		c.Expect("^C")
		c.Type("echo code $?\n")
		c.Expect("code 130")
		// Job control: Ctrl-Z, bg, fg.
		c.Type("sleep 1001\n")
		c.Expect("1001\r\n")
		c.Until("the command", func() bool {
			return h.For(t).Mayfly("exec", "m", "--", "pgrep", "-fx", "sleep 1001").Run().Code == 0
		})
		c.Type("\x1a")
		c.Expect("Stopped")
		c.Type("bg; jobs\n")
		c.Expect("Running")
		c.Type("kill %1; wait; echo job''s gone\n")
		c.Expect("jobs gone")
		c.Type("cat\n")
		// Before it runs, the shell has the terminal, and echoes by itself.
		c.Until("the command", func() bool {
			return h.For(t).Mayfly("exec", "m", "--", "pgrep", "-x", "cat").Run().Code == 0
		})
		c.Type("line\n")
		c.Expect("line\r\nline\r\n")
		c.Type("\x04") // Ctrl-D
		c.Expect("$ ")
		c.Type("\x04")
		if r := c.Wait(); r.Code != 0 {
			t.Errorf("exit code %d; want 0\n%s", r.Code, c.Screen())
		}
	})
	t.Run("tmux", func(t *testing.T) {
		c := h.For(t).Terminal("exec", "m", "--", "tmux", "-f", "/dev/null", "new-session", "echo in''side; sleep 1")
		c.Expect("inside")
		if r := c.Wait(); r.Code != 0 {
			t.Errorf("exit code %d; want 0\n%s", r.Code, c.Screen())
		}
	})
	t.Run("shell", func(t *testing.T) {
		c := h.For(t).Terminal("shell", "m")
		c.Type("echo she''ll; exit 3\n")
		c.Expect("shell")
		if r := c.Wait(); r.Code != 3 {
			t.Errorf("exit code %d; want 3\n%s", r.Code, c.Screen())
		}
	})
	t.Run("none", func(t *testing.T) {
		c := h.For(t).Terminal("exec", "--no-tty", "m", "--", "sh", "-c", "tty; echo code $?")
		c.Expect("not a tty\r\n")
		c.Wait()
	})
	t.Run("unknown type", func(t *testing.T) {
		// The host's description of its terminal comes along.
		dir := filepath.Join(h.Home, ".terminfo")
		source := filepath.Join(t.TempDir(), "odd.ti")
		writeFile(t, source, "odd-terminal|a terminal that no image knows,\n\tcols#42, clear=CLEARED,\n")
		if out, err := exec.Command("tic", "-o", dir, source).CombinedOutput(); err != nil {
			t.Skipf("tic, which compiles descriptions of terminals, does not: %v %s", err, out)
		}
		term := h.For(t).TerminalOf("odd-terminal", "exec", "m", "--", "tput", "clear")
		term.Expect("CLEARED")
		term.Wait()
	})
}

// A big stream arrives as it was sent.
func TestBigStream(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	const size = 200 << 20
	sent, got := sha256.New(), sha256.New()
	c := h.Mayfly("run", "--no-workspace", "--no-detect", "--", "cat")
	var seed [32]byte
	c.Stdin = io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), size), sent)
	counted := &counter{w: got}
	c.Stdout = counted
	c.Want(0)
	if counted.n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d bytes came back with SHA-256 %x; want %d with %x", counted.n, got.Sum(nil), size, sent.Sum(nil))
	}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.w.Write(p)
}

func writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
