package sshd

import (
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

func TestParseEnv(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		ok          bool
	}{
		{"LANG", "C.UTF-8", true}, {"LC_ALL", "", true}, {"GIT_PROTOCOL", "version=2", true}, {"COLORTERM", "a=b", true},
		{"LD_PRELOAD", "/x", false}, {"PATH", "/x", false}, {"AWS_SECRET_ACCESS_KEY", "x", false}, {"", "x", false},
		{"LC_A=B", "x", false}, {"LANG", "a\x00b", false}, {"LANG", strings.Repeat("x", maxText), false},
	} {
		kv, ok := parseEnv(ssh.Marshal(struct{ N, V string }{tt.name, tt.value}))
		if ok != tt.ok || ok && kv != tt.name+"="+tt.value {
			t.Errorf("parseEnv(%.20q, %.20q) = %.40q, %v; want %v", tt.name, tt.value, kv, ok, tt.ok)
		}
	}
}

func ptyRequest(term string, cols, rows uint32, modes string) []byte {
	return ssh.Marshal(struct {
		T          string
		C, R, X, Y uint32
		M          string
	}{term, cols, rows, 640, 480, modes})
}

func TestParsePTY(t *testing.T) {
	got, err := parsePTY(ptyRequest("xterm", 80, 1<<20, "\x35\x00\x00\x00\x00\x03\x00\x00\x00\x08\x00garbage"))
	want := &Terminal{"xterm", Size{Rows: math.MaxUint16, Cols: 80, X: 640, Y: 480}, Modes{53: 0, 3: 8}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("parsePTY: %v, -want +got:\n%s", err, diff)
	}
	for name, payload := range map[string][]byte{
		"empty": nil, "NUL": ptyRequest("x\x00", 1, 1, ""), "half a mode": ptyRequest("x", 1, 1, "\x35\x00"),
		"long name": ptyRequest(strings.Repeat("x", maxText+1), 1, 1, ""),
	} {
		if _, err := parsePTY(payload); err == nil {
			t.Errorf("%s: parsePTY took it", name)
		}
	}
}

func TestApplyModes(t *testing.T) {
	term := unix.Termios{Lflag: unix.ECHO | unix.ISIG, Iflag: unix.ICRNL}
	term.Cc[unix.VINTR] = 3
	Modes{53: 0, 42: 1, 1: 255, 3: 8, 70: 1, 129: 38400, 200: 7}.Apply(&term)
	want := unix.Termios{Lflag: unix.ISIG, Iflag: unix.ICRNL | unix.IUTF8, Oflag: unix.OPOST}
	want.Cc[unix.VERASE] = 8
	if diff := cmp.Diff(want, term); diff != "" {
		t.Errorf("Apply: -want +got:\n%s", diff)
	}
}

func TestExit(t *testing.T) {
	for ws, want := range map[syscall.WaitStatus]string{
		0:                                   "exit-status\x00\x00\x00\x00",
		255 << 8:                            "exit-status\x00\x00\x00\xff",
		syscall.WaitStatus(syscall.SIGTERM): "exit-signal\x00\x00\x00\x04TERM\x00",
		syscall.WaitStatus(syscall.SIGSYS):  "exit-status\x00\x00\x00\x9f",
	} {
		if name, payload := exit(ws); !strings.HasPrefix(name+string(payload), want) {
			t.Errorf("exit(%#x) = %q; want %q", uint32(ws), name+string(payload), want)
		}
	}
}

// Whatever a client says in a request, it is parsed or refused, and what comes of it
// is bounded.
func FuzzRequests(f *testing.F) {
	f.Add(ptyRequest("xterm", 80, 24, "\x35\x00\x00\x00\x00\x00"))
	f.Add(ssh.Marshal(forwarded{"localhost", 80, "127.0.0.1", 1024}))
	f.Add(ssh.Marshal(forward{"", 0}))
	f.Add(ssh.Marshal(struct{ C, R, X, Y uint32 }{80, 24, 0, 0}))
	f.Add(ssh.Marshal(struct{ N, V string }{"LANG", "C"}))
	f.Add(ssh.Marshal(struct{ S string }{"TERM"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if term, err := parsePTY(payload); err == nil {
			if len(term.Name) > maxText || len(term.Modes) > 160 {
				t.Errorf("parsePTY(%q) = %v", payload, term)
			}
			term.Modes.Apply(new(unix.Termios))
		}
		if m, err := parseForwarded(payload); err == nil && (m.Port == 0 || m.Port > math.MaxUint16 || len(m.Host) > maxText) {
			t.Errorf("parseForwarded(%q) = %v", payload, m)
		}
		if m, err := parseForward(payload); err == nil && (m.Port > math.MaxUint16 || len(m.Host) > maxText) {
			t.Errorf("parseForward(%q) = %v", payload, m)
		}
		if kv, ok := parseEnv(payload); ok && (len(kv) > maxText+1 || strings.ContainsRune(kv, 0)) {
			t.Errorf("parseEnv(%q) = %q", payload, kv)
		}
		if sig, err := parseSignal(payload); err == nil && (sig <= 0 || sig > 31) {
			t.Errorf("parseSignal(%q) = %v", payload, sig)
		}
		parseSize(payload)
		parseText(payload)
	})
}
