package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// guestUser returns the user of h's machines and their home: as on the host, but for root.
func guestUser(t *testing.T, h *vm.Host) (name, home string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return "dev", "/home/dev"
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username, h.Home
}

// TestSystemdGuest is a machine whose process 1 is systemd: all that is true of others
// is true of it, its services are started and stopped, and Docker works in it.
func TestSystemdGuest(t *testing.T) {
	const port = 18090
	h := named(t, "--profile", "docker", "--volume", "units:/etc/systemd/system:64MiB", "--volume", "docker:/var/lib/docker:1GiB", "--publish", fmt.Sprint(port, ":8000"))
	writeFile(t, filepath.Join(h.Dir, "README"), "hello\n")
	if r := h.Run(0, "start", "m"); strings.Contains(r.Stderr, "systemd") {
		t.Errorf("start says: %s", r.Stderr)
	}
	sh := func(t *testing.T, script string) string {
		t.Helper()
		return h.For(t).Run(0, "exec", "m", "--", "sh", "-ec", script).Stdout
	}
	name, home := guestUser(t, h)
	t.Run("systemd", func(t *testing.T) {
		for script, want := range map[string]string{
			"cat /proc/1/comm; systemctl is-system-running":                                                     "systemd\nrunning\n",
			"systemctl show -p OOMPolicy -p TasksMax mayfly-agent":                                              "OOMPolicy=continue\nTasksMax=infinity\n",
			"systemctl list-jobs --no-legend":                                                                   "",
			"sudo systemd-analyze verify /run/systemd/system/mayfly-agent.service 2>&1":                         "",
			"journalctl -b -o cat | grep -c 'Reached target multi-user.target'":                                 "1\n",
			"ls /run/mayfly 2>&1 || sudo ls /run/mayfly":                                                        "ls: cannot open directory '/run/mayfly': Permission denied\nchanges\nmayfly-guest\n",
			"sudo systemctl stop mayfly-agent 2>&1 | grep -c refused":                                           "1\n",
			"cat README; id -un; stat -c %U README":                                                             "hello\n" + name + "\n" + name + "\n",
			"sudo modprobe dummy && lsmod | grep -c ^dummy":                                                     "1\n",
			"timedatectl show -p Timezone --value | grep -c . ; hostname":                                       "1\nm\n",
			"cut -d: -f3 /proc/self/cgroup":                                                                     "/mayfly.slice/mayfly-agent.service/programs\n",
			"sudo systemd-run -q --wait --pipe sh -c 'cut -d: -f3 /proc/self/cgroup' | grep -c ^/system.slice/": "1\n",
		} {
			if got := sh(t, script); got != want {
				t.Errorf("%s: %q; want %q", script, got, want)
			}
		}
		if got := h.For(t).Run(0, "inspect", "m").Stdout; !strings.Contains(got, "init systemd") {
			t.Errorf("inspect does not say what process 1 is:\n%s", got)
		}
	})
	t.Run("ports", func(t *testing.T) {
		sh(t, "sudo systemd-run -q systemd-socket-activate --accept --inetd -l 8000 cat; until ss -ltn | grep -q :8000; do sleep 0.1; done")
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), vm.Timeout)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(vm.Timeout))
		io.WriteString(conn, "echo\n")
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "echo\n" {
			t.Errorf("the port gives %q, %v", got, err)
		}
	})
	t.Run("sessions and ssh", func(t *testing.T) {
		h := h.For(t)
		if got := h.Run(0, "ssh", "m", "cat /proc/1/comm; pwd").Stdout; got != "systemd\n"+home+"\n" {
			t.Errorf("ssh: %q", got)
		}
		term := h.Terminal("shell", "m")
		term.Type("echo $((6 * 7)) $(tty)\r")
		term.Expect("42 /dev/pts/")
		term.Type("exit\r")
		ends(t, term, 0)
	})
	t.Run("docker", func(t *testing.T) { testDocker(t, sh) })
	t.Run("stop", func(t *testing.T) {
		sh(t, `cat > polite.sh <<'E'
trap 'echo ended > polite; exit' TERM
echo runs > polite
while :; do sleep 0.1; done
E
sudo systemd-run -q --working-directory="$PWD" sh polite.sh
sudo systemd-run -q sh -c 'trap "" TERM HUP; while :; do sleep 1; done'
setsid sh -c 'trap "" TERM HUP; while :; do sleep 1; done' >/dev/null 2>&1 &
until grep -q runs polite; do sleep 0.1; done`)
		begin := time.Now()
		h.For(t).Run(0, "stop", "m")
		took := time.Since(begin)
		if t.Logf("stopped in %v", took); took > 8*time.Second+vm.Slack {
			t.Errorf("stopped in %v; want at most 8 s", took)
		}
		h.For(t).Run(0, "start", "m")
		if got := sh(t, "cat polite"); got != "ended\n" {
			t.Errorf("a service that was to end says %q", got)
		}
		if got := sh(t, "docker run --rm tiny cat /proc/1/comm"); got != "cat\n" {
			t.Errorf("of Docker's volume is left: %q", got)
		}
	})
	t.Run("what fails", func(t *testing.T) {
		h := h.For(t)
		sh(t, `printf '[Service]\nType=oneshot\nExecStart=false\n' | sudo tee /etc/systemd/system/wrong.service >/dev/null
sudo systemctl -q add-wants multi-user.target wrong.service`)
		if r := h.Run(0, "restart", "m"); !strings.Contains(r.Stderr, "mayfly: in the machine failed: wrong.service; look with: mayfly exec m -- systemctl status\n") {
			t.Errorf("restart says: %s", r.Stderr)
		}
		// Without its agent nobody could reach it.
		if r := h.Mayfly("exec", "m", "--", "sudo", "pkill", "-KILL", "mayfly-guest").Run(); r.Code == 0 {
			t.Errorf("the machine lost its agent, and exec says nothing")
		}
		for deadline := time.Now().Add(vm.Timeout); !strings.Contains(h.Run(0, "ls").Stdout, "dead"); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the machine without its agent runs: %s", h.Run(0, "ls").Stdout)
			}
		}
	})
	t.Run("run", func(t *testing.T) {
		h := h.For(t)
		// Services do not write on while the changes are read.
		const script = "echo a > a; sudo systemd-run -q --working-directory=$PWD sh -c 'while :; do date; done > b'; until [ -s b ]; do sleep 0.1; done"
		h.Run(0, "run", "--cold", "--apply", "--profile", "docker", "--", "sh", "-c", script)
		for _, name := range []string{"a", "b"} {
			if fi, err := os.Stat(filepath.Join(h.Dir, name)); err != nil || fi.Size() == 0 {
				t.Errorf("%s was not applied: %v", name, err)
			}
		}
	})
	h.Run(0, "rm", "--force", "m")
}

// testDocker makes an image of the guest's own programs, since there is no registry,
// and runs it.
func testDocker(t *testing.T, sh func(*testing.T, string) string) {
	sh(t, `d=$(mktemp -d); f="/bin/bash /bin/cat /bin/sleep"
cp --parents -L $f $(ldd $f | grep -o '/[^ :]*' | sort -u) $d 2>/dev/null
tar -C $d -c . | docker import - tiny >/dev/null`)
	for script, want := range map[string]string{
		"docker run --rm tiny bash -c 'echo $((6 * 7)) in $$'": "42 in 1\n",
		"docker run --rm -v $PWD:/w tiny cat /w/README":        "hello\n",
		// The bridge to containers, and the way back.
		"docker run --rm tiny bash -c 'exec 3<>/dev/tcp/172.17.0.1/8000; echo over the bridge >&3; read l <&3; echo $l'": "over the bridge\n",
		"docker info --format '{{.Driver}} {{.CgroupVersion}}'":                                                          "overlay2 2\n",
		"docker run -d --name web tiny sleep 100 >/dev/null; docker exec web cat /proc/1/comm; docker rm -f web":         "sleep\nweb\n",
		"docker compose version --short | grep -c . ; docker buildx version | grep -c .":                                 "1\n1\n",
	} {
		if got := sh(t, script); got != want {
			t.Errorf("%s: %q; want %q", script, got, want)
		}
	}
}
