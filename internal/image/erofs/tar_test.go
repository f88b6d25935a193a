package erofs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tarItem is a member of an archive.
type tarItem struct {
	tar.Header
	content string
}

// makeTar makes an archive.
func makeTar(t testing.TB, items ...tarItem) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, it := range items {
		if err := tw.WriteHeader(&it.Header); err != nil {
			t.Fatalf("%q: %v", it.Name, err)
		}
		if _, err := tw.Write([]byte(it.content)); err != nil {
			t.Fatalf("%q: %v", it.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

var _, _, _, _, _, _, _ = errors.New, fmt.Sprint, fs.ErrNotExist, slices.Equal[[]int], strings.Cut, time.Unix, unix.Mkdev
