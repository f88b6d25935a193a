package sparse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// part is data of a test file.
type part struct {
	off  int64
	data string
}

// makeFile makes a file of size bytes with data in it.
func makeFile(t testing.TB, size int64, parts ...part) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for _, p := range parts {
		if _, err := f.WriteAt([]byte(p.data), p.off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func sumOf(t testing.TB, r io.ReaderAt, size int64) [Size]byte {
	t.Helper()
	sum, err := SumOf(t.Context(), r, size)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A sum depends on the content only.
func TestSum(t *testing.T) {
	const size = 5*blockSize + 123
	holes := makeFile(t, size, part{0, "a"}, part{2*blockSize - 1, "bc"}, part{size - 1, "d"})
	all, err := os.ReadFile(holes.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := sumOf(t, holes, size)
	if got := sumOf(t, bytes.NewReader(all), size); got != want {
		t.Error("the same content without holes has another sum")
	}
	for _, step := range []int{1, 7, 4096, blockSize - 1, blockSize, blockSize + 1, size} {
		s := NewSum()
		for rest := all; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			piece := rest[:min(step, len(rest))]
			if isZero(piece[:min(len(piece), blockSize)]) && len(piece) <= blockSize {
				if err := s.Hole(int64(len(piece))); err != nil {
					t.Fatal(err)
				}
				continue
			}
			s.Write(piece)
		}
		if got := s.Sum(); got != want {
			t.Errorf("added in pieces of %d bytes it has another sum", step)
		}
	}
	seen := map[[Size]byte]string{want: "it"}
	for name, other := range map[string]string{
		"nothing": "", "a zero": "\x00", "a block of zeros": strings.Repeat("\x00", blockSize), "two": strings.Repeat("\x00", 2*blockSize),
		"x first": "x" + strings.Repeat("\x00", 2*blockSize-1), "x in the second": strings.Repeat("\x00", blockSize) + "x" + strings.Repeat("\x00", blockSize-1),
		"shorter": string(all[:size-1]), "longer": string(all) + "\x00",
	} {
		sum := sumOf(t, strings.NewReader(other), int64(len(other)))
		if seen[sum] != "" {
			t.Errorf("%s has the sum of %s", name, seen[sum])
		}
		seen[sum] = name
	}
}

// What has a terabyte of holes takes no time, and no room.
func TestHugeHoles(t *testing.T) {
	const size = 1 << 40
	f := makeFile(t, size, part{1 << 39, "x"})
	begun := time.Now()
	sum := sumOf(t, f, size)
	to := makeFile(t, 0)
	if err := CopyFile(t.Context(), to, f, size); err != nil {
		t.Fatal(err)
	}
	if same, err := Equal(t.Context(), f, to, size); err != nil || !same {
		t.Errorf("Equal() = %v, %v; want that the copy is the same", same, err)
	}
	if sumOf(t, to, size) != sum {
		t.Error("the copy has another sum")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(to.Fd()), &st); err != nil || st.Size != size || st.Blocks > 1024 {
		t.Errorf("the copy has %d bytes in %d blocks, %v; want %d, and few", st.Size, st.Blocks, err, int64(size))
	}
	if _, err := to.WriteAt([]byte("y"), 3<<38); err != nil {
		t.Fatal(err)
	}
	if same, err := Equal(t.Context(), f, to, size); err != nil || same {
		t.Errorf("Equal() = %v, %v; want that it is another now", same, err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

func TestCopyFile(t *testing.T) {
	for _, size := range []int64{0, 1, page - 1, page, page + 1, blockSize, 3*blockSize + 5, inKernel + 17} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			want := make([]byte, size)
			for i := range want {
				if i/page%3 != 1 {
					want[i] = byte(i%251 + 1)
				}
			}
			from := makeFile(t, size, part{0, string(want)})
			for name, r := range map[string]io.ReaderAt{"file": from, "descriptor": FD(from.Fd()), "reader": bytes.NewReader(want), "section": io.NewSectionReader(from, 0, size)} {
				to := makeFile(t, 0)
				if err := CopyFile(t.Context(), to, r, size); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: the copy is another, %v", name, err)
				}
			}
			if size > 0 {
				if err := CopyFile(t.Context(), makeFile(t, 0), bytes.NewReader(want[1:]), size); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("a copy of less than there is = %v; want %v", err, io.ErrUnexpectedEOF)
				}
			}
		})
	}
}

// A file that is shorter than it was is no longer what it was.
func TestShorter(t *testing.T) {
	const size = 5 * blockSize
	for _, now := range []int64{0, 10, blockSize, 2*blockSize + 7} {
		for _, parts := range [][]part{nil, {{0, "a"}}} {
			if now == 0 {
				parts = nil
			}
			f, whole := makeFile(t, now, parts...), makeFile(t, size, parts...)
			if n, err := Copy(t.Context(), NewSum(), f, size); n != now || err != nil {
				t.Errorf("Copy() of %d bytes = %d, %v", now, n, err)
			}
			if err := CopyFile(t.Context(), makeFile(t, 0), f, size); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("CopyFile() of %d bytes = %v; want %v", now, err, io.ErrUnexpectedEOF)
			}
			if same, err := Equal(t.Context(), f, whole, size); same || err != nil {
				t.Errorf("Equal() of %d bytes = %v, %v; want that they differ", now, same, err)
			}
		}
	}
}

// endless is all data, and slow.
type endless struct{ read func() }

func (e endless) ReadAt(p []byte, _ int64) (int, error) {
	e.read()
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

// All ends with its context, though the content does not.
func TestCancel(t *testing.T) {
	why := errors.New("why")
	for name, do := range map[string]func(context.Context, io.ReaderAt) error{
		"sum":   func(ctx context.Context, r io.ReaderAt) error { _, err := SumOf(ctx, r, 1<<50); return err },
		"copy":  func(ctx context.Context, r io.ReaderAt) error { _, err := Copy(ctx, NewSum(), r, 1<<50); return err },
		"equal": func(ctx context.Context, r io.ReaderAt) error { _, err := Equal(ctx, r, r, 1<<50); return err },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		if err := do(ctx, endless{func() {
			if n++; n == 5 {
				cancel(why)
			}
		}}); !errors.Is(err, why) {
			t.Errorf("%s = %v; want %v", name, err, why)
		}
		if n > 6 {
			t.Errorf("%s read on %d times", name, n-5)
		}
	}
}

func TestSumTooLong(t *testing.T) {
	s := NewSum()
	s.Write([]byte("x"))
	for _, n := range []int64{-1, 1<<63 - 1} {
		if err := s.Hole(n); err == nil {
			t.Errorf("Hole(%d): got no error", n)
		}
	}
	if err := s.Hole(1<<63 - 2); err != nil {
		t.Errorf("Hole() of the longest file = %v", err)
	}
}
