package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/lab"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// networkPackages are what the tests' clients need beside the default image.
var networkPackages = []string{"--no-detect", "--package", "nodejs", "--package", "python3"}

// secretValue is what no guest may ever see. It looks like a real token.
const secretValue = "ghp_R3alT0kenThatN0GuestMaySee4242abcdEF"

// networkConfig is the configuration of the machine in the lab.
const networkConfig = `version = 1
[network]
egress = "allowlist"
allow = [
	"web.example", "*.wild.example", "git.example:22", "raw.example:7", "raw.example:19",
	{ host = "api.example", methods = ["GET"], paths = ["/headers"] },
	{ host = "mirror.example", private = true },
	{ host = "pinned.example", intercept = false },
	"private.example", "rebound.example:7", "host.mayfly.internal:11434",
]
ports = ["127.0.0.1:18080:8000"]

[secrets.TOKEN]
from = "env:TOKEN"
hosts = ["token.example"]
bearer = true
basic = "user"
query = "key"
`

// newLab makes an internet, and a user whose commands run in it. From there no way leads
// to a mirror: images are built before, that of networkPackages and another one by flags
// of its own.
func newLab(t *testing.T, image ...string) (*vm.Host, *lab.Lab) {
	t.Helper()
	vm.Lock(t)
	h := vm.New(t)
	for _, flags := range [][]string{networkPackages, append(image, "--no-detect")} {
		h.Run(0, append([]string{"image", "build"}, flags...)...)
	}
	l := lab.New(t)
	for i, name := range []string{
		"web.example", "a.b.wild.example", "git.example", "raw.example", "api.example",
		"pinned.example", "token.example", "evil.example", "other.example",
	} {
		l.Name(name, lab.A(fmt.Sprintf("93.184.216.%d", 10+i)))
	}
	l.Name("mirror.example", lab.A(lab.LAN.String()))
	l.Name("private.example", lab.A(lab.LAN.String()))
	l.Name("loopback.example", lab.A("127.0.0.1"))
	l.Name("rebound.example", lab.A("93.184.216.99"), lab.A(lab.LAN.String()))
	h.Through = l.Command
	h.Set("TOKEN", secretValue)
	return h, l
}

// startInLab starts a machine m with a configuration.
func startInLab(t *testing.T, h *vm.Host, config string, flags ...string) {
	t.Helper()
	writeFile(t, filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/config.toml"), config)
	args := append(append([]string{"run", "--keep", "--name", "m"}, networkPackages...), flags...)
	h.Run(0, append(args, "--", "true")...)
}

// TestNetworkAllowlist is a machine with a list of hosts, used by real clients.
func TestNetworkAllowlist(t *testing.T) {
	h, l := newLab(t)
	l.Repository("project")
	for name, from := range map[string]string{"key": l.SSHKey(), "known_hosts": l.SSHKnownHosts()} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(h.Dir, name), string(data))
		if err := os.Chmod(filepath.Join(h.Dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	buildClient(t, h)
	startInLab(t, h, networkConfig)

	sh := func(t *testing.T, script string) string {
		t.Helper()
		return h.For(t).Run(0, "exec", "m", "--", "sh", "-c", script).Stdout
	}
	fails := func(t *testing.T, script string) (vm.Result, time.Duration) {
		t.Helper()
		begun := time.Now()
		r := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", script).Run()
		if r.Code == 0 {
			t.Errorf("%s succeeded: %s", script, r.Stdout)
		}
		return r, time.Since(begun)
	}

	t.Run("clients", func(t *testing.T) {
		for script, want := range map[string]string{
			"curl -sS --http1.1 -w %{http_version} https://web.example/hello":                                                "hello from web.example\n1.1",
			"curl -sS --http2 -w %{http_version} https://web.example/hello":                                                  "hello from web.example\n2",
			"curl -sS http://web.example/hello":                                                                              "hello from web.example\n",
			"curl -sS https://a.b.wild.example/hello":                                                                        "hello from a.b.wild.example\n",
			"curl -sS -k https://pinned.example/hello":                                                                       "hello from pinned.example\n",
			`node -e 'fetch("https://web.example/hello").then(r => r.text()).then(s => process.stdout.write(s))'`:            "hello from web.example\n",
			`python3 -c 'import urllib.request as u; print(u.urlopen("https://web.example/hello").read().decode(), end="")'`: "hello from web.example\n",
			"./client https://web.example/hello":                                                                             "hello from web.example\n",
			"sudo curl -sS https://web.example/hello":                                                                        "hello from web.example\n",
			"curl -sSN https://web.example/sse":                                                                              "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n",
			`node --experimental-websocket -e 'const w = new WebSocket("wss://web.example/ws"); w.onopen = () => w.send("over a socket"); w.onmessage = m => { process.stdout.write(m.data); w.close() }' 2>/dev/null`: "over a socket",
			"curl -sS http://host.mayfly.internal:11434/hello":               "private: 127.0.0.1\n",
			"curl -sS http://mirror.example/hello":                           "private: 192.168.1.1\n",
			"git clone -q https://web.example/project.git a && cat a/README": "hello\n",
			`GIT_SSH_COMMAND="ssh -i $PWD/key -o UserKnownHostsFile=$PWD/known_hosts" git clone -q git@git.example:project.git b && cat b/README`: "hello\n",
		} {
			r := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", script).Run()
			if r.Code != 0 || r.Stdout != want {
				t.Errorf("%s: %d, %q; want %q\n%s", script, r.Code, r.Stdout, want, r.Stderr)
			}
		}
	})
	t.Run("bulk", func(t *testing.T) {
		const size = 8_000_000 // more than all buffers and windows on the way
		sum := sha256.New()
		io.Copy(sum, lab.Pattern(size))
		want := hex.EncodeToString(sum.Sum(nil))
		for _, proto := range []string{"--http1.1", "--http2"} {
			if got := sh(t, fmt.Sprintf("curl -sS %s https://web.example/bytes/%d | tee big | sha256sum", proto, size)); !strings.HasPrefix(got, want) {
				t.Errorf("%s: what came down has the hash %s; want %s", proto, got, want)
			}
			got := sh(t, "curl -sS "+proto+" -T big https://web.example/upload")
			if want := fmt.Sprintf(`{"bytes":%d,"sha256":"%s"}`+"\n", size, want); got != want {
				t.Errorf("%s: what went up: %s; want %s", proto, got, want)
			}
		}
	})
	t.Run("refused at once", func(t *testing.T) {
		for script, code := range map[string]int{
			"curl -sS https://evil.example/":                           6, // no such name
			"curl -sS https://web.example:8443/":                       7,
			"curl -sS http://93.184.216.17/":                           7,
			"curl -sS http://192.168.1.1/":                             7,
			"curl -sS http://169.254.169.254/":                         7,
			"curl -sS http://10.9.0.2:8080/":                           7,
			"curl -sS http://host.mayfly.internal:6379/":               7,
			"curl -sS -f https://private.example/":                     22, // 502, and why
			"curl -sS -f https://api.example/hello":                    22, // 403
			"curl -sS -f -X POST https://api.example/headers":          22,
			"curl -sS -f -H 'Host: evil.example' https://web.example/": 22, // 421
		} {
			r, took := fails(t, script)
			if r.Code != code || took > 20*time.Second {
				t.Errorf("%s: exit code %d after %v; want %d at once\n%s", script, r.Code, took, code, r.Stderr)
			}
		}
		if got := sh(t, "curl -sS https://api.example/hello; curl -sS -X DELETE https://api.example/headers"); got != "mayfly: this path is not allowed\nmayfly: the method DELETE is not allowed here\n" {
			t.Errorf("the reasons are %q", got)
		}
	})
	t.Run("rebinding", func(t *testing.T) {
		// The resolver answers with a public address once, and then with the LAN's.
		const connect = "(exec 3<>/dev/tcp/rebound.example/7 && echo ok >&3 && head -n1 <&3) 2>/dev/null || echo refused"
		got := h.For(t).Run(0, "exec", "m", "--", "bash", "-c", connect+"; sleep 11; "+connect).Stdout
		if got != "ok\nrefused\n" {
			t.Errorf("twice the same name: %q; want ok, then refused", got)
		}
	})
	t.Run("trust", func(t *testing.T) {
		for _, client := range trusting {
			if r := h.For(t).Mayfly("exec", "m", "--", "sh", "-c", client).Run(); r.Code != 0 {
				t.Errorf("%s: %d, %s", client, r.Code, r.Stderr)
			}
		}
	})
	t.Run("secret", func(t *testing.T) { testSecret(t, h, l) })
	t.Run("ports", func(t *testing.T) { testPorts(t, h, l) })
	t.Run("ask", func(t *testing.T) { testAsk(t, h) })
	t.Run("policy", func(t *testing.T) { testPolicy(t, h) })

	for _, touched := range l.Touched() {
		switch touched {
		case "tcp 127.0.0.1:11434", "tcp 192.168.1.1:80": // with a rule each
		default:
			t.Errorf("%s was reached", touched)
		}
	}
	for _, q := range l.Queries() {
		if strings.Contains(q, "evil") {
			t.Errorf("the question %q got out", q)
		}
	}
	if out := h.Run(0, "audit", "m", "--denied").Stdout; !strings.Contains(out, "evil.example") || !strings.Contains(out, "169.254.169.254:80") {
		t.Errorf("audit --denied lacks what was denied:\n%s", out)
	}
	h.Run(0, "rm", "m")
	// The record outlives the machine.
	h.Run(0, "audit", "m")
}

// buildClient makes a program of Go's for the guest: whose standard library looks for
// certificates in its own way.
func buildClient(t *testing.T, h *vm.Host) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module client\n")
	writeFile(t, filepath.Join(dir, "main.go"), `package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	resp, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.Copy(os.Stdout, resp.Body)
}
`)
	cmd := exec.Command("go", "build", "-o", filepath.Join(h.Dir, "client"), ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// lastRequest returns the request that arrived last.
func lastRequest(t *testing.T, l *lab.Lab) lab.Request {
	t.Helper()
	all := l.Requests()
	if len(all) == 0 {
		t.Fatal("no request arrived")
	}
	return all[len(all)-1]
}

// testSecret lends a secret to requests, and looks for it everywhere.
func testSecret(t *testing.T, h *vm.Host, l *lab.Lab) {
	sh := func(script string) string {
		t.Helper()
		return h.For(t).Run(0, "exec", "m", "--", "sh", "-c", script).Stdout
	}
	placeholder := strings.TrimSpace(sh("echo $TOKEN"))
	if placeholder == secretValue || !strings.HasPrefix(placeholder, "ghp_") || len(placeholder) != len(secretValue) {
		t.Errorf("the placeholder is %q; want another value of the same shape", placeholder)
	}
	for _, proto := range []string{"--http1.1", "--http2"} {
		curl := "curl -sS " + proto + " "
		// The server says what it got: the guest must not learn it so.
		if got := sh(curl + `-H "Authorization: Bearer $TOKEN" https://token.example/headers`); strings.Contains(got, secretValue) || !strings.Contains(got, placeholder) {
			t.Errorf("%s: the answer is %s; want the placeholder in it", proto, got)
		}
		if got := lastRequest(t, l).Header.Get("Authorization"); got != "Bearer "+secretValue {
			t.Errorf("%s: Authorization: %q arrived; want the secret", proto, got)
		}
		sh(curl + `-u "user:$TOKEN" https://token.example/hello`)
		r := http.Request{Header: lastRequest(t, l).Header}
		if user, password, _ := r.BasicAuth(); user != "user" || password != secretValue {
			t.Errorf("%s: %s:%s arrived; want user and the secret", proto, user, password)
		}
		sh(curl + `"https://token.example/hello?key=$TOKEN&x=1"`)
		if got, want := lastRequest(t, l).Path, "/hello?key="+secretValue+"&x=1"; got != want {
			t.Errorf("%s: %s arrived; want %s", proto, got, want)
		}
		// Another's key, which would tell another what the agent sends.
		sh(curl + `-H "Authorization: Bearer attackers-own" -H "X-Api-Key: attackers" https://token.example/hello`)
		if got := lastRequest(t, l).Header; got.Get("Authorization") != "" || got.Get("X-Api-Key") != "" {
			t.Errorf("%s: foreign credentials arrived: %v", proto, got)
		}
		// To another host, and on a connection that anybody can read.
		n := len(l.Requests())
		for _, url := range []string{"https://web.example/headers", "http://token.example/headers"} {
			if got := sh(curl + `-w %{http_code} -H "Authorization: Bearer $TOKEN" ` + url + " || true"); !strings.Contains(got, "403") && !strings.HasSuffix(got, "000") {
				t.Errorf("%s %s: %s; want 403", proto, url, got)
			}
		}
		if got := l.Requests()[n:]; len(got) > 0 {
			t.Errorf("%s: refused requests arrived: %+v", proto, got)
		}
	}
	if got := sh("sudo cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'"); strings.Contains(got, secretValue) {
		t.Error("the secret is in an environment or an argument in the guest")
	}
	sh("sync")
	// What the guest has, as files or in memory, is in files of its machine and
	// in the memory of its VMM.
	machine := filepath.Dir(h.File("m", "x"))
	for _, dir := range []string{machine, filepath.Join(h.State, "audit", "m")} {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", dir, err)
		}
		for _, name := range files {
			if fi, err := os.Stat(name); err == nil && fi.Mode().IsRegular() && grepFile(t, name, secretValue) {
				t.Errorf("the secret is in %s", name)
			}
		}
	}
	var status struct {
		Supervisor, VMM struct{ PID int }
	}
	data, err := os.ReadFile(h.File("m", "status.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &status); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{status.Supervisor.PID, status.VMM.PID} {
		for _, file := range []string{"environ", "cmdline"} {
			if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)); err != nil || bytes.Contains(data, []byte(secretValue)) {
				t.Errorf("%s of process %d: %v, or the secret is in it", file, pid, err)
			}
		}
	}
	if !grepMemory(t, status.VMM.PID, placeholder) {
		t.Error("not even the placeholder is in the guest's memory: the search does not work")
	}
	if grepMemory(t, status.VMM.PID, secretValue) {
		t.Error("the secret is in the guest's memory")
	}
}

// grepFile reports whether text is in a file, which may be sparse.
func grepFile(t *testing.T, name, text string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const seekData, seekHole = 3, 4 // lseek(2)
	for at := int64(0); ; {
		begin, err := f.Seek(at, seekData)
		if err != nil {
			return false // nothing but a hole
		}
		end, err := f.Seek(begin, seekHole)
		if err != nil {
			t.Fatal(err)
		}
		if grep(io.NewSectionReader(f, begin, end-begin), text) {
			return true
		}
		at = end
	}
}

// grep reports whether text is in what r gives.
func grep(r io.Reader, text string) bool {
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		if bytes.Contains(buf[:kept+n], []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
		keep := min(kept+n, len(text)-1)
		copy(buf, buf[kept+n-keep:kept+n])
		kept = keep
	}
}

// grepMemory reports whether text is in the memory of a process, in what is resident.
func grepMemory(t *testing.T, pid int, text string) bool {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var begin, end int64
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &perm); err != nil || perm[0] != 'r' {
			continue
		}
		if grep(io.NewSectionReader(mem, begin, end-begin), text) {
			return true
		}
	}
	return false
}

// testPorts publishes what listens on the guest's loopback interface.
func testPorts(t *testing.T, h *vm.Host, l *lab.Lab) {
	status := func(url string) int { // of curl; 7 is refused
		cmd := l.Command(exec.Command("curl", "-sS", "-o", "/dev/null", "-m", "20", url))
		cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if got := status("http://" + host + ":18080/"); got != 7 {
			t.Errorf("a port on which nobody listens yet: curl of %s ends with %d; want 7", host, got)
		}
	}
	h.For(t).Run(0, "exec", "m", "--", "sh", "-c",
		"mkdir -p /tmp/www && echo from the guest >/tmp/www/page && cd /tmp/www && (setsid python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &) && for i in $(seq 100); do curl -s http://127.0.0.1:8000/page && exit 0; sleep 0.1; done; exit 1")
	get := func(port string) string { return l.Run("curl", "-sS", "-m", "20", "http://127.0.0.1:"+port+"/page") }
	if got := get("18080"); got != "from the guest\n" {
		t.Errorf("the port of the configuration: %q", got)
	}
	if got := l.Run("curl", "-sS", "-m", "20", "http://[::1]:18080/page"); got != "from the guest\n" {
		t.Errorf("the port of the configuration on ::1: %q", got)
	}
	added := strings.TrimSpace(h.For(t).Run(0, "port", "m", "add", "0:8000").Stdout)
	port := strings.TrimPrefix(added, "127.0.0.1:")
	if got := get(port); got != "from the guest\n" {
		t.Errorf("the port %s: %q", added, got)
	}
	if out := h.For(t).Run(0, "port", "m").Stdout; !strings.Contains(out, "18080") || !strings.Contains(out, port) {
		t.Errorf("port m prints %s; want both ports", out)
	}
	if out := h.For(t).Run(0, "ls", "--json").Stdout; !strings.Contains(out, `"host_port": 18080`) || !strings.Contains(out, `"host_port": `+port) {
		t.Errorf("ls prints %s; want both ports", out)
	}
	h.For(t).Run(1, "port", "m", "add", "18080:8000") // taken
	h.For(t).Run(0, "port", "m", "rm", port)
	if out, err := l.Command(exec.Command("curl", "-sS", "-m", "20", "http://"+added)).CombinedOutput(); err == nil {
		t.Errorf("the port that was closed answers: %s", out)
	}
	if r := h.For(t).Run(0, "port", "m", "add", "0.0.0.0:0:8000"); !strings.Contains(r.Stderr, "open to others") {
		t.Errorf("a port that others reach is opened without a word: %s", r.Stderr)
	}
	// What waits for a service waits until it is there, also on ::1 of the guest alone.
	six := strings.TrimSpace(h.For(t).Run(0, "port", "m", "add", "0:8001").Stdout)
	waiting := l.Command(exec.Command("curl", "-sS", "-m", "60", "--retry", "60", "--retry-delay", "1", "--retry-connrefused", "http://"+six+"/page"))
	var page bytes.Buffer
	waiting.Stdout = &page
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	h.For(t).Run(0, "exec", "m", "--", "sh", "-c", "sleep 2; cd /tmp/www && setsid python3 -m http.server --bind ::1 8001 >/dev/null 2>&1 &")
	if err := waiting.Wait(); err != nil || page.String() != "from the guest\n" {
		t.Errorf("who waited for a service got %q, %v", page.String(), err)
	}
	h.For(t).Run(0, "exec", "m", "--", "pkill", "-f", "bind ::1")
	for range 200 {
		if status("http://"+six) == 7 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("a port is not refused when its service has ended")
}

// testPolicy changes the policy of the running machine.
func testPolicy(t *testing.T, h *vm.Host) {
	h = h.For(t)
	h.Run(6, "exec", "m", "--", "curl", "-sS", "https://other.example/hello")
	h.Run(0, "policy", "m", "allow", "other.example")
	h.Run(0, "exec", "m", "--", "curl", "-sS", "https://other.example/hello")
	// A download, intercepted or not, is cut when it is no longer allowed.
	for _, url := range []string{"https://other.example/slow", "http://raw.example:19/"} {
		c := h.Mayfly("exec", "m", "--", "curl", "-sSN", "--http0.9", url)
		download := &noticed{begun: make(chan struct{})}
		c.Stdout = download
		c.Start()
		c.Until("a first byte of the download", download.seen)
		host := strings.Split(strings.SplitN(url, "//", 2)[1], "/")[0]
		begun := time.Now()
		h.Run(0, "policy", "m", "deny", strings.Split(host, ":")[0])
		if r := c.Wait(); r.Code == 0 || time.Since(begun) > 15*time.Second {
			t.Errorf("%s: exit code %d, %v after it was denied; want it cut", url, r.Code, time.Since(begun))
		}
	}
	if out := h.Run(0, "audit", "m").Stdout; strings.Count(out, " cut ") < 2 {
		t.Errorf("the cuts are not in the record:\n%s", out)
	}
	h.Run(6, "exec", "m", "--", "curl", "-sS", "https://other.example/hello")
}

// testAsk has another command answer what a machine asks for.
func testAsk(t *testing.T, h *vm.Host) {
	h = h.For(t)
	h.Run(0, "policy", "m", "egress", "ask")
	events := h.Mayfly("events", "m")
	events.Start()
	events.Printed("ready")
	get := func() *vm.Command {
		c := h.Mayfly("exec", "m", "--", "curl", "-sS", "https://other.example/hello")
		c.Start()
		return c
	}
	c := get()
	events.Printed("m wants to reach other.example:443, which no rule covers")
	if out := h.Run(0, "policy", "m").Stdout; !strings.Contains(out, "asks     other.example:443  (for ") {
		t.Errorf("what waits is not listed:\n%s", out)
	}
	h.Run(0, "policy", "m", "allow", "--once", "other.example")
	if r := c.Wait(); r.Code != 0 || r.Stdout != "hello from other.example\n" {
		t.Errorf("what was allowed: %d, %q\n%s", r.Code, r.Stdout, r.Stderr)
	}
	events.Printed("other.example:443 is allowed once")
	c = get()
	c.Until("a second question", func() bool {
		return strings.Contains(h.Run(0, "policy", "m").Stdout, "asks     other.example:443")
	})
	begun := time.Now()
	h.Run(0, "policy", "m", "deny", "other.example")
	if r := c.Wait(); r.Code != 7 || time.Since(begun) > 15*time.Second {
		t.Errorf("what was denied: exit code %d after %v", r.Code, time.Since(begun))
	}
	h.Run(6, "exec", "m", "--", "curl", "-sS", "https://other.example/hello")
	events.Signal(os.Interrupt)
	events.Wait()
	begun = time.Now()
	h.Run(7, "exec", "m", "--", "curl", "-sS", "https://evil.example/hello")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("without anybody to ask it took %v", took)
	}
	if out := h.Run(0, "audit", "m").Stdout; !strings.Contains(out, "nobody is there to be asked") || !strings.Contains(out, "[once]") || !strings.Contains(out, "[deny]") {
		t.Errorf("the answers are not in the record:\n%s", out)
	}
	h.Run(0, "policy", "m", "egress", "allowlist")
}

// noticed takes any number of bytes, and remembers that there were some.
type noticed struct {
	once  sync.Once
	begun chan struct{} // closed with the first
}

func (n *noticed) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.begun) })
	return len(p), nil
}

func (n *noticed) seen() bool {
	select {
	case <-n.begun:
		return true
	default:
		return false
	}
}

// TestNetworkAttack is the suite of mayfly doctor --attack, in machines with a list and a
// secret, however they come to run, and in one for which all that is public is open.
func TestNetworkAttack(t *testing.T) {
	h, l := newLab(t, "--profile", "docker")
	for _, m := range []struct {
		name, config string
		flags        []string
		started      string // as --explain says it
		attempts     int    // that are refused, at least
	}{
		{"cold", networkConfig, append([]string{"--cold"}, networkPackages...), byBooting, 64},
		{"restored", networkConfig, networkPackages, fromTemplate, 64},
		{"systemd", networkConfig, []string{"--no-detect", "--profile", "docker"}, "", 64},
		{"public", "version = 1\n", networkPackages, "", 25},
	} {
		t.Run(m.name, func(t *testing.T) {
			h := h.For(t)
			writeFile(t, filepath.Join(h.Variable("XDG_CONFIG_HOME"), "mayfly/config.toml"), m.config)
			r := h.Run(0, append(append([]string{"run", "--keep", "--name", "m", "--explain"}, m.flags...), "--", "true")...)
			t.Cleanup(func() { h.Mayfly("rm", "--force", "m").Run() })
			if !strings.Contains(r.Stderr, m.started) {
				t.Errorf("want a machine that %q; stderr:\n%s", m.started, r.Stderr)
			}
			if got := h.Run(0, "inspect", "m").Stdout; strings.Contains(got, "init systemd") != (m.name == "systemd") {
				t.Errorf("another process 1 than asked for:\n%s", got)
			}
			before, requests := len(l.Queries()), len(l.Requests())
			c := h.Mayfly("doctor", "--attack", "m")
			c.Timeout = 10 * time.Minute
			r = c.Want(0) // which it does not exit with unless the audit log has them all
			t.Log(r.Stdout)
			if strings.Contains(r.Stdout, "REACHED") || strings.Count(r.Stdout, "refused") < m.attempts {
				t.Errorf("the attack:\n%s", r.Stdout)
			}
			if got := l.Touched(); got != nil {
				t.Errorf("reached: %q", got)
			}
			if m.name == "public" {
				return
			}
			if strings.Contains(r.Stdout, "the machine has no secret") {
				t.Errorf("attempts with a secret were skipped:\n%s", r.Stdout)
			}
			checkPublished(t, l.Requests()[requests:])
			if m.name == "systemd" {
				testContainers(t, h)
			}
			for _, q := range l.Queries()[before:] {
				if strings.Contains(q, "attack") {
					t.Errorf("the question %q got out", q)
				}
			}
		})
	}
}

// checkPublished compares what the host of a secret got of the attempts to publish it there.
func checkPublished(t *testing.T, requests []lab.Request) {
	t.Helper()
	bodies := make(map[string]string)
	for _, r := range requests {
		if strings.Contains(fmt.Sprint(r), secretValue) {
			t.Errorf("the secret arrived: %+v", r)
		}
		if r.Host == "token.example" {
			bodies[r.Path] = r.Body
		}
	}
	for _, path := range []string{"/attack/title", "/attack/body", "/attack/name", "/attack/form"} {
		if !strings.Contains(bodies[path], strings.Repeat("*", len(secretValue))) {
			t.Errorf("the body of %s is %q; want asterisks for the placeholder", path, bodies[path])
		}
	}
	if len(bodies) != 4 {
		t.Errorf("requests with placeholders arrived: %q; want those with one in the body, without it", bodies)
	}
}

// TestNetworkPublic is the default: all that is public, and nothing else.
func TestNetworkPublic(t *testing.T) {
	h, l := newLab(t)
	list := filepath.Join(h.Dir, "policy.toml")
	script := strings.Join([]string{
		"curl -sS https://web.example/hello", "curl -sS http://93.184.216.18/hello >/dev/null",
		"curl -sS https://private.example/", "curl -sS http://loopback.example:11434/", "curl -sS http://192.168.1.1/", "curl -sS https://nowhere.example/", "true",
	}, "; ")
	// Nothing is intercepted here: the lab's authority is one that the host trusts beside
	// its distribution's.
	args := append([]string{"run", "--discard", "--learn", list}, networkPackages...)
	r := h.Run(0, append(args, "--", "sh", "-c", script)...)
	if r.Stdout != "hello from web.example\n" {
		t.Errorf("stdout = %q, stderr = %s", r.Stdout, r.Stderr)
	}
	if !strings.Contains(r.Stderr, "3 connections denied: ") || !strings.Contains(r.Stderr, "192.168.1.1:80") || !strings.Contains(r.Stderr, "private.example") {
		t.Errorf("the summary is missing: %s", r.Stderr)
	}
	if got := l.Touched(); got != nil {
		t.Errorf("reached: %q", got)
	}
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\t\"web.example:443\",\n") || !strings.Contains(string(text), `"93.184.216.18:80"`) || !strings.Contains(string(text), `#   "192.168.1.1:80"`) {
		t.Errorf("what was learned:\n%s", text)
	}
	// It is a configuration that lets the same pass, and nothing else.
	args = append([]string{"run", "--discard", "--config", list}, networkPackages...)
	r = h.Run(0, append(args, "--", "sh", "-c", "curl -sS https://web.example/hello; curl -sS https://other.example/; true")...)
	if r.Stdout != "hello from web.example\n" || !strings.Contains(r.Stderr, "1 connection denied: other.example") {
		t.Errorf("with what was learned: %q, %s", r.Stdout, r.Stderr)
	}
	l.Repository("project")
	t.Run("authorities", func(t *testing.T) { testHostAuthorities(t, h.For(t)) })
	t.Run("proxy", func(t *testing.T) { testProxy(t, h.For(t), l) })
}

// TestNetworkNone is a machine without a network card, whose ports work all the same.
func TestNetworkNone(t *testing.T) {
	h, l := newLab(t)
	startInLab(t, h, "version = 1\n", "--network", "none", "--publish", "127.0.0.1:18080:8000")
	if got := h.Run(0, "exec", "m", "--", "ls", "/sys/class/net").Stdout; got != "lo\n" {
		t.Errorf("network interfaces = %q; want lo alone", got)
	}
	testPortOf(t, h, l)
	h.Run(0, "rm", "m")
}

func testPortOf(t *testing.T, h *vm.Host, l *lab.Lab) {
	t.Helper()
	h.Run(0, "exec", "m", "--", "sh", "-c", "echo here >/tmp/page; (cd /tmp && setsid python3 -m http.server 8000 >/dev/null 2>&1 &); for i in $(seq 100); do curl -s http://127.0.0.1:8000/page >/dev/null && exit 0; sleep 0.1; done; exit 1")
	if got := l.Run("curl", "-sS", "-m", "20", "http://127.0.0.1:18080/page"); got != "here\n" {
		t.Errorf("the published port answers %q", got)
	}
}
