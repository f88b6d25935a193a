package intercept

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

func TestScrub(t *testing.T) {
	s := lend(host)
	short := secret.Secret{Value: secret.NewValue("hunter2"), Placeholder: "mayfly-0123456789abcdef"}
	text := "begin " + value + value + " sk-live-R3alS3 " + value[:len(value)-1] + " hunter2hunter hunter2 end" + value[:5]
	want := strings.ReplaceAll(strings.ReplaceAll(text, value, placeholder), "hunter2", "*******")
	for n := 1; n < 80; n++ {
		body := &scrubbedBody{
			ReadCloser: io.NopCloser(&chunks{strings.NewReader(text), n}),
			stream:     stream{scrubber: newScrubber([]*secret.Secret{&s, &short})}, atEnd: func() {},
		}
		got, err := io.ReadAll(body)
		if string(got) != want || err != nil {
			t.Errorf("in pieces of %d: %q, %v; want %q", n, got, err, want)
		}
	}
}

// chunks reads n bytes at once.
type chunks struct {
	r io.Reader
	n int
}

func (c *chunks) Read(b []byte) (int, error) { return c.r.Read(b[:min(len(b), c.n)]) }

// scrubAll returns what becomes of data that comes in pieces of in bytes and is read in
// pieces of out.
func scrubAll(t testing.TB, s *scrubber, data []byte, in, out int) []byte {
	t.Helper()
	body := &scrubbedBody{ReadCloser: io.NopCloser(&chunks{bytes.NewReader(data), in}), stream: stream{scrubber: s}, atEnd: func() {}}
	var got []byte
	buf := make([]byte, out)
	for {
		n, err := body.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return got
		}
	}
}

// A value that begins, or overlaps, another leaves nothing of either, however it comes in
// pieces.
func TestScrubPrefixes(t *testing.T) {
	short := secret.Secret{Name: "A", Value: secret.NewValue("tok-0123456789abcdefgh"), Placeholder: "tok-XXXXXXXXXXXXXXXXXX"}
	long := secret.Secret{Name: "B", Value: secret.NewValue("tok-0123456789abcdefgh-and-the-rest-of-it"), Placeholder: "tok-YYYYYYYYYYYYYYYYYY-YYY-YYY-YYYY-YY-YY"}
	over := secret.Secret{Name: "C", Value: secret.NewValue("of-it-is-another-secret-0123"), Placeholder: "ZZ-ZZ-ZZ-ZZZZZZZ-ZZZZZZ-ZZZZ"}
	text := "1 tok-0123456789abcdefgh. 2 tok-0123456789abcdefgh-and-the-rest-of-it. 3 tok-0123456789abcdefgh-and-the-rest-of-it-is-another-secret-0123. 4 tok-0123456789abcdefgh-and"
	for _, order := range [][]*secret.Secret{{&short, &long, &over}, {&over, &long, &short}} {
		for n := 1; n < 100; n++ {
			got := string(scrubAll(t, newScrubber(order), []byte(text), n, 7))
			for _, part := range []string{"456789abcdefgh", "the-rest", "another-secret", "secret-0123"} {
				if strings.Contains(got, part) {
					t.Fatalf("in pieces of %d: %q is left in %q", n, part, got)
				}
			}
			if len(got) != len(text) || !strings.HasSuffix(got, "-and") {
				t.Fatalf("in pieces of %d: %q", n, got)
			}
		}
	}
}

// forms are what services make of what they were sent, before they repeat it.
func forms(v string) map[string]string {
	quotedURL := base64.StdEncoding.EncodeToString([]byte("user:" + v + "\n"))
	j, _ := json.Marshal(v)
	var percent, unicode string
	for i := range len(v) {
		percent += fmt.Sprintf("%%%02x", v[i])
		unicode += fmt.Sprintf("\\u%04x", v[i])
	}
	return map[string]string{
		"plain":             "x" + v + "y",
		"base64":            base64.StdEncoding.EncodeToString([]byte(v)),
		"base64 + 1":        base64.StdEncoding.EncodeToString([]byte("a" + v + "bc")),
		"base64 + 2":        base64.StdEncoding.EncodeToString([]byte("ab" + v + "c")),
		"base64url + 1":     base64.URLEncoding.EncodeToString([]byte("\xff" + v)),
		"base64, a user":    quotedURL,
		"base64 in a URL":   url.QueryEscape(quotedURL),
		"base64 in JSON":    strings.ReplaceAll(quotedURL, "/", "\\/"),
		"hex":               hex.EncodeToString([]byte(v)),
		"HEX":               strings.ToUpper(hex.EncodeToString([]byte("q" + v))),
		"query":             url.QueryEscape(v),
		"path":              url.PathEscape(v),
		"percent":           percent,
		"JSON":              string(j),
		"JSON, all escaped": unicode,
	}
}

// decodings undoes all of that, as far as it goes: what a guest would do.
func decodings(text string) string {
	all := text
	all += strings.ReplaceAll(text, "\\/", "/")
	if u, err := url.QueryUnescape(text); err == nil {
		all += " " + u
		text = u
	}
	text = strings.ReplaceAll(text, "\\/", "/")
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		if b, err := e.DecodeString(text); err == nil {
			all += " " + string(b)
		}
	}
	if b, err := hex.DecodeString(text); err == nil {
		all += " " + string(b)
	}
	var s string
	if json.Unmarshal([]byte(text), &s) == nil || json.Unmarshal([]byte(`"`+text+`"`), &s) == nil {
		all += " " + s
	}
	return all
}

func TestScrubEncodings(t *testing.T) {
	for _, v := range []string{value, `sk/with+all"kinds&of<letters>/?=%+0123456789`, strings.Repeat("k", 24) + "-0123"} {
		s := lend(host)
		s.Value, s.Placeholder = secret.NewValue(v), secret.Placeholder(secret.NewValue(v))
		scrub := newScrubber([]*secret.Secret{&s})
		for name, form := range forms(v) {
			for _, n := range []int{1, 7, 4096} {
				got := string(scrubAll(t, scrub, []byte("begin "+form+" end"), n, 4096))
				got = strings.TrimSuffix(strings.TrimPrefix(got, "begin "), " end")
				// The first and the last letter of base64 hold bits of what
				// stands beside.
				if inner := v[1 : len(v)-1]; strings.Contains(decodings(got), inner) || len(got) != len(form) {
					t.Errorf("%s of %q in pieces of %d: %q is left", name, v, n, got)
				}
			}
			if got := scrub.text(form); strings.Contains(decodings(got), v) {
				t.Errorf("%s of %q in a header: %q", name, v, got)
			}
		}
	}
}

// A short value is not searched for in forms that any file has by chance.
func TestScrubShort(t *testing.T) {
	s := secret.Secret{Value: secret.NewValue("abc"), Placeholder: "mayfly-0123456789abcdef"}
	for _, p := range newScrubber([]*secret.Secret{&s}).patterns {
		if len(p.find) < minEncoded && string(p.find) != "abc" {
			t.Errorf("searches for %q", p.find)
		}
	}
}

// The value is in the name of a header, where letters have no case.
func TestScrubHeaderNames(t *testing.T) {
	s := lend(host)
	scrub := newScrubber([]*secret.Secret{&s})
	h := http.Header{}
	h.Set("X-"+value, "1")
	h.Set("X-"+base64.RawURLEncoding.EncodeToString([]byte(value)), "1")
	h.Set("X-Other", "1")
	scrub.header(h)
	if len(h) != 1 || h.Get("X-Other") != "1" {
		t.Errorf("left are %v", h)
	}
}

// frame returns a frame of WebSocket.
func frame(first byte, payload string) string {
	switch n := len(payload); {
	case n < 126:
		return string([]byte{first, byte(n)}) + payload
	case n < 1<<16:
		return string(binary.BigEndian.AppendUint16([]byte{first, 126}, uint16(n))) + payload
	default:
		return string(binary.BigEndian.AppendUint64([]byte{first, 127}, uint64(n))) + payload
	}
}

// readFrames returns what a guest gets of frames, and the error behind them.
func readFrames(s *scrubber, raw string, in int) (string, error) {
	f := &frames{ReadCloser: io.NopCloser(&chunks{strings.NewReader(raw), in}), stream: stream{scrubber: s}, failed: func(string) {}}
	got, err := io.ReadAll(f)
	return string(got), err
}

func TestFrames(t *testing.T) {
	s := lend(host)
	scrub := newScrubber([]*secret.Secret{&s})
	long := strings.Repeat("a", 70000)
	both := func(v string) string {
		return frame(0x81, "text "+v) + frame(0x82, "binary "+v) + frame(0x89, v) + frame(0x81, "") + frame(0x82, long+v+long) + frame(0x81, strings.Repeat("b", 200)+v)
	}
	split := func(v string) string {
		return frame(0x01, "x"+v[:5]) + frame(0x00, v[5:6]) + frame(0x00, "") + frame(0x8a, "pong "+v) + frame(0x00, v[6:20]) + frame(0x80, v[20:]+" end")
	}
	for n := 1; n < 200; n += 13 {
		got, err := readFrames(scrub, both(value)+split(value)+both("y"), n)
		if want := both(placeholder) + split(placeholder) + both("y"); got != want || err != nil {
			t.Fatalf("in pieces of %d: %v, %q; want %q", n, err, got[:min(len(got), 300)], want[:300])
		}
	}
	for name, raw := range map[string]string{
		"compressed":            frame(0xc1, "x"),
		"masked":                string([]byte{0x81, 0x81, 1, 2, 3, 4, 'x'}),
		"a long ping":           frame(0x89, long),
		"a ping in two frames":  frame(0x09, "x"),
		"no frames":             "hello " + value + "\n",
		"endless frames":        frame(0x01, value[:4]) + strings.Repeat(frame(0x00, ""), 2*maxPieces),
		"a length that is none": string([]byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) + "x",
	} {
		if got, err := readFrames(scrub, raw, 4096); err == nil || strings.Contains(got, value) {
			t.Errorf("%s: %q, %v; want an error", name, got[:min(len(got), 100)], err)
		}
	}
}

// A message that ends with what could be the beginning of a value is not held back.
func TestFramesDoNotWait(t *testing.T) {
	s := lend(host)
	r, w := io.Pipe()
	f := &frames{ReadCloser: r, stream: stream{scrubber: newScrubber([]*secret.Secret{&s})}, failed: func(string) {}}
	go func() { io.WriteString(w, frame(0x81, "task-"+value[:6])) }()
	got := make([]byte, 2+5+6)
	if _, err := io.ReadFull(f, got); err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(0x81, "text "+value)), 3)
	f.Add([]byte(frame(0x01, "x"+value[:5])+frame(0x89, value)+frame(0x80, value[5:])), 1)
	s := lend(host)
	f.Fuzz(func(t *testing.T, data []byte, in int) {
		if in < 1 || in > 1000 {
			return
		}
		got, err := readFrames(newScrubber([]*secret.Secret{&s}), string(data), in)
		// A frame that has no end is not given out as a whole.
		if len(got) > len(data) {
			t.Errorf("%q became %q, %v", data, got, err)
		}
		for _, message := range messages(got) {
			if strings.Contains(message, value) {
				t.Errorf("%q became %q", data, got)
			}
		}
	})
}

// messages returns the payloads of plain frames, those of a message together.
func messages(raw string) []string {
	var all []string
	current := ""
	for len(raw) >= 2 {
		first, n, size := raw[0], int(raw[1]&0x7f), 2
		switch {
		case n == 126 && len(raw) >= 4:
			n, size = int(binary.BigEndian.Uint16([]byte(raw[2:]))), 4
		case n == 127 && len(raw) >= 10:
			n, size = int(binary.BigEndian.Uint64([]byte(raw[2:]))), 10
		case n >= 126:
			return append(all, current)
		}
		end := len(raw)
		if n >= 0 && n < end-size {
			end = size + n
		}
		payload := raw[size:end]
		raw = raw[end:]
		switch {
		case first&0x08 != 0:
			all = append(all, payload)
		case first&0x80 != 0:
			all, current = append(all, current+payload), ""
		default:
			current += payload
		}
	}
	return append(all, current)
}

// The same through the proxy: the extension that compresses is not offered, and what is
// carried is counted.
func TestWebSocketWithSecret(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Sec-Websocket-Extensions"); e != "" {
			t.Errorf("the extension %q arrived", e)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
		line, _ := rw.ReadString('\n')
		key := r.Header.Get("X-Api-Key")
		io.WriteString(conn, frame(0x01, line+key[:9])+frame(0x80, key[9:]))
	}, []plan.Rule{{Host: host}}, lend(host))
	conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Api-Key: %s\r\n\r\n", placeholder)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Extensions") != "" {
		t.Fatalf("%v, %v; want 101 without extensions", resp, err)
	}
	io.WriteString(conn, "hello\n")
	got, err := io.ReadAll(r)
	if want := frame(0x01, "hello\n"+placeholder[:9]) + frame(0x80, placeholder[9:]); string(got) != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	conn.Close()
	l.recorded("the socket", func(e []audit.Event) bool {
		return len(e) == 1 && e[0].Status == 101 && e[0].Up == 6 && e[0].Down == int64(len(got))
	})
}

// A host that compresses against the proxy's wish is read, or refused where it cannot be.
func TestScrubCompressed(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Accept-Encoding"); e != "identity" {
			t.Errorf("Accept-Encoding: %s arrived", e)
		}
		w.Header().Set("Content-Encoding", r.URL.Query().Get("format"))
		z := gzip.NewWriter(w)
		io.WriteString(z, "the key is "+r.Header.Get("X-Api-Key"))
		z.Close()
	}, []plan.Rule{{Host: host}}, lend(host))
	for format, want := range map[string]string{"gzip": "the key is " + placeholder, "br": "", "zstd": ""} {
		status, body, header := do(t, l.client("HTTP/2.0"), "GET", "https://"+host+"/?format="+format, func(r *http.Request) {
			r.Header.Set("X-Api-Key", placeholder)
			r.Header.Set("Accept-Encoding", "gzip, br")
		})
		if want != "" && (body != want || header.Get("Content-Encoding") != "") || want == "" && status != http.StatusBadGateway {
			t.Errorf("%s: %d %q, %v; want %q", format, status, body, header, want)
		}
	}
}

func FuzzScrub(f *testing.F) {
	f.Add([]byte("a"+value+"b"), 3, 5)
	f.Add([]byte(value+value[:10]), 1, 1)
	f.Add([]byte(hex.EncodeToString([]byte(value))), 9, 4)
	s := lend(host)
	scrub := newScrubber([]*secret.Secret{&s})
	f.Fuzz(func(t *testing.T, data []byte, in, out int) {
		if in < 1 || in > 1000 || out < 1 || out > 1000 {
			return
		}
		got := scrubAll(t, scrub, data, in, out)
		if len(got) != len(data) {
			t.Errorf("%q became %q", data, got)
		}
		for _, p := range scrub.patterns {
			if bytes.Contains(got, p.find) {
				t.Errorf("%q is left of %q in %q", p.find, data, got)
			}
		}
		if whole := scrubAll(t, scrub, data, 1000, 1000); !bytes.Equal(got, whole) && len(data) < 1000 {
			t.Errorf("%q became %q in pieces of %d, and %q as a whole", data, got, in, whole)
		}
	})
}
