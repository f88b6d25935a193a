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

// owner is a user of machines with names, apart from the one who measures.
type owner struct {
	b   *bench
	env []string
	dir string
}

// newOwner returns an owner who has no machine yet. Images and templates are shared.
func (b *bench) newOwner() (owner, error) {
	dir, err := os.MkdirTemp(b.dir, "owner-")
	if err != nil {
		return owner{}, err
	}
	env := append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
	home, err := os.UserHomeDir()
	if err != nil {
		return owner{}, err
	}
	for name, fallback := range map[string]string{"XDG_DATA_HOME": ".local/share", "XDG_CACHE_HOME": ".cache"} {
		if os.Getenv(name) == "" {
			env = append(env, name+"="+filepath.Join(home, fallback))
		}
	}
	return owner{b, append(env, "HOME="+dir), dir}, nil
}

// mayfly returns a call of mayfly.
func (o owner) mayfly(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, o.b.mayfly, args...)
	cmd.Env, cmd.Dir = o.env, o.dir
	return cmd
}

// measureNamed measures what many machines with names cost who lists them, and how one is
// reached by SSH.
func (b *bench) measureNamed(ctx context.Context) error {
	o, err := b.newOwner()
	if err != nil {
		return err
	}
	const machines = 50
	for i := range machines {
		if _, err := timed(o.mayfly(ctx, "new", fmt.Sprintf("m%d", i), "--profile", "go,claude", "--volume", "var:/var")); err != nil {
			return err
		}
	}
	var list []float64
	for range b.runs(20) {
		took, err := timed(o.mayfly(ctx, "ls"))
		if err != nil {
			return err
		}
		list = append(list, milliseconds(took))
	}
	b.add(newRow("ls", "ms", list, nil, "mayfly ls with 50 machines that are defined, the whole process").atMost(100))
	return b.measureSSH(ctx)
}

// measureSSH compares OpenSSH, through our server in the guest, with what goes without it.
func (b *bench) measureSSH(ctx context.Context) (err error) {
	o, err := b.newOwner()
	if err != nil {
		return err
	}
	const name = "ssh"
	for _, args := range [][]string{{"new", name, "--network", "none"}, {"start", name}} {
		if _, err := timed(o.mayfly(ctx, args...)); err != nil {
			return err
		}
	}
	defer func() {
		_, rmErr := timed(o.mayfly(context.WithoutCancel(ctx), "rm", name))
		err = errors.Join(err, rmErr)
	}()
	config, err := o.mayfly(ctx, "ssh-config").Output()
	if err != nil {
		return fmt.Errorf("mayfly ssh-config: %w", err)
	}
	file := filepath.Join(o.dir, "ssh_config")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	client := func(program string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, append([]string{"-F", file, "-o", "BatchMode=yes"}, args...)...)
		cmd.Env, cmd.Dir = o.env, o.dir
		return cmd
	}
	var ours, plain []float64
	const warm = 2
	for i := range b.runs(20) + warm {
		execTook, err := timed(o.mayfly(ctx, "exec", name, "--", "true"))
		if err != nil {
			return err
		}
		sshTook, err := timed(client("ssh", name+".mayfly", "true"))
		if err != nil {
			return err
		}
		if i >= warm {
			plain, ours = append(plain, milliseconds(execTook)), append(ours, milliseconds(sshTook))
		}
	}
	b.add(newRow("ssh", "ms", ours, plain, "ssh MACHINE.mayfly true, the whole process; baseline: mayfly exec MACHINE -- true").ratioAtMost(3))
	return b.measureSCP(ctx, o, name, client)
}

// sink is a program for the guest that takes all that is sent to its port.
const sink = `use IO::Socket::INET;
my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 9000, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $l->accept) { my $b; 1 while sysread($c, $b, 1 << 16); print $c "x"; close $c }`

// measureSCP compares a copy by scp with a stream of TCP into the guest.
func (b *bench) measureSCP(ctx context.Context, o owner, name string, client func(string, ...string) *exec.Cmd) error {
	const size = 64e6
	file := filepath.Join(o.dir, "data")
	data := make([]byte, size)
	rand.Read(data) // nothing compresses it
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	if _, err := timed(o.mayfly(ctx, "exec", name, "--", "sh", "-c", `setsid perl -e "$1" >/dev/null 2>&1 & sleep 1`, "sh", sink)); err != nil {
		return err
	}
	out, err := o.mayfly(ctx, "port", name, "add", "0:9000").Output()
	if err != nil {
		return fmt.Errorf("mayfly port: %w", err)
	}
	var ours, plain []float64
	for range b.runs(5) {
		took, err := timed(client("scp", "-q", file, name+".mayfly:/tmp/data"))
		if err != nil {
			return err
		}
		ours = append(ours, size/1e6/took.Seconds())
		begun := time.Now()
		if err := stream(strings.TrimSpace(string(out)), data); err != nil {
			return err
		}
		plain = append(plain, size/1e6/time.Since(begun).Seconds())
	}
	b.add(newRow("scp", "MB/s", ours, plain, "64 MB by scp to the machine's disk; baseline: as many by TCP to a program in it").atLeast(20))
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
