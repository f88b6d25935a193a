package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSSHFiles(t *testing.T) {
	m := startGuestSSH(t)
	big := filepath.Join(m.dir, "big")
	f, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, random(2, bulk/4)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	want := sum(t, random(2, bulk/4))
	same := func(t *testing.T, name string) {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := sum(t, f); got != want {
			t.Errorf("%s is not what was sent", name)
		}
	}
	t.Run("scp", func(t *testing.T) {
		for _, protocol := range []string{"-s", "-O"} { // SFTP; the old one, which is a program in the guest
			runSSH(t, m.command(t, "scp", protocol, "-pF", m.config, big, "m:up"+protocol), 0)
			same(t, filepath.Join(m.home, "up"+protocol))
			runSSH(t, m.command(t, "scp", protocol, "-F", m.config, "m:up"+protocol, "down"+protocol), 0)
			same(t, filepath.Join(m.dir, "down"+protocol))
		}
		runSSH(t, m.command(t, "scp", "-F", m.config, "m:missing", "x"), 1)
	})
	t.Run("sftp", func(t *testing.T) {
		cmd := m.command(t, "sftp", "-b", "-", "-F", m.config, "m")
		cmd.Stdin = strings.NewReader(strings.Join([]string{
			"pwd", "mkdir d", "put " + big + " d/a", "rename d/a d/b", "chmod 640 d/b", "symlink b d/link", "get d/link sftp-down",
			"ls -l d", "put " + big + " d/gone", "rm d/gone", "mkdir d/e", "rmdir d/e", "df"}, "\n"))
		stdout, _ := runSSH(t, cmd, 0)
		if !strings.Contains(stdout, "Remote working directory: "+m.home+"\n") {
			t.Errorf("sftp says %q; want that it begins in %s", stdout, m.home)
		}
		same(t, filepath.Join(m.home, "d/b"))
		same(t, filepath.Join(m.dir, "sftp-down"))
		fi, err := os.Stat(filepath.Join(m.home, "d/b"))
		if err != nil || fi.Mode().Perm() != 0o640 {
			t.Errorf("d/b has the mode %v, %v; want 640", fi.Mode(), err)
		}
		if names, _ := filepath.Glob(filepath.Join(m.home, "d/*")); len(names) != 2 {
			t.Errorf("in d are %q; want b and link", names)
		}
	})
	t.Run("rsync", func(t *testing.T) {
		for range 2 { // the second time there is nothing to do
			runSSH(t, m.command(t, "rsync", "-a", "-e", "ssh -F "+m.config, big, "m:rsync/"), 0)
		}
		same(t, filepath.Join(m.home, "rsync/big"))
		runSSH(t, m.command(t, "rsync", "-a", "-e", "ssh -F "+m.config, "m:rsync/big", "rsync-down"), 0)
		same(t, filepath.Join(m.dir, "rsync-down"))
	})
	t.Run("git", func(t *testing.T) {
		git := func(args ...string) {
			t.Helper()
			runSSH(t, m.command(t, "git", append([]string{"-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "protocol.version=2"}, args...)...), 0)
		}
		runSSH(t, m.ssh(t, "m", "git init -q --bare -b main repo.git"), 0)
		git("init", "-q", "-b", "main", "work")
		git("-C", "work", "commit", "-q", "--allow-empty", "-m", "first")
		git("-C", "work", "push", "-q", "m:repo.git", "main")
		git("clone", "-q", "m:repo.git", "clone")
		git("-C", "clone", "log", "-1", "--format=%s")
	})
}

func TestSSHForward(t *testing.T) {
	m := startGuestSSH(t)
	// What listens in the guest, as far as its agent is concerned.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Write(bytes.ToUpper(body))
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())

	post := func(t *testing.T, url string) {
		t.Helper()
		body := bytes.Repeat([]byte("mayfly\n"), 1<<20)
		// ssh waits for connections that are kept.
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
		resp, err := c.Post(url, "text/plain", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, bytes.ToUpper(body)) {
			t.Errorf("%d bytes came back, %v; want the %d that were sent, in capitals", len(got), err, len(body))
		}
	}
	t.Run("local", func(t *testing.T) {
		socket := filepath.Join(m.dir, "l.sock")
		stop := m.background(t, "-L", socket+":localhost:"+port, "m", "echo up; cat")
		defer stop()
		for range 3 {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: guest\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
			if got, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), "\r\n\r\nABC") {
				t.Errorf("through the forwarded port came %q, %v", got, err)
			}
		}
	})
	t.Run("dynamic port", func(t *testing.T) {
		free := freePort(t)
		stop := m.background(t, "-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:%s", free, port), "m", "echo up; cat")
		defer stop()
		post(t, fmt.Sprintf("http://127.0.0.1:%d", free))
	})
	t.Run("remote", func(t *testing.T) {
		free := freePort(t)
		stop := m.background(t, "-R", fmt.Sprintf("%d:127.0.0.1:%s", free, port), "-o", "ExitOnForwardFailure=yes", "m", "echo up; cat")
		post(t, fmt.Sprintf("http://127.0.0.1:%d", free))
		post(t, fmt.Sprintf("http://[::1]:%d", free))
		stop()
		// The port ends with the client.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", free))
			if err == nil {
				l.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the port is listened on after its client is gone")
			}
		}
	})
	t.Run("remote, of root", func(t *testing.T) {
		_, stderr := runSSH(t, m.ssh(t, "-R", "80:127.0.0.1:"+port, "-o", "ExitOnForwardFailure=yes", "m", "true"), 255)
		if !strings.Contains(stderr, "remote port forwarding failed") {
			t.Errorf("ssh says %q", stderr)
		}
	})
	t.Run("standard streams", func(t *testing.T) {
		cmd := m.ssh(t, "-W", "127.0.0.1:"+port, "m")
		cmd.Stdin = strings.NewReader("POST / HTTP/1.1\r\nHost: guest\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
		if stdout, _ := runSSH(t, cmd, 0); !strings.HasSuffix(stdout, "\r\n\r\nABC") {
			t.Errorf("ssh -W prints %q", stdout)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		_, stderr := runSSH(t, m.ssh(t, "-W", "127.0.0.1:"+strconv.Itoa(freePort(t)), "m"), 255)
		if !strings.Contains(stderr, "connection refused") {
			t.Errorf("ssh says %q", stderr)
		}
	})
}

// background runs ssh until stop, and returns when its command has printed a line.
func (m *machineSSH) background(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	cmd := m.ssh(t, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
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
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("ssh prints %q, %v\n%s", line, err, stderr.String())
	}
	return func() {
		stdin.Close() // ends the command, and so ssh
		if err := cmd.Wait(); err != nil {
			if _, ok := err.(*exec.ExitError); !ok {
				t.Error(err)
			}
		}
	}
}

// freePort returns a port of the loopback interface that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
