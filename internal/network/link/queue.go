package link

import (
	"net"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxQueued bounds the memory of the packets that wait for a guest to read, in
// bytes; as much again is in the write under way. It is more than a few
// connections have in flight, since a loss costs a round trip.
const maxQueued = 2 << 20

// sendQueue holds the packets on their way to the guest. The network stack holds
// locks while it sends, so put never waits: what is too much is lost, and TCP
// sends it again.
type sendQueue struct {
	mu     sync.Mutex
	ready  sync.Cond // on mu: packets are there, or closed
	pkts   []*stack.PacketBuffer
	bytes  int
	closed bool
}

func newSendQueue() *sendQueue {
	q := &sendQueue{}
	q.ready.L = &q.mu
	return q
}

// put takes references to the packets that it queues and returns their number.
func (q *sendQueue) put(pkts []*stack.PacketBuffer) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0
	}
	for i, pkt := range pkts {
		if q.bytes > maxQueued {
			return i
		}
		q.bytes += pkt.MemSize()
		q.pkts = append(q.pkts, pkt.IncRef())
		q.ready.Signal()
	}
	return len(pkts)
}

// take waits for packets and returns all that are there, or none at the end. It
// keeps the array of batch, the result of the call before, for the next.
func (q *sendQueue) take(batch []*stack.PacketBuffer) []*stack.PacketBuffer {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.pkts) == 0 && !q.closed {
		q.ready.Wait()
	}
	taken := q.pkts
	q.pkts, q.bytes = batch[:0], 0
	return taken
}

// close drops what waits.
func (q *sendQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	release(q.pkts)
	q.pkts, q.closed = nil, true
	q.ready.Signal()
}

// release gives the packets up and forgets them.
func release(pkts []*stack.PacketBuffer) {
	for i, pkt := range pkts {
		pkt.DecRef()
		pkts[i] = nil
	}
}

// writeTo writes what comes into the queue to conn until either ends. All
// packets that wait go out in one write (writev).
func (q *sendQueue) writeTo(conn net.Conn) error {
	var batch []*stack.PacketBuffer
	var slices [][]byte
	for {
		batch = q.take(batch)
		if len(batch) == 0 {
			return nil
		}
		slices = slices[:0]
		for _, pkt := range batch {
			slices = appendSlices(slices, pkt)
		}
		bufs := net.Buffers(slices)
		_, err := bufs.WriteTo(conn)
		release(batch)
		if err != nil {
			return err
		}
	}
}

// appendSlices appends the bytes of pkt, headers first.
func appendSlices(slices [][]byte, pkt *stack.PacketBuffer) [][]byte {
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		n := min(skip, len(b))
		skip -= n
		if n < len(b) {
			slices = append(slices, b[n:])
		}
	}
	return slices
}
