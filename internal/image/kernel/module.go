package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
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

// signatureMagic ends a module that is signed, linux/module_signature.h.
const signatureMagic = "~Module signature appended~\n"

// Unsigned returns a module without its signature. Who has verified the package
// that the module is from need not let every start of a guest do it again,
// which under emulation takes about half of the time of loading it. A kernel
// that insists on signatures, as none of Debian's does outside of Secure Boot,
// would refuse the module.
func Unsigned(ko []byte) []byte {
	rest, signed := bytes.CutSuffix(ko, []byte(signatureMagic))
	// struct module_signature: algo, hash, id_type, signer_len, key_id_len,
	// three bytes of padding, and sig_len in big endian. The names and the
	// signature are before it.
	const size = 12
	if !signed || len(rest) < size {
		return ko
	}
	info := rest[len(rest)-size:]
	n := int64(size) + int64(info[3]) + int64(info[4]) + int64(binary.BigEndian.Uint32(info[8:]))
	if n > int64(len(rest)) {
		return ko
	}
	return rest[:int64(len(rest))-n]
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
