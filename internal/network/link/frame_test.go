package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// wired returns the frames as they are on the socket.
func wired(frames ...[]byte) []byte {
	var b []byte
	for _, f := range frames {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func frameOf(n int) []byte { return bytes.Repeat([]byte{byte(n)}, n) }

func TestFrameReader(t *testing.T) {
	var want [][]byte
	for range 3 { // enough to make the buffer grow
		for _, n := range []int{ethernetLen, 60, 1514, MTU + ethernetLen, maxFrame} {
			want = append(want, frameOf(n))
		}
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"halves":   iotest.HalfReader,
		"last EOF": iotest.DataErrReader,
		"sevens":   func(r io.Reader) io.Reader { return &chunks{r, 7} },
	} {
		fr := newFrameReader(wrap(bytes.NewReader(wired(want...))))
		for i, w := range want {
			got, err := fr.next()
			if err != nil || !bytes.Equal(got, w) {
				t.Fatalf("%s: frame %d = %d bytes, %v; want %d, nil", name, i, len(got), err, len(w))
			}
		}
		if _, err := fr.next(); err != io.EOF {
			t.Errorf("%s: at the end = %v; want EOF", name, err)
		}
		if len(fr.buf) > maxReadBuffer {
			t.Errorf("%s: a buffer of %d bytes; want at most %d", name, len(fr.buf), maxReadBuffer)
		}
	}
}

func TestFrameReaderBad(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a length", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"half a frame", wired(frameOf(60))[:40], io.ErrUnexpectedEOF},
		{"empty", []byte{0, 0, 0, 0}, errFrame},
		{"no Ethernet", wired(frameOf(ethernetLen - 1)), errFrame},
		{"too long", wired(frameOf(maxFrame + 1)), errFrame},
		{"longest", []byte{255, 255, 255, 255}, errFrame},
	} {
		if _, err := newFrameReader(bytes.NewReader(tt.in)).next(); !errors.Is(err, tt.want) {
			t.Errorf("%s: next() = %v; want %v", tt.name, err, tt.want)
		}
	}
}

// A guest that sends little costs the small buffer.
func TestFrameReaderStaysSmall(t *testing.T) {
	fr := newFrameReader(iotest.OneByteReader(bytes.NewReader(wired(frameOf(1514)))))
	fr.next()
	if len(fr.buf) != minReadBuffer {
		t.Errorf("a buffer of %d bytes; want %d", len(fr.buf), minReadBuffer)
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add(wired(frameOf(14), frameOf(60)), 3)
	f.Add(wired(frameOf(1514))[:100], 1)
	f.Add([]byte{0, 1, 17, 113}, 4)
	f.Add([]byte{255, 255, 255, 255}, 1)
	f.Fuzz(func(t *testing.T, in []byte, chunk int) {
		r := &chunks{bytes.NewReader(in), max(1, chunk%1000)}
		fr := newFrameReader(r)
		var out []byte
		for {
			frame, err := fr.next()
			if err != nil {
				break
			}
			if len(frame) < ethernetLen || len(frame) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
			out = append(out, wired(frame)...)
		}
		if !bytes.HasPrefix(in, out) {
			t.Error("the frames, written again, are not what was read")
		}
		if rest := in[len(out):]; len(rest) >= lengthLen {
			if n := binary.BigEndian.Uint32(rest); n >= ethernetLen && n <= maxFrame && len(rest) >= lengthLen+int(n) {
				t.Errorf("a frame of %d bytes was not returned", n)
			}
		}
	})
}

// chunks reads n bytes at a time.
type chunks struct {
	r io.Reader
	n int
}

func (c *chunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.n)]) }
