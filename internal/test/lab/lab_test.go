package lab

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/test/websocket"
)

// web is an address on the internet. Nobody of the lab knows it.
const web = "93.184.216.10"

// newLab returns a lab in which web.example exists.
func newLab(t *testing.T) *Lab {
	t.Helper()
	l := New(t)
	l.Name("web.example", A(web, "2606:2800:220:1::10"))
	return l
}

// need skips t unless a program is installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
}

func TestCurl(t *testing.T) {
	need(t, "curl")
	l := newLab(t)
	for _, test := range []struct {
		flag, url string
		want      Request
	}{
		{"--http1.1", "https://web.example", Request{ServerName: "web.example", Proto: "HTTP/1.1"}},
		{"--http2", "https://web.example", Request{ServerName: "web.example", Proto: "HTTP/2.0"}},
		{"--http1.1", "http://web.example", Request{Proto: "HTTP/1.1"}},
	} {
		test.want.Host, test.want.Method, test.want.Path = "web.example", "GET", "/headers?a=b"
		out := l.Run("curl", "-sSf", test.flag, "-H", "Authorization: Bearer real", "-A", "lab", test.url+"/headers?a=b")
		var got Request
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("/headers = %q: %v", out, err)
		}
		test.want.Header = http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer real"}, "User-Agent": {"lab"}}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s %s: /headers (-want +got):\n%s", test.flag, test.url, d)
		}
		if d := cmp.Diff(test.want, l.Requests()[len(l.Requests())-1]); d != "" {
			t.Errorf("%s %s: Requests (-want +got):\n%s", test.flag, test.url, d)
		}
	}
	want := []string{"tcp " + web + ":443", "tcp " + web + ":80"}
	if d := cmp.Diff(want, l.Reached()); d != "" {
		t.Errorf("Reached() (-want +got):\n%s", d)
	}
	for _, q := range l.Queries() {
		if q != "A web.example." && q != "AAAA web.example." {
			t.Errorf("Queries() has %q", q)
		}
	}
	if got := l.Touched(); got != nil {
		t.Errorf("Touched() = %q; want none", got)
	}
}

func TestPages(t *testing.T) {
	need(t, "curl")
	l := newLab(t)
	curl := func(path string, args ...string) string {
		t.Helper()
		return l.Run(append([]string{"curl", "-sS", "https://web.example" + path}, args...)...)
	}
	content, err := io.ReadAll(Pattern(300_000))
	if err != nil {
		t.Fatal(err)
	}
	if got := curl("/bytes/300000"); got != string(content) {
		t.Errorf("/bytes/300000 = %d bytes that are not Pattern(300000)", len(got))
	}
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	var got Upload
	out := curl("/upload", "--data-binary", "@"+file)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("/upload = %q: %v", out, err)
	}
	if want := (Upload{Bytes: 300_000, SHA256: hex.EncodeToString(sum[:])}); got != want {
		t.Errorf("/upload = %+v; want %+v", got, want)
	}
	for path, want := range map[string]string{
		"/hello":                  "hello from web.example\n200 ",
		"/status/418":             "418 ",
		"/sse":                    "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n200 ",
		"/redirect?to=http://x/y": "302 http://x/y",
		"/nothing":                "404 page not found\n404 ",
	} {
		got := curl(path, "-w", "%{http_code} %{redirect_url}")
		if _, rest, ok := strings.Cut(got, "</a>.\n\n"); ok {
			got = rest // the page of a redirection
		}
		if got != want {
			t.Errorf("%s = %q; want %q", path, got, want)
		}
	}
}

func TestGit(t *testing.T) {
	l := newLab(t)
	repository := l.Repository("project")
	ssh := fmt.Sprintf("ssh -F /dev/null -i %s -o UserKnownHostsFile=%s", l.SSHKey(), l.SSHKnownHosts())
	big, err := io.ReadAll(Pattern(3 << 20)) // more than git sends at once
	if err != nil {
		t.Fatal(err)
	}
	for i, url := range []string{
		"https://web.example/project.git",
		"https://token:real@web.example/private/project.git",
		"git@web.example:project.git",
	} {
		dir := filepath.Join(t.TempDir(), "clone")
		git := func(args ...string) string {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), "git", args...)
			cmd.Env = append(append(cmd.Environ(), gitEnv...), "GIT_SSH_COMMAND="+ssh, "GIT_TERMINAL_PROMPT=0")
			out, err := l.Command(cmd).CombinedOutput()
			if err != nil {
				t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
			}
			return string(out)
		}
		git("clone", "--quiet", url, dir)
		name := fmt.Sprint("file", i)
		if err := os.WriteFile(filepath.Join(dir, name), append(big, byte(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		git("-C", dir, "add", name)
		git("-C", dir, "-c", "user.name=a", "-c", "user.email=a@example", "-c", "core.compression=0", "commit", "--quiet", "-m", "more")
		git("-C", dir, "push", "--quiet")
		if got := git("-C", repository, "ls-tree", "--name-only", "main"); !strings.Contains(got, name) {
			t.Errorf("after git push to %s the repository has %q; want %s in it", url, got, name)
		}
	}
	authorized := func(r Request) bool { return r.Header.Get("Authorization") == "Basic dG9rZW46cmVhbA==" }
	if !slices.ContainsFunc(l.Requests(), authorized) {
		t.Error("no request came with the password")
	}
}

// The clients of other languages believe the lab's servers, as they are told to.
func TestClients(t *testing.T) {
	l := newLab(t)
	env := append(os.Environ(), "SSL_CERT_FILE="+bundleFile, "NODE_EXTRA_CA_CERTS="+bundleFile)
	for _, argv := range [][]string{
		{"python3", "-c", "import urllib.request as u; print(u.urlopen('https://web.example/hello').read().decode(), end='')"},
		{"node", "-e", "require('https').get('https://web.example/hello', r => r.pipe(process.stdout))"},
	} {
		t.Run(argv[0], func(t *testing.T) {
			need(t, argv[0])
			cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
			cmd.Env = env
			out, err := l.Command(cmd).CombinedOutput()
			if want := "hello from web.example\n"; err != nil || string(out) != want {
				t.Errorf("%s = %q, %v; want %q", argv[0], out, err, want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	need(t, "python3")
	l := newLab(t)
	l.Name("rebind.example", A(web), A(LAN.String()))
	l.Name("both.example", A(web, LAN.String()))
	lookup := func(name string) string {
		t.Helper()
		const program = `import socket, sys
try:
    print(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET)}))
except socket.gaierror as e:
    print(e.args[0] == socket.EAI_NONAME)`
		return strings.TrimSpace(l.Run("python3", "-c", program, name))
	}
	for _, test := range [][2]string{
		{"web.example", "['" + web + "']"},
		{"rebind.example", "['" + web + "']"},
		{"rebind.example", "['192.168.1.1']"},
		{"rebind.example", "['192.168.1.1']"},
		{"both.example", "['192.168.1.1', '" + web + "']"},
		{"missing.example", "True"},
	} {
		if got := lookup(test[0]); got != test[1] {
			t.Errorf("the addresses of %s = %s; want %s", test[0], got, test[1])
		}
	}
	if got := l.Queries(); !slices.Contains(got, "A missing.example.") {
		t.Errorf("Queries() = %q; want missing.example in it", got)
	}
}

// dial connects from the host's side of the lab.
func dial(t *testing.T, l *Lab, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	err := l.host.do(func() (err error) {
		conn, err = net.Dial("tcp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Whatever leaves the host for a place where it must not go is noted, whether or
// not somebody answers there.
func TestTouched(t *testing.T) {
	l := newLab(t)
	for _, address := range []string{
		"192.168.1.1:80", "10.9.0.1:443", "10.9.0.77:25", "169.254.169.254:80",
		"127.0.0.1:11434", "127.0.0.1:6379", "10.9.0.2:8080",
	} {
		dial(t, l, address)
	}
	err := l.host.do(func() error {
		if conn, err := net.Dial("tcp4", "172.16.5.5:12345"); err == nil {
			conn.Close()
			return fmt.Errorf("172.16.5.5:12345 is open")
		}
		ping, err := net.Dial("ip4:icmp", "172.16.5.5")
		if err != nil {
			return err
		}
		defer ping.Close()
		// An echo request with its checksum, RFC 792.
		if _, err := ping.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}); err != nil {
			return err
		}
		for _, address := range []string{"192.168.1.255:137", "8.8.8.8:53", "8.8.8.8:443", "10.9.0.1:53"} {
			conn, err := net.Dial("udp4", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("?")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"icmp 172.16.5.5",
		"tcp 10.9.0.1:443", "tcp 10.9.0.2:8080", "tcp 10.9.0.77:25", "tcp 127.0.0.1:11434", "tcp 127.0.0.1:6379",
		"tcp 169.254.169.254:80", "tcp 172.16.5.5:12345", "tcp 192.168.1.1:80", "udp 192.168.1.255:137",
	}
	if d := cmp.Diff(want, l.Touched()); d != "" {
		t.Errorf("Touched() (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"udp 8.8.8.8:443", "udp 8.8.8.8:53"}, l.Reached()); d != "" {
		t.Errorf("Reached() (-want +got):\n%s", d)
	}
}

// What nobody may see is there, so that a test sees when it could be.
func TestPrivatePages(t *testing.T) {
	need(t, "curl")
	l := newLab(t)
	for url, want := range map[string]string{
		"http://169.254.169.254/latest": "private: 169.254.169.254\n",
		"https://192.168.1.1/":          "private: 192.168.1.1\n",
		"http://10.9.0.1/":              "private: 10.9.0.1\n",
		"http://127.0.0.1:11434/":       "private: 127.0.0.1\n",
		"http://10.9.0.2:8080/":         "private: 10.9.0.2\n",
	} {
		if got := l.Run("curl", "-sS", url); got != want {
			t.Errorf("%s = %q; want %q", url, got, want)
		}
	}
}

func TestPlainServers(t *testing.T) {
	l := newLab(t)
	for _, test := range []struct{ address, send, want string }{
		{web + ":25", "", "220 mail ESMTP\r\n"},
		{web + ":7", "echo", "echo"},
		{web + ":19", "", "\x00\x01\x02"},
		{"127.0.0.1:6379", "PING\r\n", "+PONG\r\n"},
	} {
		conn := dial(t, l, test.address)
		io.WriteString(conn, test.send)
		got := make([]byte, len(test.want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != test.want {
			t.Errorf("%s says %q, %v; want %q", test.address, got, err, test.want)
		}
	}
	conn := dial(t, l, web+":9")
	if _, err := io.Copy(conn, Pattern(8<<20)); err != nil {
		t.Errorf("discard: %v", err)
	}
}

func TestProxy(t *testing.T) {
	need(t, "curl")
	l := newLab(t)
	l.Run("curl", "-sSf", "--proxy", "http://"+web+":3128", "https://web.example/hello")
	if got := l.Reached(); !slices.Equal(got, []string{"tcp " + web + ":3128"}) {
		t.Errorf("Reached() = %q; want the proxy only", got)
	}
	if got := l.Requests(); len(got) != 2 || got[0].Method != "CONNECT" || got[0].Host != "web.example:443" {
		t.Errorf("Requests() = %+v; want CONNECT web.example:443 and another", got)
	}
	if got := l.Run("curl", "-sSf", "--proxy", "http://"+web+":3128", "http://web.example/hello"); got != "hello from web.example\n" {
		t.Errorf("without TLS: %q", got)
	}
	if got := l.Requests(); len(got) != 4 || got[2].Path != "http://web.example/hello" {
		t.Errorf("Requests() = %+v; want http://web.example/hello and another", got)
	}
}

// A name may have an answer of its own, which its certificate and its address are for.
func TestServe(t *testing.T) {
	need(t, "curl")
	l := newLab(t)
	l.Serve("api.example", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "for "+r.URL.Path) }))
	if got := l.Run("curl", "-sSf", "https://api.example/hello"); got != "for /hello" {
		t.Errorf("/hello of the name = %q; want its own answer", got)
	}
	if got := l.Run("curl", "-sSf", "https://web.example/hello"); got != "hello from web.example\n" {
		t.Errorf("/hello of another = %q; want the page", got)
	}
	if got := l.Requests(); len(got) != 2 || got[0].ServerName != "api.example" {
		t.Errorf("Requests() = %+v; want both", got)
	}
}

// A hundred lines by WebSocket, then a ping and the end.
func TestWebSocket(t *testing.T) {
	l := newLab(t)
	conn := tls.Client(dial(t, l, web+":443"), &tls.Config{RootCAs: l.Pool(), ServerName: "web.example"})
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://web.example/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, r)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := resp.Header.Get("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; resp.StatusCode != 101 || got != want {
		t.Fatalf("/ws = %s, accept %q; want 101, %q", resp.Status, got, want)
	}
	whole := func(opcode byte, text string) websocket.Frame {
		return websocket.Frame{Fin: true, Opcode: opcode, Payload: []byte(text)}
	}
	var frames, want []websocket.Frame
	for i := range 100 {
		frames = append(frames, whole(1, fmt.Sprintf("line %d", i)))
	}
	want = append(slices.Clone(frames), whole(websocket.Pong, "p"), whole(websocket.Close, ""))
	frames = append(frames, whole(websocket.Ping, "p"), whole(websocket.Close, ""))
	for i, f := range frames {
		if _, err := conn.Write(f.Masked()); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want[i].Append(nil)))
		if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, want[i].Append(nil)) {
			t.Fatalf("frame %d = %q, %v; want %q", i, got, err, want[i].Append(nil))
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v; want EOF", err)
	}
}

// The same question, by all protocols.
func TestResolvers(t *testing.T) {
	need(t, "curl")
	l := newLab(t)
	query := question(t, "web.example.")
	config := &tls.Config{RootCAs: l.Pool(), ServerName: "dns.example"}
	framed := append([]byte{0, byte(len(query))}, query...)
	ask := func(conn net.Conn, query []byte, skip int) []byte {
		t.Helper()
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, 512)
		n, err := io.ReadAtLeast(conn, reply, skip+len(query))
		if err != nil {
			t.Fatal(err)
		}
		return reply[skip:n]
	}
	var udp net.Conn
	err := l.host.do(func() (err error) {
		udp, err = net.Dial("udp4", "9.9.9.9:53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file := filepath.Join(t.TempDir(), "query")
	if err := os.WriteFile(file, query, 0o644); err != nil {
		t.Fatal(err)
	}
	want := l.resolver.answer(query)
	for name, got := range map[string][]byte{
		"UDP": ask(udp, query, 0),
		"TCP": ask(dial(t, l, "1.1.1.1:53"), framed, 2),
		"TLS": ask(tls.Client(dial(t, l, "1.1.1.1:853"), config), framed, 2),
		"HTTPS": []byte(l.Run("curl", "-sSf", "-H", "Content-Type: application/dns-message",
			"--data-binary", "@"+file, "https://web.example/dns-query")),
	} {
		if !bytes.Equal(got, want) {
			t.Errorf("the answer by %s = %q; want %q", name, got, want)
		}
	}
}
