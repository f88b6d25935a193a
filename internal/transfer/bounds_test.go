package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// A few bytes that stand for very many are refused before they are written.
func TestExtractBounds(t *testing.T) {
	// As GNU tar and PAX write files with holes: by hand, since package tar writes none.
	pax := func(records ...string) []byte {
		var body strings.Builder
		for _, r := range records {
			for n := len(r) + 2; ; n++ {
				if line := fmt.Sprintf("%d %s\n", n, r); len(line) == n {
					body.WriteString(line)
					break
				}
			}
		}
		b := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "PAX", Mode: 0o644})
		block := bytes.Clone(b[:512])
		copy(block[124:136], fmt.Sprintf("%011o\x00", body.Len()))
		block[156] = tar.TypeXHeader
		checksum(block)
		b = append(block, body.String()...)
		b = append(b, make([]byte, (512-len(b)%512)%512)...)
		return append(b, tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "src/x", Mode: 0o644})...)
	}
	oldSparse := bytes.Clone(tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "src/x", Mode: 0o644}))
	oldSparse[156] = tar.TypeGNUSparse
	copy(oldSparse[257:265], "ustar  \x00")
	copy(oldSparse[124:136], fmt.Sprintf("%011o\x00", 0))
	copy(oldSparse[483:495], "\x80\x00\x00\x00\x70\x00\x00\x00\x00\x00\x00\x00") // its real size
	checksum(oldSparse[:512])
	huge := bytes.Clone(tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "src/x", Mode: 0o644}))
	copy(huge[124:136], "\x80\x00\x00\x00\x70\x00\x00\x00\x00\x00\x00\x00")
	checksum(huge[:512])
	for _, tt := range []struct {
		name   string
		stream []byte
		code   fault.Code
	}{
		{"sparse 0.1", pax("GNU.sparse.map=0,1", "GNU.sparse.size=9000000000000000000", "GNU.sparse.numblocks=1", "GNU.sparse.name=src/x"), ""},
		{"sparse 1.0", pax("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9000000000000000000", "GNU.sparse.name=src/x"), ""},
		{"sparse, GNU's old", oldSparse, ""},
		{"a size", huge, fault.NoSpaceForCopy},
		{"depth", tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "src" + strings.Repeat("/d", maxDepth+1)}), ""},
		{"a name", tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "src/" + strings.Repeat("d", maxPath+1)}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			_, err = Extract(root, bytes.NewReader(tt.stream), "src", "copy")
			if err == nil || fault.CodeOf(err) != tt.code || len(err.Error()) > 500 {
				t.Errorf("Extract() = %v; want an error, code %q", err, tt.code)
			}
			var size int64
			filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
				if fi, statErr := d.Info(); err == nil && statErr == nil && d.Type().IsRegular() {
					size += fi.Size()
				}
				return err
			})
			if size > 1000 {
				t.Errorf("%d bytes were written", size)
			}
		})
	}
}

// checksum makes the checksum of a tar header right.
func checksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// The path of each entry is not walked from its beginning: a tree of n directories one in
// the other takes n steps.
func TestDeepTrees(t *testing.T) {
	src := t.TempDir()
	deep := filepath.Join(src, "top"+strings.Repeat("/d", 400))
	if err := errors.Join(os.MkdirAll(deep, 0o755), os.WriteFile(deep+"/file", []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	from, err := os.OpenRoot(src)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for _, unpack := range []bool{false, true} {
		dst := t.TempDir()
		to, err := os.OpenRoot(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		r, w := io.Pipe()
		go func() { w.CloseWithError(PackIn(context.Background(), w, from, "top")) }()
		begun := time.Now()
		if unpack {
			err = Unpack(to, r, "top", "copy")
		} else {
			_, err = Extract(to, r, "top", "copy")
		}
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("400 directories took %v", took)
		}
		if _, err := os.Stat(filepath.Join(dst, "copy"+strings.Repeat("/d", 400), "file")); err != nil {
			t.Error(err)
		}
	}
}
