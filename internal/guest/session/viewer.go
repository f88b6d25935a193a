package session

import (
	"net"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// viewer is somebody who looks at a session.
type viewer struct {
	session  *Session
	readOnly bool
	first    bool          // the program was started for it
	greeting []byte        // the first frame
	wake     chan struct{} // something of what follows has changed

	// The session's mutex guards what follows.
	tty     *wire.Winsize // nil without a terminal
	drawn   bool          // it gets what is shown, and not what the program writes
	pending []byte        // output that is not sent yet
	missed  bool          // pending would have been too much
	acks    int           // acknowledgements of input that are not sent yet
	final   wire.FrameType
	payload []byte // of final
}

// signal wakes up the writer.
func (v *viewer) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// send takes output. It never blocks.
func (v *viewer) send(p []byte) {
	if len(p) == 0 || v.missed {
		return
	}
	if len(v.pending)+len(p) > maxPending {
		v.missed, v.pending = true, nil
	} else {
		v.pending = append(v.pending, p...)
	}
	v.signal()
}

// begin takes what a terminal is to begin anew with.
func (v *viewer) begin(p []byte) {
	v.pending = append(v.pending, p...)
	v.signal()
}

// end says what the last frame is.
func (v *viewer) end(t wire.FrameType, payload []byte) {
	if v.final == 0 {
		v.final, v.payload = t, payload
		v.signal()
	}
}

// write sends what there is until the last frame, or until gone is closed.
func (v *viewer) write(stream net.Conn, gone <-chan struct{}) {
	fw := wire.NewFrameWriter(stream)
	if fw.Write(wire.FrameSession, v.greeting) != nil {
		return
	}
	for {
		s := v.session
		s.mu.Lock()
		out, acks, final := v.pending, v.acks, v.final
		v.pending, v.acks = nil, 0
		if v.missed {
			v.missed = false
			out = s.replay(v)
			if !s.exited && v.tty != nil {
				s.drawAnew()
			}
		}
		s.mu.Unlock()
		for range acks {
			if fw.Write(wire.FrameStdinAck, nil) != nil {
				return
			}
		}
		for chunk := range slices.Chunk(out, wire.MaxFrame) {
			if fw.Write(wire.FrameStdout, chunk) != nil {
				return
			}
		}
		if len(out) > 0 || acks > 0 {
			continue // there may be more by now, before the last frame
		}
		if final != 0 {
			fw.Write(final, v.payload)
			return
		}
		select {
		case <-v.wake:
		case <-gone:
			return
		}
	}
}

// read serves the frames of the host until the stream ends.
func (v *viewer) read(stream net.Conn) {
	s := v.session
	fr := wire.NewFrameReader(stream)
	for {
		t, payload, err := fr.Next()
		if err != nil {
			return
		}
		switch {
		case t == wire.FrameStdin && v.readOnly:
			s.mu.Lock()
			v.acks++
			v.signal()
			s.mu.Unlock()
		case t == wire.FrameStdin:
			if !s.typed(v, payload) {
				s.mu.Lock()
				v.end(wire.FrameError, []byte("the program does not read its input"))
				s.mu.Unlock()
			}
		case t == wire.FrameResize:
			if ws, err := wire.ParseWinsize(payload); err == nil && ws.Rows > 0 && ws.Cols > 0 {
				s.resize(v, ws)
			}
		case t == wire.FrameSignal && !v.readOnly:
			if len(payload) == 1 {
				s.signalProgram(payload[0])
			}
		}
	}
}
