package pasting

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Pictures reads files whose paths were pasted, each of which must be a picture that may go
// into a machine without being asked for: a regular file of this user's, of the kinds that
// [Picture] knows, with no part of its path hidden, and none that except says. It reports
// false if one of them is not.
func Pictures(paths []string, except func(path string) bool) ([]Item, bool) {
	var items []Item
	left := int64(MaxBytes)
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil || hidden(p) || hidden(real) || except(p) || except(real) {
			return nil, false
		}
		data, ok := ownPicture(real, left)
		if !ok {
			return nil, false
		}
		left -= int64(len(data))
		items = append(items, NewItem(p, data))
	}
	return items, len(items) > 0
}

// ownPicture reads a picture of this user's of at most limit bytes. The path has no links,
// unless somebody puts one there meanwhile.
func ownPicture(path string, limit int64) ([]byte, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Getuid() || st.Size > limit {
		return nil, false
	}
	head := make([]byte, 12)
	if n, err := io.ReadFull(f, head); err != nil || Picture(head[:n]) == "" {
		return nil, false // of what is no picture, no more is read
	}
	data, err := io.ReadAll(io.LimitReader(f, limit-int64(len(head))+1))
	if data = append(head, data...); err != nil || int64(len(data)) > limit {
		return nil, false
	}
	return data, true
}
