package agent

import (
	"bufio"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// How the ports are looked at on which anybody listens. A look costs an emulated CPU some
// milliseconds, so there is none while a machine starts, or has nothing to do.
const (
	// noticeInterval is between two looks, and before the first: the start of a program
	// does not wait for it.
	noticeInterval = time.Second
	// restInterval is between two looks while no program of the user's runs, and somebody
	// listens all the same: a service, or what a program has left.
	restInterval = 5 * time.Second
	// afterTime is how long it is looked after the end of the last program, which may have
	// started a service.
	afterTime = 10 * time.Second
)

// activity counts the programs of the user's that run. The zero value has none.
type activity struct {
	mu      sync.Mutex // guards what follows
	running int
	last    time.Time // when one ended
	next    chan struct{}
}

// begin counts a program until end.
func (a *activity) begin() (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running++
	if a.next != nil {
		close(a.next)
		a.next = nil
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running--
		a.last = time.Now()
	}
}

// now reports whether a program runs, or ended a moment ago. next is closed when the next one
// begins.
func (a *activity) now() (runs bool, next <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next = make(chan struct{})
	}
	return a.running > 0 || !a.last.IsZero() && time.Since(a.last) < afterTime, a.next
}

// noticePorts tells the host on which ports anybody listens who can be reached by the
// loopback interface, and whenever that changes, until the host closes the stream.
func (a *agent) noticePorts(stream net.Conn) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, stream)
	}()
	tellNoticed(stream, &a.programs, listeners, ended)
}

// tellNoticed writes what noticePorts does to w, as look finds it.
func tellNoticed(w io.Writer, programs *activity, look func() []int, ended <-chan struct{}) {
	var last []int
	timer := time.NewTimer(noticeInterval)
	defer timer.Stop()
	for {
		runs, next := programs.now()
		if !runs && len(last) == 0 {
			select {
			case <-next:
			case <-ended:
				return
			}
		}
		interval := noticeInterval
		if !runs && len(last) > 0 {
			interval = restInterval
		}
		timer.Reset(interval)
		select {
		case <-timer.C:
		case <-ended:
			return
		}
		began := time.Now()
		now := look()
		if !slices.Equal(now, last) {
			if wire.WriteMessage(w, wire.Listening{Ports: now}) != nil {
				return
			}
			last = now
		}
		// Many connections make a long list: a look has its part of the time, and no more.
		if took := time.Since(began); took*rareness > interval {
			timer.Reset(took * rareness)
			select {
			case <-timer.C:
			case <-ended:
				return
			}
		}
	}
}

// local are the addresses of the kernel's lists by which the loopback interface reaches who
// listens: any, 127.0.0.1, and their like of IPv6.
var local = []string{
	"00000000", "0100007F",
	"00000000000000000000000000000000", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F",
}

// listeners returns the ports on which anybody listens at such an address, sorted, at most
// wire.MaxListening.
func listeners() []int {
	var all []int
	for _, file := range socketFiles {
		f, err := os.Open(file)
		if err != nil {
			continue // a kernel without IPv6
		}
		all = append(all, listenersOf(f)...)
		f.Close()
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), wire.MaxListening)]
}

// listenersOf returns those of one of the kernel's lists.
func listenersOf(list io.Reader) (ports []int) {
	for lines := bufio.NewScanner(list); lines.Scan(); {
		port, ok := listenerOf(lines.Text())
		if !ok {
			continue
		}
		addr, _, _ := strings.Cut(strings.Fields(lines.Text())[1], ":")
		if slices.Contains(local, addr) {
			ports = append(ports, port)
		}
	}
	return ports
}
