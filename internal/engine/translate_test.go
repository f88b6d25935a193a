package engine

import (
	"bytes"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// FuzzTranslate plays a guest that lists a change: what it says arrives unchanged, or is
// refused in words that can be printed.
func FuzzTranslate(f *testing.F) {
	none := []byte(nil)
	f.Add([]byte("a/b"), string(wire.KindFile), none, make([]byte, 32), none, uint32(0o644), int64(1))
	f.Add([]byte("a\x1b[2J"), string(wire.KindFile), none, make([]byte, 31), none, uint32(0), int64(-1))
	f.Add([]byte("a"), string(wire.KindFile), none, make([]byte, 33), none, uint32(0), int64(0))
	f.Add([]byte("a"), string(wire.KindFile), none, none, []byte("first/name"), uint32(0), int64(0))
	f.Add([]byte("link"), string(wire.KindSymlink), []byte("/etc/passwd"), none, none, uint32(0o777), int64(0))
	f.Add([]byte("dir"), string(wire.KindDir), none, none, none, uint32(0o7777), int64(0))
	f.Add([]byte("gone"), string(wire.KindWhiteout), none, none, none, uint32(0), int64(0))
	f.Add([]byte("dev"), "door", none, none, none, uint32(1<<31), int64(0))
	kinds := map[wire.Kind]workspace.Kind{
		wire.KindFile: workspace.File, wire.KindDir: workspace.Dir, wire.KindSymlink: workspace.Symlink, wire.KindWhiteout: workspace.Whiteout,
	}
	f.Fuzz(func(t *testing.T, path []byte, kind string, target, sum, link []byte, mode uint32, size int64) {
		c := wire.Change{Path: path, Kind: wire.Kind(kind), Target: target, Redirect: target, Sum: sum, Link: link, Mode: mode, Size: size, MTime: size}
		got, err := translate(c)
		if err != nil {
			if !termsafe.Is(err.Error()) {
				t.Errorf("translate says %q", err)
			}
			if c.Kind != wire.KindFile || len(link) > 0 || len(sum) == len(got.Sum) {
				t.Errorf("translate(%+v) = %v", c, err)
			}
			return
		}
		want, ok := kinds[c.Kind]
		if !ok {
			want = workspace.Other
		}
		if got.Kind != want || got.Path != string(path) || got.Target != string(target) || got.Redirect != string(target) || got.Mode != mode || got.Size != size || got.MTime != size {
			t.Errorf("translate(%+v) = %+v", c, got)
		}
		isFile := c.Kind == wire.KindFile
		if isFile && got.Link != string(link) || !isFile && got.Link != "" {
			t.Errorf("the link to %q became %q", link, got.Link)
		}
		if hashed := isFile && len(link) == 0; hashed && !bytes.Equal(got.Sum[:], sum) || !hashed && got.Sum != [32]byte{} {
			t.Errorf("the sum %x became %x", sum, got.Sum)
		}
	})
}
