package test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/lab"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// testHostAuthorities looks who trusts what only the host does.
func testHostAuthorities(t *testing.T, h *vm.Host) {
	var script strings.Builder
	for i, c := range trusting[:4] {
		fmt.Fprintf(&script, "%s >/dev/null 2>err || { echo %d; cat err; }\n", c, i)
	}
	args := append([]string{"run", "--discard"}, networkPackages...)
	if r := h.Run(0, append(args, "--", "sh", "-c", script.String())...); r.Stdout != "" {
		t.Errorf("of %q do not trust the host's authority: %s", trusting[:4], r.Stdout)
	}
	writeFile(t, filepath.Join(h.Dir, "off.toml"), "version = 1\n[network]\ntrust_host_authorities = false\n")
	args = append([]string{"run", "--discard", "--config", filepath.Join(h.Dir, "off.toml")}, networkPackages...)
	h.Run(60, append(args, "--", "curl", "-sS", "https://web.example/hello")...) // CURLE_PEER_FAILED_VERIFICATION
}

// trusting are clients that find authorities each in its own way, and ways to start them.
var trusting = []string{
	"curl -sSf https://web.example/hello",
	"env -i git ls-remote https://web.example/project.git",
	`sudo env -i python3 -c 'import urllib.request as u; u.urlopen("https://web.example/hello")'`,
	`sudo node -e 'fetch("https://web.example/hello").then(r => r.text())'`,
	"sudo curl -sSf https://web.example/hello",
	"env -i HOME=/tmp LOGNAME=me SHELL=/bin/sh PATH=/usr/bin:/bin sh -c 'curl -sSf https://web.example/hello'", // as cron does
	"sudo git ls-remote https://web.example/project.git",
	`env -i python3 -c 'import urllib.request as u; u.urlopen("https://web.example/hello")'`,
	`node -e 'fetch("https://web.example/hello").then(r => r.text())'`,
	"sh -c '! command -v wget || env -i wget -qO- https://web.example/hello'",
	"sh -c '! command -v openssl || env -i openssl s_client -verify_return_error -connect web.example:443 -servername web.example </dev/null'",
	"env -i ./client https://web.example/hello", // Go's
	// What those need that have lists of their own.
	`env -i $(cat /etc/environment) sh -c 'grep -q BEGIN "$NODE_EXTRA_CA_CERTS" "$REQUESTS_CA_BUNDLE" "$PIP_CERT" "$CARGO_HTTP_CAINFO" "$AWS_CA_BUNDLE"'`,
	`sudo sh -c 'grep -q BEGIN "$NODE_EXTRA_CA_CERTS" && grep -q BEGIN "$REQUESTS_CA_BUNDLE"'`,
}

// testProxy is a host that leaves its network through a proxy.
func testProxy(t *testing.T, h *vm.Host, l *lab.Lab) {
	before := len(l.Requests())
	for _, name := range []string{"HTTP_PROXY", "https_proxy"} {
		h.Set(name, "http://me:s3cret@93.184.216.250:3128")
	}
	args := append([]string{"run", "--discard"}, networkPackages...)
	r := h.Run(0, append(args, "--", "sh", "-c", "curl -sS http://web.example/hello; curl -sS https://web.example/hello; curl -sS http://192.168.1.1/ http://private.example/; env | grep -i s3cret; true")...)
	if r.Stdout != "hello from web.example\nhello from web.example\n" || !strings.Contains(r.Stderr, "2 connections denied: ") || strings.Contains(r.Stderr, "s3cret") {
		t.Errorf("through a proxy: %q, %s", r.Stdout, r.Stderr)
	}
	var got []string
	for _, req := range l.Requests()[before:] {
		if auth := req.Header.Get("Proxy-Authorization"); auth != "" {
			got = append(got, fmt.Sprintf("%s %s %s", req.Method, req.Path, auth))
		}
	}
	const auth = " Basic bWU6czNjcmV0"
	if want := []string{"GET http://web.example/hello" + auth, "CONNECT web.example:443" + auth}; !slices.Equal(got, want) {
		t.Errorf("the proxy was asked for %q; want %q", got, want)
	}
}

// testContainers looks whether containers, and the steps of a build, trust the machine's
// authority, with an image that has no certificates of its own.
func testContainers(t *testing.T, h *vm.Host) {
	h.Run(0, "exec", "m", "--", "sh", "-ec", `d=$(mktemp -d) f="/bin/sh /usr/bin/curl"
cp --parents -L $f $(ldd $f | grep -o '/[^ :]*' | sort -u) $d 2>/dev/null
tar -C $d -c . | docker import - web >/dev/null
printf 'FROM web\nRUN curl -sSf https://web.example/hello >/hello\n' >Dockerfile`)
	for script, want := range map[string]string{
		"docker run --rm web curl -sSf https://web.example/hello": "hello from web.example\n",
		// A process that comes later.
		"docker run -di --name later web sh -c 'read line' >/dev/null; docker exec later curl -sSf https://web.example/hello; docker rm -f later": "hello from web.example\nlater\n",
		// What a build makes has nothing of it.
		"docker build -q -t built . >/dev/null; docker save built | grep -ao -e mayfly -e 'hello from web.example'": "hello from web.example\n",
	} {
		r := h.Mayfly("exec", "m", "--", "sh", "-ec", script).Run()
		if r.Code != 0 || r.Stdout != want {
			t.Errorf("%s: %d, %q; want %q\n%s", script, r.Code, r.Stdout, want, r.Stderr)
		}
	}
}
