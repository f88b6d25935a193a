package agent

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// How often the kernel is asked who listens: where it says by itself that this changes, and
// where it does not. A look that takes long, because there are many connections, is
// taken less often: it has at most one part in rareness of the time.
const (
	toldInterval   = time.Second
	askInterval    = 200 * time.Millisecond
	rareness       = 50
	settleInterval = 5 * time.Millisecond
)

// socketFiles are the kernel's lists of sockets, proc_net_tcp of its documentation.
var socketFiles = []string{"/proc/net/tcp", "/proc/net/tcp6"}

// looks takes requests to look at ports now, until ended. Each is closed when that is done.
type looks struct {
	asked chan chan struct{}
	ended <-chan struct{}
}

// lookTimeout bounds the wait for a look, and for the host's answer to what it found. Both
// take milliseconds if the CPUs are free.
const lookTimeout = 5 * time.Second

// lookAtPorts tells the host of ports before what follows: who has seen a command start a
// service reaches it. The host has opened its ports then.
func (a *agent) lookAtPorts() {
	a.mu.Lock()
	all := slices.Collect(maps.Keys(a.looks))
	a.mu.Unlock()
	timeout := time.After(2 * lookTimeout)
	for _, to := range all {
		done := make(chan struct{})
		select {
		case to.asked <- done:
		case <-to.ended:
			continue
		case <-timeout:
			return
		}
		select {
		case <-done:
		case <-to.ended:
		case <-timeout:
			return
		}
	}
}

// ports tells the host on which of some ports somebody listens, and whenever that changes,
// until the host closes the stream.
func (a *agent) ports(stream net.Conn, req *wire.Ports) {
	ended := make(chan struct{})
	answers := newAnswers()
	go func() {
		defer close(ended)
		for answer := make([]byte, 1); ; {
			if _, err := io.ReadFull(stream, answer); err != nil {
				return
			}
			answers.add()
		}
	}()
	asked := &looks{asked: make(chan chan struct{}), ended: ended}
	a.mu.Lock()
	if a.looks == nil {
		a.looks = make(map[*looks]bool)
	}
	a.looks[asked] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.looks, asked)
		a.mu.Unlock()
	}()
	tellPorts(stream, req.Ports, answers, func() (<-chan struct{}, func()) {
		a.tracing.Lock() // it changes an option for a moment, and puts it back
		defer a.tracing.Unlock()
		return listenChanges(tracing)
	}, asked)
}

// answers counts the messages that the host has answered: it has opened or closed its ports.
type answers struct {
	count atomic.Int64
	more  chan struct{} // has a value after each
}

func newAnswers() *answers { return &answers{more: make(chan struct{}, 1)} }

func (a *answers) add() {
	a.count.Add(1)
	select {
	case a.more <- struct{}{}:
	default: // it has one
	}
}

// wait waits for answers to n messages, until ended, or until the host seems to give none.
func (a *answers) wait(n int64, ended <-chan struct{}) {
	timeout := time.After(lookTimeout)
	for a.count.Load() < n {
		select {
		case <-a.more:
		case <-ended:
			return
		case <-timeout:
			return
		}
	}
}

// tellPorts writes what ports does to w, until asked has ended. watch is listenChanges.
func tellPorts(w io.Writer, ports []int, answers *answers, watch func() (<-chan struct{}, func()), asked *looks) {
	var last []int
	var done chan struct{} // of who has asked
	var messages int64
	var changes <-chan struct{}
	told := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; first = false {
		began := time.Now()
		now := listening(ports)
		if first || !slices.Equal(now, last) {
			if wire.WriteMessage(w, wire.Listening{Ports: now}) != nil {
				return
			}
			last = now
			messages++
		}
		if done != nil {
			answers.wait(messages, asked.ended) // what follows finds the host's ports open
			close(done)
			done = nil
		}
		if first {
			// That takes a while, and what changes meanwhile is looked at after it.
			var stop func()
			changes, stop = watch()
			defer stop()
			continue
		}
		interval := askInterval
		switch {
		case told: // by the kernel, a moment before it is true
			interval = settleInterval
		case changes != nil:
			interval = toldInterval
		}
		timer.Reset(max(interval, rareness*time.Since(began)))
		told = false
		select {
		case <-asked.ended:
			return
		case <-timer.C:
		case done = <-asked.asked:
		case _, ok := <-changes:
			if told = ok; !ok {
				changes = nil
			}
		}
	}
}

// listening returns those of ports on which somebody listens, in their order.
func listening(ports []int) []int {
	found := make(map[int]bool)
	for _, file := range socketFiles {
		f, err := os.Open(file)
		if err != nil {
			continue // a kernel without IPv6
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if port, ok := listenerOf(lines.Text()); ok {
				found[port] = true
			}
		}
		f.Close()
	}
	all := []int{}
	for _, port := range ports {
		if found[port] && !slices.Contains(all, port) {
			all = append(all, port)
		}
	}
	return all
}

// listenerOf returns the port of a line of the kernel's list if that is about a socket that
// listens: "0: 0100007F:1F40 00000000:0000 0A …".
func listenerOf(line string) (port int, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[3] != "0A" { // TCP_LISTEN
		return 0, false
	}
	_, number, _ := strings.Cut(fields[1], ":")
	n, err := strconv.ParseUint(number, 16, 16)
	if err != nil {
		return 0, false
	}
	return int(n), true
}

// tracing is where the kernel tells what happens in it, ftrace of its documentation.
const tracing = "/sys/kernel/tracing"

// listenChanges returns a channel that has a value when a socket of the machine has begun
// or ended to listen; nil where the kernel does not tell that. It is closed if that ends.
func listenChanges(tracing string) (changes <-chan struct{}, stop func()) {
	none := func() {}
	if _, err := os.Stat(filepath.Join(tracing, "instances")); err != nil {
		m := mount{"tracefs", tracing, "tracefs", nosuid | unix.MS_NOEXEC, "mode=700"}
		if m.do() != nil {
			return nil, none
		}
	}
	// One of our own, so that we disturb nobody who traces. It takes over that names of
	// programs are not recorded: for these the kernel would change the code of its scheduler
	// while that runs, which an emulated CPU does not always survive.
	record := filepath.Join(tracing, "options/record-cmd")
	was, recordErr := os.ReadFile(record)
	if recordErr == nil {
		setKernel(record, "0")
	}
	dir, err := os.MkdirTemp(filepath.Join(tracing, "instances"), "mayfly-")
	if recordErr == nil {
		setKernel(record, strings.TrimSpace(string(was)))
	}
	if err != nil {
		return nil, none
	}
	event := filepath.Join(dir, "events/sock/inet_sock_set_state")
	for _, set := range [][2]string{
		{filepath.Join(dir, "buffer_size_kb"), "8"},
		{filepath.Join(event, "filter"), "oldstate == " + strconv.Itoa(unix.BPF_TCP_LISTEN) + " || newstate == " + strconv.Itoa(unix.BPF_TCP_LISTEN)},
		{filepath.Join(event, "enable"), "1"},
	} {
		if setKernel(set[0], set[1]) != nil {
			os.Remove(dir)
			return nil, none
		}
	}
	// Non-blocking, so that closing it ends a read.
	pipe, err := os.OpenFile(filepath.Join(dir, "trace_pipe"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		os.Remove(dir)
		return nil, none
	}
	told, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		defer close(told)
		for buf := make([]byte, 4096); ; {
			if _, err := pipe.Read(buf); err != nil {
				return
			}
			select {
			case told <- struct{}{}:
			default: // it will be looked at
			}
		}
	}()
	return told, func() {
		pipe.Close()
		<-done
		setKernel(filepath.Join(event, "enable"), "0")
		os.Remove(dir) // the kernel removes what is in it
	}
}

// setKernel writes to a file of the kernel's, which is there.
func setKernel(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
