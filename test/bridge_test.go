package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNetworkBridge is the network of two machines with addresses of their own: their
// host reaches them, they reach the internet, and neither the local network, nor the
// host, nor each other.
func TestNetworkBridge(t *testing.T) {
	h, lab := newLab(t)
	for range 2 {
		h.Run(0, "net", "up")
	}
	t.Cleanup(func() {
		for range 2 {
			h.Run(0, "net", "down")
		}
		if out := lab.Run("ip", "-o", "link"); strings.Contains(out, "mayfly") {
			t.Errorf("after net down: %s", out)
		}
	})
	machines := map[string]struct{ address, mac string }{
		"a": {"192.168.83.6", "02:00:00:00:00:05"},
		"b": {"192.168.83.7", "02:00:00:00:00:06"},
	}
	for name, m := range machines {
		config := filepath.Join(h.Home, name+".toml")
		writeFile(t, config, fmt.Sprintf("version = 1\n[network]\nmode = \"bridge\"\naddress = \"%s/24\"\nmac = \"%s\"\n", m.address, m.mac))
		args := append([]string{"run", "--keep", "--name", name, "--config", config}, networkPackages...)
		h.Run(0, append(args, "--", "true")...)
		if got := h.Run(0, "exec", name, "--", "cat", "/sys/class/net/eth0/address").Stdout; got != m.mac+"\n" {
			t.Errorf("machine %s has the MAC %q; want %s", name, got, m.mac)
		}
		h.Run(0, "exec", name, "--", "sh", "-c",
			"echo here is "+name+" >/tmp/page; (cd /tmp && setsid python3 -m http.server 8000 >/dev/null 2>&1 &); for i in $(seq 100); do curl -s http://127.0.0.1:8000/page && exit 0; sleep 0.1; done; exit 1")
	}
	for name, m := range machines {
		if got := lab.Run("curl", "-sS", "-m", "20", "http://"+m.address+":8000/page"); got != "here is "+name+"\n" {
			t.Errorf("the host gets %q from %s", got, name)
		}
		if got := h.Run(0, "exec", name, "--", "curl", "-sS", "-m", "20", "http://web.example/hello").Stdout; got != "hello from web.example\n" {
			t.Errorf("%s gets %q from the internet", name, got)
		}
		// The agent's SSH server is at the usual port, with one key.
		if got := lab.Run("ssh-keyscan", "-T", "20", m.address); strings.Count(got, "\n"+m.address+" ssh-ed25519 ") != 1 ||
			strings.Contains(got, " ssh-rsa ") || strings.Contains(got, " ecdsa-") {
			t.Errorf("the host keys of %s are %q; want one, of ed25519", name, got)
		}
		other := "192.168.83.7"
		if name == "b" {
			other = "192.168.83.6"
		}
		for _, url := range []string{
			"http://192.168.1.1/", "http://10.9.0.1/", "http://10.9.0.2:8080/", "http://192.168.83.1:22/",
			"http://169.254.169.254/", "http://" + other + ":8000/page",
		} {
			begun := time.Now()
			r := h.Mayfly("exec", name, "--", "curl", "-sS", "-m", "10", url).Run()
			if r.Code == 0 {
				t.Errorf("%s reaches %s: %s", name, url, r.Stdout)
			} else if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("%s: %s is refused after %v; want at once", name, url, took)
			}
		}
	}
	for _, touched := range lab.Touched() {
		t.Errorf("%s was reached", touched)
	}
	if got := lab.Requests(); len(got) != len(machines) {
		t.Errorf("%d requests arrived; want one of each machine: %+v", len(got), got)
	}
	for name := range machines {
		h.Run(0, "rm", name)
	}
	if out := lab.Run("ip", "-o", "link"); strings.Contains(out, "mayfly-vm") {
		t.Errorf("a port of the bridge is left:\n%s", out)
	}
}
