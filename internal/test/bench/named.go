package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// measureList measures what many machines with names cost who lists them.
func (b *bench) measureList(ctx context.Context) error {
	const machines = 50
	var users []user
	for _, p := range b.programs {
		u, err := b.newUser(p)
		if err != nil {
			return err
		}
		for i := range machines {
			if err := run(u.mayfly(ctx, "new", fmt.Sprintf("m%d", i), "--profile", "go,claude", "--volume", "var:/var")); err != nil {
				return err
			}
		}
		users = append(users, u)
	}
	list := b.newSeries()
	err := b.inTurns(b.runs(20), func(i int, _ program) error {
		took, err := timed(users[i].mayfly(ctx, "ls"))
		list[i].add(milliseconds(took))
		return err
	})
	if err != nil {
		return err
	}
	b.add(list.row("ls", "ms", "mayfly ls with 50 machines that are defined, the whole process").atMost(100))
	return nil
}

// sshName is the name of a machine that OpenSSH goes to.
const sshName = "ssh"

// sshMachine is a running machine of a user's own.
type sshMachine struct {
	user
	config string // ssh_config(5)
}

func (m sshMachine) close(ctx context.Context) error {
	return run(m.mayfly(context.WithoutCancel(ctx), "rm", sshName))
}

// client returns a call of ssh or scp.
func (m sshMachine) client(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, append([]string{"-F", m.config, "-o", "BatchMode=yes"}, args...)...)
	cmd.Env, cmd.Dir = m.env, m.dir
	return cmd
}

// withSSH starts a machine of each program, and ends them when use returns.
func (b *bench) withSSH(ctx context.Context, use func([]sshMachine) error) (err error) {
	var machines []sshMachine
	defer func() {
		for _, m := range machines {
			err = errors.Join(err, m.close(ctx))
		}
	}()
	for _, p := range b.programs {
		u, err := b.newUser(p)
		if err != nil {
			return err
		}
		m := sshMachine{u, filepath.Join(u.dir, "ssh_config")}
		if err := run(m.mayfly(ctx, "new", sshName, "--network", "none")); err != nil {
			return err
		}
		machines = append(machines, m)
		if err := run(m.mayfly(ctx, "start", sshName)); err != nil {
			return err
		}
		config, err := output(m.mayfly(ctx, "ssh-config"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(m.config, config, 0o600); err != nil {
			return err
		}
	}
	return use(machines)
}

// measureSSH compares a command by OpenSSH, through our server in the guest, with what
// goes without it.
func (b *bench) measureSSH(ctx context.Context) error {
	ssh := b.newSeries()
	const warm = 2
	round := 0
	err := b.withSSH(ctx, func(machines []sshMachine) error {
		return b.inTurns(b.runs(20)+warm, func(i int, _ program) error {
			m := machines[i]
			plain, err := timed(m.mayfly(ctx, "exec", sshName, "--", "true"))
			if err != nil {
				return err
			}
			ours, err := timed(m.client(ctx, "ssh", sshName+".mayfly", "true"))
			if round++; round > warm*len(machines) {
				ssh[i].compare(milliseconds(ours), milliseconds(plain))
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	b.add(ssh.row("ssh", "ms", "ssh MACHINE.mayfly true, the whole process; baseline: mayfly exec MACHINE -- true").ratioAtMost(3))
	return nil
}

// sink is a program for the guest that takes all that is sent to its port. It goes into
// the background when it listens.
const sink = `use IO::Socket::INET; use POSIX;
my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 9000, Listen => 5, ReuseAddr => 1) or die;
fork and exit; POSIX::setsid(); open $_, "+<", "/dev/null" for *STDIN, *STDOUT, *STDERR;
while (my $c = $l->accept) { my $b; 1 while sysread($c, $b, 1 << 16); print $c "x"; close $c }`

// startSink starts the sink in the machine and returns the host's address of it.
func (m sshMachine) startSink(ctx context.Context) (string, error) {
	if err := run(m.mayfly(ctx, "exec", sshName, "--", "perl", "-e", sink)); err != nil {
		return "", err
	}
	address, err := output(m.mayfly(ctx, "port", sshName, "add", "0:9000"))
	return strings.TrimSpace(string(address)), err
}

// measureSCP compares a copy by scp with a stream of TCP into the guest.
func (b *bench) measureSCP(ctx context.Context) error {
	const size = 64e6
	file := filepath.Join(b.dir, "data")
	data := make([]byte, size)
	rand.Read(data) // nothing compresses it
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	scp := b.newSeries()
	err := b.withSSH(ctx, func(machines []sshMachine) error {
		addresses := make([]string, len(machines))
		for i, m := range machines {
			var err error
			if addresses[i], err = m.startSink(ctx); err != nil {
				return err
			}
		}
		return b.inTurns(b.runs(5), func(i int, _ program) error {
			took, err := timed(machines[i].client(ctx, "scp", "-q", file, sshName+".mayfly:/tmp/data"))
			if err != nil {
				return err
			}
			begun := time.Now()
			if err := stream(addresses[i], data); err != nil {
				return err
			}
			scp[i].compare(size/1e6/took.Seconds(), size/1e6/time.Since(begun).Seconds())
			return nil
		})
	})
	if err != nil {
		return err
	}
	b.add(scp.row("scp", "MB/s", "64 MB by scp to the machine's disk; baseline: as many by TCP to a program in it").atLeast(20))
	return nil
}

// stream sends data to a sink, and waits until that has it all.
func stream(address string, data []byte) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(data); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, conn); err != nil || n != 1 {
		return fmt.Errorf("the guest's answer: %d bytes, %w", n, err)
	}
	return nil
}
