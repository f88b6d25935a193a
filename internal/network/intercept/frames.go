package intercept

import (
	"encoding/binary"
	"io"
)

// Bounds of what is held of a connection of WebSocket, RFC 6455.
const (
	maxControl = 125  // bytes of a control frame, 5.5
	maxPieces  = 1024 // frames that wait for the end of what may be a value
)

// frames is what a host sends on a connection of WebSocket, without the values of secrets:
// also of one that is split over the frames of a message. Frames keep their lengths. What
// is no frame, or a changed one, ends the connection.
type frames struct {
	io.ReadCloser
	stream                     // the messages' bytes
	failed func(reason string) // ends the exchange

	header  []byte // of the frame that has begun, as far as it was read
	left    uint64 // bytes of it that are to come
	control []byte // what was read of a control frame
	isData  bool   // and not a control frame
	last    bool   // it ends a message
	pieces  []piece

	buf []byte
	out []byte // may be given out
	err error  // what comes after it
}

// piece is a part of what goes out: a text, or so many bytes of the messages.
type piece struct {
	text []byte
	n    uint64
}

func (f *frames) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		if f.buf == nil {
			f.buf = make([]byte, 4<<10)
		}
		n, err := f.ReadCloser.Read(f.buf)
		if !f.take(f.buf[:n]) {
			f.failed(errFrames.Error())
			err = errFrames
		}
		f.give(f.ready())
		f.err = err
	}
	n := copy(p, f.out)
	f.out = append(f.out[:0], f.out[n:]...)
	return n, nil
}

// take takes apart what was read. It reports false for what is no plain frame of a
// server's.
func (f *frames) take(b []byte) bool {
	for len(b) > 0 {
		if f.left == 0 {
			f.header = append(f.header, b[0])
			b = b[1:]
			whole, ok := f.begin()
			if !ok || len(f.pieces) > maxPieces {
				return false
			}
			if !whole {
				continue
			}
		}
		n := min(uint64(len(b)), f.left)
		f.left -= n
		if f.isData {
			f.add(b[:n])
			f.piece(piece{n: n})
		} else {
			f.control = append(f.control, b[:n]...)
		}
		b = b[n:]
		if f.left == 0 {
			f.end()
		}
	}
	return true
}

// begin looks at the header of a frame, and reports whether it is whole, and ok.
func (f *frames) begin() (whole, ok bool) {
	h := f.header
	if h[0]&0x70 != 0 {
		return false, false // of an extension, of which none was agreed upon
	}
	if len(h) < 2 {
		return false, true
	}
	if h[1]&0x80 != 0 {
		return false, false // masked: only a client does that, 5.1
	}
	length, size := uint64(h[1]&0x7f), 2
	switch length {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if len(h) < size {
		return false, true
	}
	switch size {
	case 4:
		length = uint64(binary.BigEndian.Uint16(h[2:]))
	case 10:
		length = binary.BigEndian.Uint64(h[2:])
	}
	f.isData, f.last, f.left = h[0]&0x08 == 0, h[0]&0x80 != 0, length
	if !f.isData && (length > maxControl || !f.last) || length>>63 != 0 {
		return false, false
	}
	f.piece(piece{text: append([]byte(nil), h...)})
	f.header = f.header[:0]
	if length == 0 {
		f.end()
		return false, true // there is nothing to be taken of it
	}
	return true, true
}

// end is called at the end of a frame.
func (f *frames) end() {
	switch {
	case !f.isData:
		f.piece(piece{text: []byte(f.text(string(f.control)))})
		f.control = f.control[:0]
	case f.last:
		// Nobody waits for what may follow: another message does not continue
		// this one.
		f.give(len(f.came))
	}
}

func (f *frames) piece(p piece) {
	if last := len(f.pieces) - 1; p.text == nil && last >= 0 && f.pieces[last].text == nil {
		f.pieces[last].n += p.n
		return
	}
	f.pieces = append(f.pieces, p)
}

// give moves to out what goes there, with as many bytes of messages as are ready.
func (f *frames) give(ready int) {
	given := 0
	for len(f.pieces) > 0 {
		p := &f.pieces[0]
		n := int(min(p.n, uint64(ready-given)))
		f.out = append(append(f.out, p.text...), f.stream.out[given:given+n]...)
		given += n
		if p.n -= uint64(n); p.n > 0 {
			break
		}
		f.pieces = f.pieces[1:]
	}
	f.drop(given)
}
