package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// sshHost is a user with OpenSSH's programs, who knows machines by the configuration
// that mayfly prints.
type sshHost struct {
	*vm.Host
	config string
}

func newSSHHost(t *testing.T) *sshHost {
	t.Helper()
	for _, program := range []string{"ssh", "scp", "sftp"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	vm.Lock(t)
	h := &sshHost{Host: vm.New(t)}
	h.config = filepath.Join(h.Home, "ssh_config")
	writeFile(t, h.config, h.Run(0, "ssh-config").Stdout)
	return h
}

// run runs a program of OpenSSH's and fails the test unless it exits with code.
func (h *sshHost) run(t *testing.T, stdin io.Reader, code int, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append([]string{"-F", h.config}, args...)...)
	cmd.Env = slices.Clone(h.Env)
	cmd.Dir = h.Dir
	cmd.Stdin = stdin
	cmd.WaitDelay = 10 * time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	watchdog := time.AfterFunc(vm.Timeout, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%s %q: exit code %d; want %d\n%s%s\n%s", program, args, got, code, vm.Clip(out.String()), errOut.String(), h.Logs())
	}
	return out.String(), errOut.String()
}

// A machine that has no network at all is reached by SSH, as every program that uses
// it expects.
func TestSSH(t *testing.T) {
	h := newSSHHost(t)
	start := func() {
		t.Helper()
		h.Run(0, "run", "--keep", "--name", "m", "--no-detect", "--network", "none", "--", "true")
	}
	start()
	user := strings.TrimSpace(h.Run(0, "exec", "m", "--", "id", "-un").Stdout)
	home := strings.TrimSpace(h.Run(0, "exec", "m", "--", "sh", "-c", "echo $HOME").Stdout)

	t.Run("mayfly ssh", func(t *testing.T) {
		r := h.For(t).Run(3, "ssh", "m", "--", "id -un; pwd; echo err >&2; exit 3")
		if want := user + "\n" + home + "\n"; r.Stdout != want || r.Stderr != "err\n" {
			t.Errorf("mayfly ssh prints %q, %q; want %q, err", r.Stdout, r.Stderr, want)
		}
		h.For(t).Run(127, "ssh", "m", "--", "no-such-command")
	})
	t.Run("ssh", func(t *testing.T) {
		begun := time.Now()
		stdout, _ := h.run(t, nil, 0, "ssh", "m.mayfly", "sudo -n id -u; id -Gn; echo $MAYFLY $SHELL; umask")
		t.Logf("one command took %v", time.Since(begun))
		groups := h.Run(0, "exec", "m", "--", "id", "-Gn").Stdout
		if want := "0\n" + groups + "1 /usr/bin/bash\n0022\n"; stdout != want {
			t.Errorf("ssh prints %q; want %q", stdout, want)
		}
		_, stderr := h.run(t, nil, 255, "ssh", "-l", "root", "m.mayfly", "true")
		if !strings.Contains(stderr, "the user of this machine is "+user) {
			t.Errorf("as root ssh says %q", stderr)
		}
		_, stderr = h.run(t, nil, 255, "ssh", "nobody.mayfly", "true")
		if !strings.Contains(stderr, "mayfly: error: no such machine: nobody") {
			t.Errorf("for no machine ssh says %q", stderr)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		c := h.For(t).Terminal("ssh", "m")
		c.Expect("$ ")
		c.Type("stty size; echo $TERM; pwd; tput cols; shopt -q login_shell && echo lo''gin\n")
		c.Expect("24 80\r\n")
		c.Expect("xterm-256color\r\n")
		c.Expect(h.Dir + "\r\n")
		c.Expect("80\r\n")
		c.Expect("login\r\n")
		c.Resize(50, 132)
		c.Type("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo resi''zed\n")
		c.Expect("resized")
		c.Type("exit 6\n")
		if r := c.Wait(); r.Code != 6 {
			t.Errorf("exit code %d; want 6\n%s", r.Code, c.Screen())
		}
	})
	t.Run("files", func(t *testing.T) { testSSHFiles(t, h, user) })
	t.Run("forward", func(t *testing.T) { testSSHForward(t, h) })
	t.Run("bulk", func(t *testing.T) {
		const size = 100 << 20
		begun := time.Now()
		random := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), size) }
		want := sha256.New()
		io.Copy(want, random())
		stdout, _ := h.run(t, random(), 0, "ssh", "m.mayfly", "cat")
		if got := sha256.Sum256([]byte(stdout)); !bytes.Equal(got[:], want.Sum(nil)) {
			t.Errorf("%d bytes came back, and not the %d that were sent", len(stdout), size)
		}
		t.Logf("%d MiB there and back took %v", size>>20, time.Since(begun))
	})
	t.Run("another machine of this name", func(t *testing.T) {
		h.Run(0, "rm", "m")
		h.run(t, nil, 255, "ssh", "m.mayfly", "true")
		start()
		h.run(t, nil, 0, "ssh", "m.mayfly", "true")
	})
	h.Run(0, "rm", "m")
}

func testSSHFiles(t *testing.T, h *sshHost, user string) {
	file := filepath.Join(h.Home, "file")
	writeFile(t, file, strings.Repeat("mayfly\n", 1<<16))
	h.run(t, nil, 0, "scp", "-p", file, "m.mayfly:up")
	if got := h.Run(0, "exec", "m", "--", "sh", "-c", "cd; stat -c '%U %s' up; pgrep -fx 'mayfly-guest [s]ftp' || true").Stdout; got != user+" 458752\n" {
		t.Errorf("after scp the file, and the server that is left, are %q", got)
	}
	h.run(t, nil, 0, "scp", "m.mayfly:up", filepath.Join(h.Home, "down"))
	if got, err := os.ReadFile(filepath.Join(h.Home, "down")); err != nil || string(got) != strings.Repeat("mayfly\n", 1<<16) {
		t.Errorf("what came back is %d bytes, %v", len(got), err)
	}
	// The server has the user's rights and no more.
	if _, stderr := h.run(t, nil, 1, "scp", file, "m.mayfly:/etc/mine"); !strings.Contains(stderr, "ermission denied") {
		t.Errorf("scp into /etc says %q", stderr)
	}
	if _, stderr := h.run(t, nil, 1, "scp", "m.mayfly:/etc/shadow", file); !strings.Contains(stderr, "ermission denied") {
		t.Errorf("scp of /etc/shadow says %q", stderr)
	}
	stdout, _ := h.run(t, strings.NewReader("mkdir d\nput "+file+" d/x\nls -l d\nrm d/x\nrmdir d\n"), 0, "sftp", "-b", "-", "m.mayfly")
	if !strings.Contains(stdout, " 458752 ") {
		t.Errorf("sftp prints %q", stdout)
	}
}

// testSSHForward goes from this computer into the machine (-L), and from a port
// there back to this computer (-R).
func testSSHForward(t *testing.T, h *sshHost) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello from the host\n")
	}))
	defer server.Close()
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.CommandContext(t.Context(), "ssh", "-F", h.config, "-o", "ExitOnForwardFailure=yes",
		"-R", "7000:"+strings.TrimPrefix(server.URL, "http://"), "-L", socket+":localhost:7000", "m.mayfly",
		"curl -sS http://localhost:7000/; echo ready; cat")
	cmd.Env = h.Env
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(vm.Timeout, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	want := "hello from the host\nready\n"
	got := make([]byte, len(want))
	if n, err := io.ReadFull(stdout, got); err != nil || string(got) != want {
		t.Errorf("in the machine curl prints %q, %v", got[:n], err)
	}
	out, err := exec.Command("curl", "-sS", "-m", "30", "--unix-socket", socket, "http://localhost/").Output()
	if err != nil || string(out) != "hello from the host\n" {
		t.Errorf("through the machine and back came %q, %v", out, err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(fmt.Errorf("ssh: %w", err))
	}
}
