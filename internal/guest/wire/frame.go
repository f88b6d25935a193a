package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// FrameType says what a frame carries.
type FrameType byte

// The frames of OpExec, OpSession, OpConnect and OpFetch.
const (
	FrameStdin    FrameType = 1 // host: bytes for the program
	FrameStdinEOF FrameType = 2 // host: its standard input, or its direction of a connection, ends; ^D on a terminal is a byte, not this
	FrameResize   FrameType = 3 // host: rows, columns; two uint16, little endian
	FrameSignal   FrameType = 4 // host: one byte, the Linux signal number, to the program's process group

	FrameStdout   FrameType = 16 // guest: bytes; in OpFetch the file's content; none of a connection that is silent
	FrameStderr   FrameType = 17 // guest: bytes
	FrameExit     FrameType = 18 // guest, last: one byte, the exit code or 128+signal
	FrameError    FrameType = 19 // guest, last: text; the program was not started, the file not read, or the connection broken
	FrameFile     FrameType = 20 // guest: the path of the file that follows
	FrameEnd      FrameType = 21 // guest: the file, or its direction of a connection, is complete
	FrameStdinAck FrameType = 22 // guest: one FrameStdin was consumed
	FrameSession  FrameType = 23 // guest, first in OpSession: JSON, SessionInfo
	FrameCode     FrameType = 24 // guest, may precede FrameError: what kind of error it is, ParseCode
	FrameHole     FrameType = 25 // guest, in OpFetch: so many zeros of the file's content; ParseHole
)

// StdinWindow is the number of FrameStdin that the host may send ahead of
// their acknowledgement.
const StdinWindow = 32

// MaxFrame bounds the payload of one frame in bytes.
const MaxFrame = 64 << 10

const frameHeader = 5 // type, length as uint32 little endian

// FrameWriter writes frames. It is not safe for concurrent use.
type FrameWriter struct {
	w   io.Writer
	buf []byte
}

// NewFrameWriter returns a writer of frames to w.
func NewFrameWriter(w io.Writer) *FrameWriter {
	return &FrameWriter{w: w}
}

// Write writes payload as one frame, or as several when it is longer than
// MaxFrame. Each frame is one Write of the stream.
func (fw *FrameWriter) Write(t FrameType, payload []byte) error {
	for {
		n := min(len(payload), MaxFrame)
		fw.buf = append(fw.buf[:0], byte(t), 0, 0, 0, 0)
		binary.LittleEndian.PutUint32(fw.buf[1:], uint32(n))
		fw.buf = append(fw.buf, payload[:n]...)
		if _, err := fw.w.Write(fw.buf); err != nil {
			return err
		}
		if payload = payload[n:]; len(payload) == 0 {
			return nil
		}
	}
}

// WriteError writes err as the last frame, after its code if it has one that a guest
// may give.
func (fw *FrameWriter) WriteError(err error) error {
	if code := ParseCode([]byte(fault.CodeOf(err))); code != "" {
		if err := fw.Write(FrameCode, []byte(code)); err != nil {
			return err
		}
	}
	return fw.Write(FrameError, []byte(err.Error()))
}

// ParseCode returns the code in a FrameCode, or "" if it is not one that a guest may
// give: it is believed about its own programs only.
func ParseCode(payload []byte) fault.Code {
	if code := fault.Code(payload); code == fault.CommandNotFound {
		return code
	}
	return ""
}

// FrameReader reads frames.
type FrameReader struct {
	r   io.Reader
	buf []byte
}

// NewFrameReader returns a reader of the frames in r.
func NewFrameReader(r io.Reader) *FrameReader {
	return &FrameReader{r: r}
}

// Next returns the next frame. The payload is valid until the next call. The
// error is io.EOF only between frames.
func (fr *FrameReader) Next() (FrameType, []byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(fr.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes is larger than %d", n, MaxFrame)
	}
	if cap(fr.buf) < int(n) {
		fr.buf = make([]byte, n)
	}
	fr.buf = fr.buf[:n]
	if _, err := io.ReadFull(fr.r, fr.buf); err != nil {
		return 0, nil, noEOF(err)
	}
	return FrameType(head[0]), fr.buf, nil
}

// AppendHole appends the payload of FrameHole.
func AppendHole(b []byte, n int64) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}

// ParseHole reads the payload of FrameHole.
func ParseHole(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("a hole in %d bytes, not 8", len(b))
	}
	n := int64(binary.LittleEndian.Uint64(b))
	if n <= 0 {
		return 0, fmt.Errorf("a hole of %d bytes", n)
	}
	return n, nil
}

// AppendWinsize appends the payload of FrameResize.
func AppendWinsize(b []byte, ws Winsize) []byte {
	b = binary.LittleEndian.AppendUint16(b, ws.Rows)
	return binary.LittleEndian.AppendUint16(b, ws.Cols)
}

// ParseWinsize reads the payload of FrameResize.
func ParseWinsize(b []byte) (Winsize, error) {
	if len(b) != 4 {
		return Winsize{}, fmt.Errorf("window size of %d bytes, not 4", len(b))
	}
	return Winsize{
		Rows: binary.LittleEndian.Uint16(b),
		Cols: binary.LittleEndian.Uint16(b[2:]),
	}, nil
}
