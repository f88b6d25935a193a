package test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// TestMirrors installs a Debian package and asks for an npm package in machines that
// reach nothing but where this computer itself gets packages from.
func TestMirrors(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	r := h.Run(0, "run", "--discard", "--no-detect", "--egress", "allowlist", "--preset", "apt", "--",
		"sudo", "sh", "-ec", "apt-get -qq update; apt-get -qq install -y hello >/dev/null 2>&1; hello")
	if !strings.HasSuffix(r.Stdout, "Hello, world!\n") {
		t.Errorf("hello says %q\n%s", r.Stdout, r.Stderr)
	}
	// The profile brings the preset, and the preset the registry of this computer.
	r = h.Run(0, "run", "--discard", "--no-detect", "--egress", "allowlist", "--profile", "node", "--", "npm", "view", "left-pad", "version")
	if !regexp.MustCompile(`^\d+\.\d+\.\d+\n$`).MatchString(r.Stdout) {
		t.Errorf("npm view says %q\n%s", r.Stdout, r.Stderr)
	}
	// Nothing else is reached.
	r = h.Run(0, "run", "--discard", "--no-detect", "--egress", "allowlist", "--preset", "apt", "--", "sh", "-c", "curl -sS https://example.org/ || true")
	if !strings.Contains(r.Stderr, "1 connection denied: example.org; ") {
		t.Errorf("stderr: %s; want one denial", r.Stderr)
	}
}
