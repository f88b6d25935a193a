package intercept

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// response counts what is written of a response, and ends it where the guest does not
// read.
type response struct {
	http.ResponseWriter
	status   int
	down     atomic.Int64
	scrubber *scrubber // nil if the host gets no secret
	stall    stall

	mu      sync.Mutex
	ended   bool // ResponseWriter is the server's again
	aborted bool
	conn    net.Conn // to the guest, once it is upgraded, or nil
}

func (w *response) WriteHeader(status int) {
	if w.scrubber != nil && status < 200 {
		// Headers that come before the response are not shown to
		// modifyResponse.
		w.scrubber.header(w.Header())
	}
	if w.status == 0 || w.status < 200 {
		w.status = status
	}
	defer w.stall.watch()()
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	defer w.stall.watch()()
	n, err := w.ResponseWriter.Write(b)
	w.down.Add(int64(n))
	return n, err
}

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	defer w.stall.watch()()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// flush waits until the guest has taken the response of HTTP/2. The server would wait
// after the handler, when the request is no longer one of those that are counted.
func (w *response) flush(r *http.Request) {
	if r.ProtoMajor == 2 {
		w.FlushError()
	}
}

// abort lets all writes fail, also the one under way, and all reads of a connection that
// was upgraded: who copies from the guest would wait for its end where the server has ended
// its half. It may be called by anybody.
func (w *response) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aborted = true
	switch {
	case w.ended:
	case w.conn != nil:
		w.conn.SetDeadline(past)
	default:
		http.NewResponseController(w.ResponseWriter).SetWriteDeadline(past)
	}
}

// past is a deadline that nothing meets.
var past = time.Unix(1, 0)

// Hijack is for http.ResponseController.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = conn
	if w.aborted {
		conn.SetDeadline(past) // the server took back what abort had set
	}
	return conn, rw, nil
}

// over ends the time in which abort may be called.
func (w *response) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.stall.timer != nil {
		w.stall.timer.Stop()
	}
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
