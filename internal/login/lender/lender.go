// Package lender renews log-ins of subscriptions for a machine, in a process of its own.
//
// A supervisor is confined once its machine is ready: it opens no file of its user's, and
// must not, for it parses what a guest sends. Access tokens live for hours, and machines for
// days. So each supervisor whose machine has such a log-in starts a lender before that (the
// mayfly binary executed again), which holds the store of log-ins, asks the provider for new
// tokens under the store's lock, and tells the supervisor the access token by a pipe. It
// meets no guest, is confined itself, and ends with the supervisor, but for a renewal that is
// under way: the new tokens would be lost.
//
// In flow a directory of log-ins and the names of agents (Order); out flow News.
package lender

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/network/dial"
)

// Command is the hidden word of the command line that runs a lender.
const Command = "lend"

// Order is what a lender is told, as the first line of its standard input.
type Order struct {
	Agents  []string     `json:"agents"`
	Proxies dial.Proxies `json:"proxies"`
}

// News is what a lender says of the log-in of an agent: a line of JSON on its standard
// output. It prints as nothing.
type News struct {
	Agent   string    `json:"agent"`
	Token   string    `json:"token,omitempty"` // the access token; "" if there is none
	Expires time.Time `json:"expires"`
	// Refused says that the provider renews the log-in no more. Token is of use until
	// Expires.
	Refused bool `json:"refused,omitempty"`
	// Why says why there is no token, or why it could not be renewed.
	Why string `json:"why,omitempty"`
}

// Format hides what a token is.
func (News) Format(s fmt.State, _ rune) { io.WriteString(s, "REDACTED") }

// maxNews bounds a line of News in bytes, and maxOrder an order: a pipe has room for it.
const (
	maxNews  = 64 << 10
	maxOrder = 64 << 10
)

// Lender is a process that renews log-ins.
type Lender struct {
	order *os.File
	news  *os.File
}

// ownProgram is this program, also after its file was replaced.
const ownProgram = "/proc/self/exe"

// Start starts a lender for the log-ins in dir. What it logs goes to log.
func Start(dir string, o Order, log *os.File) (*Lender, error) {
	return start(exec.Command(ownProgram, Command, dir), o, log)
}

func start(cmd *exec.Cmd, o Order, log *os.File) (_ *Lender, err error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("start the renewal of log-ins: %w", err)
	}
	if len(data) >= maxOrder {
		return nil, errors.New("start the renewal of log-ins: the host's proxies take too many bytes")
	}
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the renewal of log-ins: %w", err)
	}
	defer orderR.Close()
	newsR, newsW, err := os.Pipe()
	if err != nil {
		orderW.Close()
		return nil, fmt.Errorf("start the renewal of log-ins: %w", err)
	}
	defer newsW.Close()
	cmd.Args[0] = "mayfly"
	cmd.Env = append(cmd.Env, "PATH=/usr/bin:/bin", "GOMAXPROCS=2", "GOGC=20")
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = orderR, newsW, log
	// It ends by its pipe, and not by a signal for all of a group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err = cmd.Start(); err == nil {
		go cmd.Wait()
		// A pipe has room for it: nobody has to read.
		_, err = orderW.Write(append(data, '\n'))
	}
	l := &Lender{orderW, newsR}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("start the renewal of log-ins: %w", err)
	}
	return l, nil
}

// Follow calls heard for all news, until the lender ends or is closed.
func (l *Lender) Follow(heard func(News)) error {
	lines := bufio.NewScanner(l.news)
	lines.Buffer(nil, maxNews)
	for lines.Scan() {
		var n News
		if json.Unmarshal(lines.Bytes(), &n) != nil {
			return errors.New("the renewal of log-ins says what is none of its news")
		}
		heard(n)
	}
	return lines.Err()
}

// Close lets the lender end.
func (l *Lender) Close() { l.order.Close(); l.news.Close() }

// Spawned reports whether this process was started as a lender.
func Spawned() bool {
	for _, fd := range []int{0, 1} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			return false
		}
	}
	return true
}
