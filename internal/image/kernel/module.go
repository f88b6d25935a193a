package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds a decompressed module; Debian's largest has 10 MB.
const maxModule = 64 << 20

// readModule returns a module's contents. The guest has no decompressor, and
// none has to run at each of its starts.
func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch {
	case strings.HasSuffix(path, ".ko"):
	case strings.HasSuffix(path, ".ko.xz"):
		r, err = xz.NewReader(f)
	case strings.HasSuffix(path, ".ko.gz"):
		r, err = gzip.NewReader(f)
	case strings.HasSuffix(path, ".ko.zst"):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			r = d
		}
	default:
		err = errors.New("unknown compression")
	}
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("module %s: decompress: %w", path, err)
	}
	if len(data) > maxModule {
		return nil, fmt.Errorf("module %s: larger than %d bytes", path, maxModule)
	}
	return data, nil
}

// Deps are the modules that one module needs.
type Deps struct {
	Hard []string // it cannot be linked without them
	Soft []string // should be there before it; may name what does not exist
}

// Dependencies reads what a module needs from the module itself. The list that
// depmod makes, modules.dep, is not in Debian's packages: it is made at their
// installation, and depmod may not be there.
func Dependencies(ko []byte) (Deps, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return Deps{}, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return Deps{}, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return Deps{}, err
	}
	var deps Deps
	for field := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					deps.Hard = append(deps.Hard, moduleName(name))
				}
			}
		case "softdep":
			deps.Soft = append(deps.Soft, softDeps(value)...)
		}
	}
	return deps, nil
}

// softDeps returns the modules to be loaded before, from a line such as
// "pre: crc32c post: foo".
func softDeps(line string) []string {
	words := strings.Fields(line)
	var pre []string
	in := false
	for _, w := range words {
		if strings.HasSuffix(w, ":") {
			in = w == "pre:"
		} else if in {
			pre = append(pre, moduleName(w))
		}
	}
	return slices.Compact(pre)
}
