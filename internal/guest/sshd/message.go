package sshd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// forward is the payload of tcpip-forward and of its cancellation, RFC 4254 7.1.
type forward struct {
	Host string
	Port uint32
}

func parseForward(payload []byte) (forward, error) {
	var m forward
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return m, err
	}
	if m.Port > math.MaxUint16 || len(m.Host) > maxText {
		return m, errors.New("no such address")
	}
	return m, nil
}

// forwarded is the payload of direct-tcpip and of forwarded-tcpip, RFC 4254 7.2.
type forwarded struct {
	Host     string
	Port     uint32
	From     string
	FromPort uint32
}

func parseForwarded(payload []byte) (forwarded, error) {
	var m forwarded
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return m, err
	}
	if m.Port == 0 || m.Port > math.MaxUint16 || m.Host == "" || len(m.Host) > maxText {
		return m, errors.New("no such address")
	}
	return m, nil
}

// parseText parses a payload of one string.
func parseText(payload []byte) (string, error) {
	var m struct{ Text string }
	err := ssh.Unmarshal(payload, &m)
	return m.Text, err
}

// parseEnv parses a variable, and says whether a program is to get it.
func parseEnv(payload []byte) (kv string, ok bool) {
	var m struct{ Name, Value string }
	if ssh.Unmarshal(payload, &m) != nil || len(m.Name)+len(m.Value) > maxText {
		return "", false
	}
	if !acceptEnv(m.Name) || strings.ContainsRune(m.Value, 0) {
		return "", false
	}
	return m.Name + "=" + m.Value, true
}

// acceptEnv says which variables a client may set: those that describe the user's
// terminal and language, and what git speaks. More than these would be let in by
// nobody's wish: clients send what their configuration on the host says, for all
// servers.
func acceptEnv(name string) bool {
	switch name {
	case "LANG", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "NO_COLOR", "FORCE_COLOR", "CLICOLOR",
		"CLICOLOR_FORCE", "TZ", "GIT_PROTOCOL":
		return true
	}
	return strings.HasPrefix(name, "LC_") && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

// parsePTY parses the payload of pty-req, RFC 4254 6.2.
func parsePTY(payload []byte) (*Terminal, error) {
	var m struct {
		Term             string
		Cols, Rows, X, Y uint32
		Modes            string
	}
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	if len(m.Term) > maxText || strings.ContainsRune(m.Term, 0) {
		return nil, fmt.Errorf("bad terminal name %.64q", m.Term)
	}
	modes, err := parseModes(m.Modes)
	if err != nil {
		return nil, err
	}
	return &Terminal{m.Term, newSize(m.Cols, m.Rows, m.X, m.Y), modes}, nil
}

// parseSize parses the payload of window-change, RFC 4254 6.7.
func parseSize(payload []byte) (Size, error) {
	var m struct{ Cols, Rows, X, Y uint32 }
	err := ssh.Unmarshal(payload, &m)
	return newSize(m.Cols, m.Rows, m.X, m.Y), err
}

func newSize(cols, rows, x, y uint32) Size {
	fit := func(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }
	return Size{Rows: fit(rows), Cols: fit(cols), X: fit(x), Y: fit(y)}
}

// signals are those that RFC 4254 6.10 names.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP,
		"ILL": syscall.SIGILL, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
		"QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}
}

func parseSignal(payload []byte) (syscall.Signal, error) {
	name, err := parseText(payload)
	if err != nil {
		return 0, err
	}
	sig, ok := signals()[name]
	if !ok {
		return 0, fmt.Errorf("there is no signal %.16q", name)
	}
	return sig, nil
}

// exit returns the request that tells how a program ended.
func exit(ws syscall.WaitStatus) (name string, payload []byte) {
	if !ws.Signaled() {
		return "exit-status", ssh.Marshal(struct{ Code uint32 }{uint32(ws.ExitStatus())})
	}
	for name, sig := range signals() {
		if sig == ws.Signal() {
			return "exit-signal", ssh.Marshal(struct {
				Name          string
				Core          bool
				Message, Lang string
			}{name, ws.CoreDump(), ws.Signal().String(), ""})
		}
	}
	// One that has no name there; the shells' number for it.
	return "exit-status", ssh.Marshal(struct{ Code uint32 }{128 + uint32(ws.Signal())})
}

// Modes are how a terminal behaves: the number of a mode in RFC 4254 8 and its
// value.
type Modes map[byte]uint32

// parseModes parses what pty-req has of them.
func parseModes(s string) (Modes, error) {
	m := make(Modes)
	for len(s) > 0 && s[0] != 0 && s[0] < 160 { // the end, and what is not defined
		if len(s) < 5 {
			return nil, errors.New("terminal modes end in the middle of one")
		}
		m[s[0]] = binary.BigEndian.Uint32([]byte(s[1:5]))
		s = s[5:]
	}
	return m, nil
}

// Apply changes t as the modes say. Those that a pseudo-terminal does not have are
// left out.
func (m Modes) Apply(t *unix.Termios) {
	for mode, index := range map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
		8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT,
		18: unix.VDISCARD,
	} {
		if v, ok := m[mode]; ok && v <= math.MaxUint8 {
			if v == math.MaxUint8 {
				v = 0 // no such key
			}
			t.Cc[index] = byte(v)
		}
	}
	m.flags(&t.Iflag, map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR,
		36: unix.ICRNL, 37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	})
	m.flags(&t.Lflag, map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
		57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	})
	m.flags(&t.Oflag, map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	})
}

func (m Modes) flags(word *uint32, bits map[byte]uint32) {
	for mode, bit := range bits {
		v, ok := m[mode]
		switch {
		case ok && v != 0:
			*word |= bit
		case ok:
			*word &^= bit
		}
	}
}
