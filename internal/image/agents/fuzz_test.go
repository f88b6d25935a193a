package agents_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/image/agents"
)

// FuzzUnpack writes the layer of an archive with any two files: all of it is below the
// agent's own directory, or the links to programs, and belongs to root without setuid.
func FuzzUnpack(f *testing.F) {
	const tool = "package/bin/tool"
	f.Add(tool, "#!tool", int64(0o755), byte(tar.TypeReg), "package/LICENSE", "free", byte(tar.TypeReg))
	f.Add(tool, "#!tool", int64(0o4755), byte(tar.TypeReg), "package/bin/../../../evil", "x", byte(tar.TypeReg))
	f.Add(tool, "x", int64(0), byte(tar.TypeReg), "package/bin/tool/x", "x", byte(tar.TypeReg))
	f.Add(tool, "x", int64(0), byte(tar.TypeReg), "package/bin", "/etc", byte(tar.TypeSymlink))
	f.Add("/package//bin/./tool", "x", int64(0), byte(tar.TypeReg), "x/LICENSE", "/etc/passwd", byte(tar.TypeLink))
	f.Add(tool, "x", int64(0), byte(tar.TypeReg), "package/bin/null", "", byte(tar.TypeChar))
	list := selectClaude(f, integrity(nil))
	f.Fuzz(func(t *testing.T, name1, content1 string, mode int64, type1 byte, name2, content2 string, type2 byte) {
		var b bytes.Buffer
		gz := gzip.NewWriter(&b)
		tw := tar.NewWriter(gz)
		for _, x := range []struct {
			name, content string
			kind          byte
		}{{name1, content1, type1}, {name2, content2, type2}} {
			h := &tar.Header{Typeflag: x.kind, Name: x.name, Mode: mode, Uid: 1000}
			if x.kind == tar.TypeReg {
				h.Size = int64(len(x.content))
			} else {
				h.Linkname = x.content
			}
			if tw.WriteHeader(h) != nil {
				return
			}
			if x.kind == tar.TypeReg {
				io.WriteString(tw, x.content)
			}
		}
		if tw.Close() != nil || gz.Close() != nil {
			return
		}
		archive := filepath.Join(t.TempDir(), "x.tgz")
		if err := os.WriteFile(archive, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		var layer bytes.Buffer
		if agents.WriteLayer(t.Context(), list, []string{archive}, &layer) != nil {
			return
		}
		programs := 0
		for r := tar.NewReader(&layer); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(h.Name, "/")
			if path.Clean(name) != name || h.Uid != 0 || h.Gid != 0 || h.Mode&^0o777 != 0 {
				t.Errorf("the layer has %q of %d:%d with mode %o", h.Name, h.Uid, h.Gid, h.Mode)
			}
			const own = "opt/mayfly/agents/claude"
			switch {
			case h.Typeflag == tar.TypeDir && (strings.HasPrefix(own+"/", name+"/") || strings.HasPrefix("usr/local/bin/", name+"/") || strings.HasPrefix(name, own+"/")):
			case h.Typeflag == tar.TypeReg && strings.HasPrefix(name, own+"/"):
				if name == own+"/bin/tool" {
					programs++
				}
			case h.Typeflag == tar.TypeSymlink && name == "usr/local/bin/claude" && h.Linkname == "/"+own+"/bin/tool":
			default:
				t.Errorf("the layer has %c %q -> %q", h.Typeflag, h.Name, h.Linkname)
			}
		}
		if programs == 0 {
			t.Error("the layer has no program")
		}
	})
}
