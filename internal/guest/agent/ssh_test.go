package agent

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
)

// sshUser is who logs in in these tests, whoever runs them.
const sshUser = "me"

// serveSSH gives the agent of a helper process an SSH server, with the keys in home.
func serveSSH(a *agent, home string) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(home, name))
		if err != nil {
			panic(err)
		}
		return data
	}
	m := a.machine
	m.user.Name, m.user.Home = sshUser, home
	m.env = mergeEnv(m.env, []string{"HOME=" + home, "USER=" + sshUser, "SHELL=/bin/bash"})
	err := a.setUpSSH(m, &wire.SSH{
		HostKey: read("host_key"), AuthorizedKeys: read("authorized"), Dir: filepath.Join(home, "workspace"),
	})
	if err != nil {
		panic(err)
	}
}

// machineSSH is a guest with an SSH server, and a host with OpenSSH's programs, to
// which it is the host m.
type machineSSH struct {
	t      testing.TB
	home   string // in the guest
	dir    string // of the host
	config string
	addr   string
}

func startGuestSSH(t testing.TB) *machineSSH {
	t.Helper()
	for _, program := range []string{"ssh", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	m := &machineSSH{t: t, home: t.TempDir(), dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(m.home, "workspace"), 0o755); err != nil {
		t.Fatal(err)
	}
	hostKey, err := sshkey.Generate("m")
	if err != nil {
		t.Fatal(err)
	}
	host, err := sshkey.PublicOf(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	user, err := sshkey.Ensure(filepath.Join(m.dir, "id"), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sshkey.Ensure(filepath.Join(m.dir, "stranger"), "test"); err != nil {
		t.Fatal(err)
	}
	m.write(filepath.Join(m.home, "host_key"), string(hostKey))
	m.write(filepath.Join(m.home, "authorized"), "# who may log in\n\n"+string(sshkey.AuthorizedKeys(user)))
	m.write(filepath.Join(m.dir, "known_hosts"), host.KnownHost("m"))

	g := startGuest(t, "SSH_HOME="+m.home)
	// The host's side of it: every connection gets a stream of its own.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { joinGuest(t, g, conn) })
		}
	})
	m.addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(m.addr)
	m.config = filepath.Join(m.dir, "config")
	m.write(m.config, fmt.Sprintf(`Host m
    HostName 127.0.0.1
    Port %s
    User %s
    HostKeyAlias m
    IdentityFile %s
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile %s
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
`, port, sshUser, filepath.Join(m.dir, "id"), filepath.Join(m.dir, "known_hosts")))
	return m
}

func joinGuest(t testing.TB, g *guest, conn net.Conn) {
	defer conn.Close()
	stream, err := g.session.Open()
	if err != nil {
		return
	}
	defer stream.Close()
	if err := client.SSH(stream, nil); err != nil {
		t.Error(err)
		return
	}
	go func() {
		io.Copy(stream, conn)
		stream.Close()
	}()
	io.Copy(conn, stream)
}

func (m *machineSSH) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// command is a program of the host's that knows the machine as m.
func (m *machineSSH) command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s", program)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = m.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "LANG=C.UTF-8",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_SSH_COMMAND=ssh -F " + m.config,
	}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (m *machineSSH) ssh(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return m.command(t, "ssh", append([]string{"-F", m.config}, args...)...)
}

// run runs cmd and fails the test unless it exits with code.
func runSSH(t testing.TB, cmd *exec.Cmd, code int) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%q: exit code %d; want %d\n%s%s", cmd.Args, got, code, out.String(), err.String())
	}
	return out.String(), err.String()
}

func TestSSHExec(t *testing.T) {
	m := startGuestSSH(t)
	for _, tt := range []struct {
		name   string
		args   []string
		stdin  string
		code   int
		stdout string
		stderr string
	}{
		{"command", []string{"m", "echo out; echo err >&2; exit 3"}, "", 3, "out\n", "err\n"},
		{"input", []string{"m", "cat; echo end"}, "in", 0, "inend\n", ""},
		{"shell", []string{"-T", "m"}, "echo $0; shopt -q login_shell && echo login; exit 7\n", 7, "-bash\nlogin\n", ""},
		{"not a login", []string{"m", "shopt -q login_shell || echo no"}, "", 0, "no\n", ""},
		{"killed", []string{"m", "kill -KILL $$"}, "", 255, "", ""}, // what OpenSSH makes of it
		{"missing", []string{"m", "no-such-command"}, "", 127, "", "bash: line 1: no-such-command: command not found\n"},
		{"home", []string{"m", "pwd; echo $HOME $USER"}, "", 0, m.home + "\n" + m.home + " me\n", ""},
		{"variables", []string{"-o", "SetEnv=LC_TEST=C COLORTERM=truecolor LD_PRELOAD=/x GIT_PROTOCOL=version=2", "m", "echo $LC_TEST $COLORTERM $LD_PRELOAD $GIT_PROTOCOL $KEEP"}, "", 0, "C truecolor version=2 base\n", ""},
		{"unknown locale", []string{"-o", "SetEnv=LC_ALL=xx_XX.UTF-8", "m", "echo $LC_ALL $LANG"}, "", 0, "C.UTF-8\n", ""},
		{"behind SSH", []string{"m", "echo $SSH_CONNECTION"}, "", 0, "UNKNOWN 65535 UNKNOWN 65535\n", ""},
		{"no agent", []string{"-A", "m", "echo agent=$SSH_AUTH_SOCK"}, "", 0, "agent=\n", ""},
		{"no terminal", []string{"m", "test -t 0"}, "", 1, "", ""},
		{"background", []string{"m", "sleep 1000 & echo done; kill $! 2>/dev/null; sleep 1000 & disown; (sleep 3; kill $!) & disown; true"}, "", 0, "done\n", ""},
		{"no descriptors", []string{"m", "ls /proc/self/fd | wc -l"}, "", 0, "4\n", ""}, // three, and ls's own
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := m.ssh(t, tt.args...)
			cmd.Stdin = strings.NewReader(tt.stdin)
			stdout, stderr := runSSH(t, cmd, tt.code)
			if stdout != tt.stdout || tt.stderr != "" && stderr != tt.stderr {
				t.Errorf("stdout %q, stderr %q; want %q, %q", stdout, stderr, tt.stdout, tt.stderr)
			}
		})
	}
}

func TestSSHRefuses(t *testing.T) {
	m := startGuestSSH(t)
	t.Run("another user", func(t *testing.T) {
		_, stderr := runSSH(t, m.ssh(t, "-l", "root", "m", "true"), 255)
		if !strings.Contains(stderr, "the user of this machine is me") {
			t.Errorf("ssh says %q", stderr)
		}
	})
	t.Run("another key", func(t *testing.T) {
		config := filepath.Join(m.dir, "stranger.config")
		data, err := os.ReadFile(m.config)
		if err != nil {
			t.Fatal(err)
		}
		m.write(config, strings.Replace(string(data), filepath.Join(m.dir, "id"), filepath.Join(m.dir, "stranger"), 1))
		_, stderr := runSSH(t, m.command(t, "ssh", "-F", config, "m", "true"), 255)
		if !strings.Contains(stderr, "Permission denied (publickey)") {
			t.Errorf("ssh says %q", stderr)
		}
	})
	t.Run("another host key", func(t *testing.T) {
		known := filepath.Join(m.dir, "other_hosts")
		key, err := os.ReadFile(filepath.Join(m.dir, "stranger.pub"))
		if err != nil {
			t.Fatal(err)
		}
		m.write(known, "m "+string(key))
		_, stderr := runSSH(t, m.ssh(t, "-o", "UserKnownHostsFile="+known, "m", "true"), 255)
		if !strings.Contains(stderr, "Host key verification failed") {
			t.Errorf("ssh says %q", stderr)
		}
	})
	t.Run("a guest without a server", func(t *testing.T) {
		err := client.SSH(startGuest(t).open(t), nil)
		if err == nil || !strings.Contains(err.Error(), "it has none") {
			t.Errorf("SSH = %v; want that there is no server", err)
		}
	})
}

// bulk is how many bytes go each way. The race detector makes it slow.
const bulk = 100 << 20

// patience is for what moves many bytes.
const patience = 2 * time.Minute

// random is bulk bytes that do not repeat, and the same ones for the same seed.
func random(seed byte, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
}

func sum(t testing.TB, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestSSHBulk(t *testing.T) {
	m := startGuestSSH(t)
	for name, command := range map[string]string{
		"both ways":   "cat",
		"slow reader": "sleep 1; cat",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := m.ssh(t, "m", command)
			cmd.Stdin = random(1, bulk)
			h := sha256.New()
			cmd.Stdout = h
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%x", h.Sum(nil)), sum(t, random(1, bulk)); got != want {
				t.Error("what came back is not what was sent")
			}
		})
	}
}

// terminal starts ssh in a terminal of 30 lines and 90 columns.
func (m *machineSSH) terminal(t *testing.T, args ...string) (*exec.Cmd, *os.File, *screen) {
	t.Helper()
	cmd := m.ssh(t, append([]string{"-t"}, args...)...)
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 90})
	if err != nil {
		t.Fatal(err)
	}
	return cmd, tty, newScreen(t, tty)
}

func TestSSHTerminal(t *testing.T) {
	m := startGuestSSH(t)
	t.Run("shell", func(t *testing.T) {
		cmd, tty, screen := m.terminal(t, "m")
		fmt.Fprintln(tty, `PS1=; stty -echo; echo ready-$((1+1))`)
		screen.expect("ready-2")
		fmt.Fprintln(tty, `echo $(stty size) $TERM $(pwd) $(tty | cut -c1-9); stty -a | grep -o '[-]*iutf8'`)
		screen.expect("30 90 xterm-256color " + filepath.Join(m.home, "workspace") + " /dev/pts/")
		screen.expect("iutf8")
		fmt.Fprintln(tty, "exit 5")
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 5 {
			t.Errorf("exit code %d; want 5\n%s", got, screen)
		}
	})
	t.Run("resize", func(t *testing.T) {
		cmd, tty, screen := m.terminal(t, "m",
			`trap 'echo resized $(stty size)' WINCH; echo ready-$((1+1)); until [ "$(stty size)" = "40 120" ]; do sleep 0.05; done; exit 6`)
		screen.expect("ready-2")
		pty.Setsize(tty, &pty.Winsize{Rows: 40, Cols: 120})
		screen.expect("resized 40 120")
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 6 {
			t.Errorf("exit code %d; want 6\n%s", got, screen)
		}
	})
	// The key for it interrupts what runs, as the terminal of the guest says.
	t.Run("interrupt", func(t *testing.T) {
		cmd, tty, screen := m.terminal(t, "m", "trap 'echo interrupted; exit 7' INT; echo ready-$((1+1)); while :; do sleep 0.05; done")
		screen.expect("ready-2")
		tty.WriteString("\x03")
		screen.expect("interrupted")
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 7 {
			t.Errorf("exit code %d; want 7\n%s", got, screen)
		}
	})
}

// screen is what a terminal shows.
type screen struct {
	t    testing.TB
	mu   sync.Mutex
	text strings.Builder
	read int
}

func newScreen(t testing.TB, tty *os.File) *screen {
	s := &screen{t: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(s, tty) // until it is closed
	}()
	t.Cleanup(func() {
		tty.Close()
		<-done
	})
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) expect(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		all := s.String()
		if i := strings.Index(all[s.read:], text); i >= 0 {
			s.read += i + len(text)
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no %q on the screen:\n%s", text, all)
		}
	}
}

// A client that is gone takes its programs along, whatever they do.
func TestSSHVanishingClient(t *testing.T) {
	m := startGuestSSH(t)
	for name, script := range map[string]string{
		"silent":   "echo $$; exec sleep 1000",
		"writing":  "echo $$; exec yes",
		"reading":  "echo $$; exec cat",
		"stubborn": "trap '' HUP; echo $$; exec sleep 1000",
	} {
		for _, tty := range []string{"-T", "-tt"} {
			t.Run(name+tty, func(t *testing.T) {
				t.Parallel()
				cmd := m.ssh(t, tty, "m", script)
				stdin, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				defer stdin.Close()
				stdout, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				var line []byte
				for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b...) {
					if _, err := io.ReadFull(stdout, b); err != nil {
						t.Fatal(err)
					}
				}
				pid, err := strconv.Atoi(strings.TrimSpace(string(line)))
				if err != nil || pid <= 1 {
					t.Fatalf("%q is no process", line)
				}
				cmd.Process.Kill()
				cmd.Wait()
				waitGone(t, pid)
			})
		}
	}
}
