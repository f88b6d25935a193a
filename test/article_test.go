package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// TestArticle is the set-up of the article that mayfly follows: two machines with
// addresses of their own, whose workspaces are live at the same path, and which share the
// directory of an agent that is logged in once.
func TestArticle(t *testing.T) {
	h, lab := newLab(t, "--profile", "claude")
	h.Run(0, "net", "up")
	t.Cleanup(func() {
		h.Mayfly("rm", "--force", "emacsvm", "goprotobufvm").Run()
		h.Run(0, "net", "down")
	})
	agents := filepath.Join(h.Home, "claude-microvm")
	machines := []struct{ name, workspace, address, mac string }{
		{"emacsvm", filepath.Join(h.Home, "microvm/emacs"), "192.168.83.6", "02:00:00:00:00:05"},
		{"goprotobufvm", filepath.Join(h.Home, "microvm/goprotobuf"), "192.168.83.7", "02:00:00:00:00:06"},
	}
	// Machines of root work as another user.
	for _, dir := range []string{agents, machines[0].workspace, machines[1].workspace} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range machines {
		writeFile(t, filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/machines", m.name+".toml"), fmt.Sprintf(`version = 1
profiles = ["claude"]

[machine]
vcpus = 2
memory = "2GiB"

[workspace]
path = %q
mode = "share"

[[share]]
source = %q

[[volume]]
name = "var"
mount = "/var"
size = "8GiB"

[network]
mode = "bridge"
address = "%s/24"
mac = %q

[home]
shell = "zsh"
shell_init = "export GOPATH=$HOME/go; export PATH=$GOPATH/bin:$PATH"

[env]
CLAUDE_CONFIG_DIR = %q
`, m.workspace, agents, m.address, m.mac, agents))
	}
	// The next one gets the address behind theirs.
	if got := h.Run(0, "new", "dcs", "--network", "bridge").Stdout; !strings.Contains(got, "192.168.83.8/24, MAC 02:00:00:00:00:07") {
		t.Errorf("new: %q; want the next address", got)
	}
	h.Run(0, "rm", "dcs")
	h.Run(0, "start", "emacsvm", "goprotobufvm")

	config := h.Run(0, "ssh-config").Stdout
	configFile := filepath.Join(h.Home, "ssh_config")
	writeFile(t, configFile, config)
	_, key, _ := strings.Cut(config, "IdentityFile ")
	key, _, _ = strings.Cut(key, "\n")
	key = strings.Trim(key, "\"")
	// ssh runs a command as ssh does, in the network of the host.
	ssh := func(options []string, command string) (string, error) {
		cmd := exec.Command("ssh", append(append([]string{"-o", "BatchMode=yes", "-T"}, options...), command)...)
		cmd.Env, cmd.Dir = h.Env, h.Dir
		out, err := lab.Command(cmd).CombinedOutput()
		return string(out), err
	}
	hosts := filepath.Join(h.Home, "known_hosts")
	for i, m := range machines {
		public, err := os.ReadFile(h.File(m.name, "ssh_host_ed25519_key.pub"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, hosts, m.address+" "+string(public))
		const session = "id -u; cd %[1]s && pwd && echo from $(hostname) > made && echo login > %[2]s/login-%[3]d && ls %[2]s; echo $CLAUDE_CONFIG_DIR; claude --dangerously-skip-permissions --version"
		want := fmt.Sprintf("1000\n%s\n", m.workspace)
		for how, options := range map[string][]string{
			"address": {"-F", "/dev/null", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + hosts, "-o", "StrictHostKeyChecking=yes", "dev@" + m.address},
			"name":    {"-F", configFile, m.name + ".mayfly"},
		} {
			got, err := ssh(options, fmt.Sprintf(session, m.workspace, agents, i))
			if err != nil || !strings.HasPrefix(got, want) || !strings.Contains(got, "\nlogin-0\n") ||
				!strings.Contains(got, "\n"+agents+"\n") || !strings.Contains(got, "(Claude Code)") {
				t.Errorf("ssh to %s by its %s: %v\n%s", m.name, how, err, got)
			}
		}
		made := filepath.Join(m.workspace, "made")
		if data, err := os.ReadFile(made); err != nil || string(data) != "from "+m.name+"\n" {
			t.Errorf("on the host, the workspace has %q, %v", data, err)
		}
		// What it installs is gone after a restart, but for what is in /var.
		h.Run(0, "exec", m.name, "--", "sudo", "sh", "-c", "touch /usr/bin/planted /var/kept; sync")
	}
	c := h.Mayfly("exec", "emacsvm", "--", "sh", "-c", "trap '' TERM HUP; echo up; while :; do sleep 1; done")
	c.Start()
	c.Printed("up")
	begun := time.Now()
	h.Run(0, "stop", "emacsvm")
	if took := time.Since(begun); took > 6*time.Second+vm.Slack {
		t.Errorf("stop took %v; want 6 s at most", took)
	}
	c.Wait()
	h.Run(0, "start", "emacsvm")
	if got := h.Run(0, "exec", "emacsvm", "--", "sh", "-c", "cat made; ls /usr/bin/planted /var/kept 2>/dev/null; true").Stdout; got != "from emacsvm\n/var/kept\n" {
		t.Errorf("after a restart: %q", got)
	}
	// Thrown away and made again: what was planted in /var is gone, and so is the
	// identity; the directories are the user's.
	file := filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/machines/emacsvm.toml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h.Run(0, "rm", "emacsvm")
	writeFile(t, file, string(data))
	h.Run(0, "start", "emacsvm")
	if got := h.Run(0, "exec", "emacsvm", "--", "sh", "-c", "cat made; ls /var/kept 2>/dev/null; true").Stdout; got != "from emacsvm\n" {
		t.Errorf("after it was made again: %q", got)
	}
}
