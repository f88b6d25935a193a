package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestFrameRoundTrip(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), MaxFrame/16)
	for _, payload := range [][]byte{nil, {0}, big, append(bytes.Clone(big), 'x'), bytes.Repeat(big, 5)} {
		var b bytes.Buffer
		if err := NewFrameWriter(&b).Write(FrameStdout, payload); err != nil {
			t.Fatal(err)
		}
		fr := NewFrameReader(iotest.HalfReader(&b))
		var got []byte
		frames := 0
		for {
			ft, p, err := fr.Next()
			if err == io.EOF {
				break
			}
			if err != nil || ft != FrameStdout || len(p) > MaxFrame {
				t.Fatalf("Next() = %d, %d bytes, %v; want %d, at most %d, nil", ft, len(p), err, FrameStdout, MaxFrame)
			}
			got = append(got, p...)
			frames++
		}
		if want := max(1, (len(payload)+MaxFrame-1)/MaxFrame); frames != want || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes came out as %d bytes in %d frames; want the same in %d", len(payload), len(got), frames, want)
		}
	}
}

// Who reads the stream sees whole frames only: one frame is one Write.
func TestFrameIsOneWrite(t *testing.T) {
	var writes []int
	w := writerFunc(func(p []byte) (int, error) { writes = append(writes, len(p)); return len(p), nil })
	if err := NewFrameWriter(w).Write(FrameStdin, make([]byte, MaxFrame+1)); err != nil {
		t.Fatal(err)
	}
	if len(writes) != 2 || writes[0] != frameHeader+MaxFrame || writes[1] != frameHeader+1 {
		t.Errorf("writes of %v bytes; want %d and %d", writes, frameHeader+MaxFrame, frameHeader+1)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestFrameReaderBad(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want error // nil for any
	}{
		{"nothing", nil, io.EOF},
		{"half a header", []byte{16, 1, 0}, io.ErrUnexpectedEOF},
		{"no payload", []byte{16, 1, 0, 0, 0}, io.ErrUnexpectedEOF},
		{"half a payload", []byte{16, 2, 0, 0, 0, 'x'}, io.ErrUnexpectedEOF},
		{"too long", []byte{16, 1, 0, 1, 0}, nil},
		{"longest length", []byte{16, 255, 255, 255, 255}, nil},
	} {
		_, _, err := NewFrameReader(bytes.NewReader(tt.in)).Next()
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: Next() = %v; want %v", tt.name, err, tt.want)
		}
	}
}

func TestWinsize(t *testing.T) {
	want := Winsize{Rows: 24, Cols: 65535}
	got, err := ParseWinsize(AppendWinsize(nil, want))
	if err != nil || got != want {
		t.Errorf("ParseWinsize(AppendWinsize(%v)) = %v, %v", want, got, err)
	}
	for _, n := range []int{0, 3, 5, 8} {
		if _, err := ParseWinsize(make([]byte, n)); err == nil {
			t.Errorf("ParseWinsize of %d bytes = nil; want an error", n)
		}
	}
}

func TestWriteError(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code fault.Code
	}{
		{errors.New("broken"), ""},
		{fault.New(fault.CommandNotFound, nil, "x: not found"), fault.CommandNotFound},
		{fault.New(fault.NameTaken, nil, "not a guest's to say"), ""},
	} {
		var b bytes.Buffer
		if err := NewFrameWriter(&b).WriteError(tt.err); err != nil {
			t.Fatal(err)
		}
		fr := NewFrameReader(&b)
		ft, payload, err := fr.Next()
		var code fault.Code
		if err == nil && ft == FrameCode {
			code = ParseCode(payload)
			ft, payload, err = fr.Next()
		}
		if err != nil || ft != FrameError || string(payload) != tt.err.Error() || code != tt.code {
			t.Errorf("WriteError(%v) wrote code %q, frame %d with %q, %v; want code %q and the text", tt.err, code, ft, payload, err, tt.code)
		}
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add([]byte{16, 1, 0, 0, 0, 'x', 18, 1, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 1, 0})
	f.Add(append([]byte{24, 17, 0, 0, 0}, fault.CommandNotFound...))
	f.Add([]byte{255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, in []byte) {
		fr := NewFrameReader(bytes.NewReader(in))
		var out bytes.Buffer
		fw := NewFrameWriter(&out)
		for {
			ft, p, err := fr.Next()
			if err != nil {
				break
			}
			if len(p) > MaxFrame {
				t.Fatalf("a frame of %d bytes", len(p))
			}
			if code := ParseCode(p); code != "" && string(code) != string(p) {
				t.Fatalf("ParseCode(%q) = %q", p, code)
			}
			fw.Write(ft, p)
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Error("the frames, written again, are not what was read")
		}
	})
}

func FuzzParseWinsize(f *testing.F) {
	f.Add([]byte{24, 0, 80, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		if ws, err := ParseWinsize(in); err == nil && !bytes.Equal(AppendWinsize(nil, ws), in) {
			t.Errorf("ParseWinsize(%v) = %v, which is written as %v", in, ws, AppendWinsize(nil, ws))
		}
	})
}
