package vnet

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/mayfly-vm/mayfly/internal/budget"
)

// size is what a connection may hold.
type size struct {
	send, receive int64 // bytes of its buffers
	// smalls is the number of small writes that may wait for the guest. gVisor counts
	// their bytes, and each costs it a kilobyte.
	smalls int
	copy   int   // of each of the two buffers of who copies it
	cost   int64 // of all that
	spare  int64 // that must be left of the budget
}

// The sizes, the best first. The buffers are the queue of a slow guest, so that large ones
// are nothing but delay; two packets of the longest kind are what a fast one needs. Who
// has very many connections has slow ones.
var sizes = []size{
	{send: 512 << 10, receive: 512 << 10, smalls: 256, copy: 64 << 10, cost: 1536 << 10, spare: 112 << 20},
	{send: 128 << 10, receive: 128 << 10, smalls: 64, copy: 32 << 10, cost: 448 << 10, spare: 88 << 20},
	{send: 16 << 10, receive: 32 << 10, smalls: 16, copy: 8 << 10, cost: 112 << 10, spare: budget.Reserve},
}

// slot is the place of a connection among those that the machine may have. It is held
// until its callback has returned, and gVisor holds nothing of it any more: that may be
// long after its Close, when the guest does not read.
type slot struct {
	s    *Stack
	size size
	held atomic.Int32 // by how many
}

// takeSlot returns a slot of the smallest size, or nil if there is none.
func (s *Stack) takeSlot() *slot {
	if !s.conns.take() {
		return nil
	}
	sl := &slot{s: s, size: sizes[len(sizes)-1]}
	if !s.cfg.Budget.Take(sl.size.cost, sl.size.spare) {
		s.conns.give()
		return nil
	}
	sl.held.Store(1)
	return sl
}

// grow makes the connection as large as may be.
func (sl *slot) grow() size {
	for _, better := range sizes[:len(sizes)-1] {
		if sl.s.cfg.Budget.Take(better.cost-sl.size.cost, better.spare) {
			sl.size = better
			break
		}
	}
	return sl.size
}

func (sl *slot) leave() {
	if sl.held.Add(-1) == 0 {
		sl.s.cfg.Budget.Give(sl.size.cost)
		sl.s.conns.give()
	}
}

func (sl *slot) holdUntilEnd(wq *waiter.Queue, ep tcpip.Endpoint) {
	sl.held.Add(1)
	leave := sync.OnceFunc(sl.leave)
	onEnd(wq, ep, func(tcp.EndpointState) { leave() })
}

// onEnd calls f when ep has ended, and perhaps again. f must not wait.
func onEnd(wq *waiter.Queue, ep tcpip.Endpoint, f func(tcp.EndpointState)) {
	check := func(waiter.EventMask) {
		switch state := tcp.EndpointState(ep.State()); state {
		case tcp.StateClose, tcp.StateError:
			f(state)
		}
	}
	e := waiter.NewFunctionEntry(waiter.EventHUp, check)
	wq.EventRegister(&e)
	check(0) // it may have ended before
}

// conn is an accepted connection.
type conn struct {
	*gonet.TCPConn
	ep   *tcp.Endpoint
	wq   *waiter.Queue
	size size

	writing  sync.Mutex // held while small writes are counted
	smalls   int        // writes since few were known to wait
	deadline atomic.Int64
}

// Keepalives find out that the guest's kernel has forgotten the connection: a program that
// ends leaves it to the kernel, which gives up without a word.
const (
	keepaliveIdle     = tcpip.KeepaliveIdleOption(30 * time.Second)
	keepaliveInterval = tcpip.KeepaliveIntervalOption(30 * time.Second)
)

// apply tells gVisor.
func (c *conn) apply() {
	o := c.ep.SocketOptions()
	o.SetSendBufferSize(c.size.send, true)
	o.SetReceiveBufferSize(c.size.receive, true)
	idle, interval := keepaliveIdle, keepaliveInterval
	c.ep.SetSockOpt(&idle)
	c.ep.SetSockOpt(&interval)
	o.SetKeepAlive(true)
}

// CopySize returns how long the buffers are to be for who copies c in both directions.
func CopySize(c net.Conn) int {
	if c, ok := c.(*conn); ok {
		return c.size.copy
	}
	return sizes[0].copy
}

// OnReset calls f, in a goroutine of its own, when the guest resets a connection that Accept
// returned: also while nobody reads it.
func OnReset(c net.Conn, f func()) {
	if c, ok := c.(*conn); ok {
		once := sync.OnceFunc(func() { go f() })
		onEnd(c.wq, c.ep, func(state tcp.EndpointState) {
			if state == tcp.StateError {
				once()
			}
		})
	}
}

// Abort ends a connection that Accept returned with RST, as a program that
// crashes does, and closes any other.
func Abort(c net.Conn) {
	if c, ok := c.(*conn); ok {
		c.ep.Abort()
	}
	c.Close()
}

// smallWrite is the length of a write below which its bytes are not what it costs.
const smallWrite = 4 << 10

// Write waits where there are very many small writes that the guest has not taken.
func (c *conn) Write(b []byte) (int, error) {
	if len(b) < smallWrite {
		if err := c.waitForSmall(); err != nil {
			return 0, err
		}
	}
	return c.TCPConn.Write(b)
}

// waitForSmall waits until a small write may be made. gVisor tells nobody when what waits
// becomes little.
func (c *conn) waitForSmall() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.smalls++; c.smalls <= c.size.smalls {
		return nil
	}
	for pause := time.Millisecond; !c.fewWait(); pause = min(2*pause, 100*time.Millisecond) {
		if d := c.deadline.Load(); d != 0 && time.Now().UnixNano() >= d {
			return &net.OpError{Op: "write", Net: "tcp", Addr: c.RemoteAddr(), Err: os.ErrDeadlineExceeded}
		}
		time.Sleep(pause)
	}
	c.smalls = 0
	return nil
}

// fewWait reports whether fewer bytes wait for the guest than there may be small writes,
// or the connection has ended.
func (c *conn) fewWait() bool {
	switch c.ep.EndpointState() {
	case tcp.StateEstablished, tcp.StateCloseWait:
	default:
		return true // the write will say
	}
	// It can only be asked whether a buffer has room. With the lock nothing is
	// acknowledged meanwhile, which would set the size for good.
	c.ep.LockUser()
	defer c.ep.UnlockUser()
	o := c.ep.SocketOptions()
	o.SetSendBufferSize(int64(c.size.smalls), false)
	defer o.SetSendBufferSize(c.size.send, false)
	return c.ep.Readiness(waiter.WritableEvents) != 0
}

// SetDeadline is for both directions.
func (c *conn) SetDeadline(t time.Time) error {
	c.setWrite(t)
	return c.TCPConn.SetDeadline(t)
}

// SetWriteDeadline also ends a write that waits.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.setWrite(t)
	return c.TCPConn.SetWriteDeadline(t)
}

func (c *conn) setWrite(t time.Time) {
	if t.IsZero() {
		c.deadline.Store(0)
		return
	}
	c.deadline.Store(max(1, t.UnixNano()))
}
