package intercept

import (
	"net/http"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
)

// What the proxy holds for a guest, in bytes, in the worst case. TestFloods measures it.
const (
	// connCost is a connection of the guest's: TLS, two buffers, three goroutines.
	connCost = 64 << 10
	// http2Cost is one that speaks HTTP/2: what is read of bodies and not passed on,
	// the headers under way, control frames that wait for a guest that does not
	// read, and requests whose answer is written, but for their very end.
	http2Cost = 3 << 20
	// requestCost is a request that is refused: its goroutine, and one line.
	requestCost = 32 << 10
	// forwardCost is one that goes on: a connection to the host, the headers of the
	// answer, a buffer, and what the host sends ahead (smallWindow).
	forwardCost = 256 << 10
	// freeHead is how much a guest may send before its request is known, as a part of
	// connCost. What is more costs headFactor times as much: text, lines, and the map.
	freeHead   = 16 << 10
	headFactor = 3
)

// What is left to others by who could do with less.
const (
	spareHTTP2  = budget.Default / 2
	spareWindow = budget.Default * 5 / 8
)

// HTTP/2 of both sides. Nobody but us decides how much we hold: a stream that is not read
// holds its window, and a frame is read as a whole.
const (
	frameSize   = 16 << 10 // the least that a peer may rely on, RFC 9113 4.2
	smallWindow = 64 << 10
	largeWindow = 2 << 20 // with a distance of 50 ms, 40 MB/s
	pingAfter   = 2 * time.Minute
	pingTimeout = 30 * time.Second
	writeByte   = time.Minute // for the next byte to be written
)

func serverHTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          maxStreams,
		MaxReadFrameSize:              frameSize,
		MaxDecoderHeaderTableSize:     4 << 10,
		MaxEncoderHeaderTableSize:     4 << 10,
		MaxReceiveBufferPerConnection: 256 << 10,
		MaxReceiveBufferPerStream:     128 << 10,
		SendPingTimeout:               pingAfter,
		PingTimeout:                   pingTimeout,
		WriteByteTimeout:              writeByte,
	}
}

func clientHTTP2(window int) *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxReadFrameSize:              frameSize,
		MaxDecoderHeaderTableSize:     4 << 10,
		MaxEncoderHeaderTableSize:     4 << 10,
		MaxReceiveBufferPerConnection: max(1<<20, 2*window-1),
		MaxReceiveBufferPerStream:     window,
		SendPingTimeout:               pingAfter,
		PingTimeout:                   pingTimeout,
		WriteByteTimeout:              writeByte,
	}
}

// held is what somebody holds of the budget, to be given back at once.
type held struct {
	budget *budget.Budget

	mu    sync.Mutex
	bytes int64
	ended bool
}

// take takes n bytes more, and reports whether there were so many.
func (h *held) take(n, spare int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || !h.budget.Take(n, spare+budget.Reserve) {
		return false
	}
	h.bytes += n
	return true
}

// give gives all back. With end nothing can be taken any more.
func (h *held) give(end bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes > 0 {
		h.budget.Give(h.bytes)
	}
	h.bytes, h.ended = 0, h.ended || end
}

// stallTimeout is how long a guest may leave an answer unread.
const stallTimeout = 2 * time.Minute

// stall ends a response that the guest does not read. A guest may take as long as it likes
// for a whole one; each write has this time.
type stall struct {
	after time.Duration
	timer *time.Timer
	fired func()
}

// watch begins and the function that it returns ends the time of one write.
func (s *stall) watch() (done func()) {
	if s.timer == nil {
		s.timer = time.AfterFunc(s.after, s.fired)
	} else {
		s.timer.Reset(s.after)
	}
	return func() { s.timer.Stop() }
}
