package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const portSSH = 22

// sshServer is OpenSSH's server, once somebody needs it.
type sshServer struct {
	once sync.Once
	err  error
}

// SSHKey returns the file of the private key of git@HOST, for all hosts of the
// internet. It skips the test if OpenSSH's server is not installed.
func (l *Lab) SSHKey() string {
	l.t.Helper()
	l.needSSH()
	return filepath.Join(l.dir, "ssh_user_key")
}

// SSHKnownHosts returns a file of known hosts, with all of the internet in it. It
// skips the test if OpenSSH's server is not installed.
func (l *Lab) SSHKnownHosts() string {
	l.t.Helper()
	l.needSSH()
	return filepath.Join(l.dir, "ssh_known_hosts")
}

func (l *Lab) needSSH() {
	l.t.Helper()
	sshd := "/usr/sbin/sshd" // which wants to be called by its full name
	if _, err := os.Stat(sshd); errors.Is(err, fs.ErrNotExist) {
		l.t.Skip("needs OpenSSH's server; scripts/setup.sh test installs it")
	}
	l.ssh.once.Do(func() { l.ssh.err = l.startSSH(sshd) })
	if l.ssh.err != nil {
		l.t.Fatalf("lab: %v", l.ssh.err)
	}
}

// startSSH starts sshd and returns when it listens.
func (l *Lab) startSSH(sshd string) error {
	config, err := l.configureSSH()
	if err != nil {
		return err
	}
	mounts, err := l.sshMounts()
	if err != nil {
		return err
	}
	l.keep(mounts)
	argv := enter(l.inet, mounts, []string{sshd, "-D", "-e", "-f", config})
	cmd := exec.CommandContext(l.ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// With it die the sessions, which are not its children for long.
		Cloneflags: syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	ready := make(chan error, 1)
	l.start(func() {
		// The signal comes when the thread ends, so that has to stay.
		onThread(func() error {
			err := cmd.Start()
			if err != nil {
				ready <- err
				return err
			}
			awaitSSH(bufio.NewScanner(stderr), ready)
			return cmd.Wait()
		})
	})
	select {
	case err := <-ready:
		return err
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// awaitSSH sends nil to ready when sshd says that it listens, and reads what it says
// to the end.
func awaitSSH(lines *bufio.Scanner, ready chan<- error) {
	var said []string
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "Server listening") {
			ready <- nil
			for lines.Scan() {
			}
			return
		}
		said = append(said, lines.Text())
	}
	ready <- fmt.Errorf("start sshd: %s", strings.Join(said, "\n"))
}

// configureSSH makes keys and returns the file of sshd's configuration.
func (l *Lab) configureSSH() (string, error) {
	file := func(name string) string { return filepath.Join(l.dir, name) }
	for _, key := range []string{"ssh_host_key", "ssh_user_key"} {
		cmd := exec.CommandContext(l.ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", file(key))
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("make a key: %w\n%s", err, out)
		}
	}
	public, err := os.ReadFile(file("ssh_host_key.pub"))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file("ssh_known_hosts"), append([]byte("* "), public...), 0o644); err != nil {
		return "", err
	}
	settings := fmt.Sprintf(`ListenAddress 0.0.0.0:%d
HostKey %s
AuthorizedKeysFile %s
AllowUsers git
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
AcceptEnv GIT_PROTOCOL
`, portSSH, file("ssh_host_key"), file("ssh_user_key.pub"))
	return file("sshd_config"), os.WriteFile(file("sshd_config"), []byte(settings), 0o644)
}

// sshMounts makes what sshd sees of the computer: a user git, whose home is the
// directory of the repositories, and an empty directory for its unprivileged half.
func (l *Lab) sshMounts() (*os.File, error) {
	run := filepath.Join(l.dir, "run")
	for _, dir := range []string{l.repositories(), filepath.Join(run, "sshd")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	// The repositories belong to who runs the test, who is root.
	users := "git:x:0:0::" + l.repositories() + ":/bin/sh\nsshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n"
	passwd := filepath.Join(l.dir, "passwd")
	if err := os.WriteFile(passwd, []byte(users), 0o644); err != nil {
		return nil, err
	}
	return newMounts(map[string]string{"/run": run, "/etc/passwd": passwd})
}
