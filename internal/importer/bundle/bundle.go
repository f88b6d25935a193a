// Package bundle is a set-up in one file: machines' files and the profiles that they
// use, to be kept, sent or published, and made again elsewhere.
//
// Files come in and the text of a bundle goes out, and the other way round. A bundle
// may come from anyone: Read is strict and bounded and checks the hash of each file,
// and Review says, before anything is used, what machines made of it could reach,
// what would be fetched and what would run, and refuses what nobody should agree to.
// The package is pure: it opens no file, fetches nothing and asks nobody.
package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/tomlquote"
)

// Version is the version of the format: `version = 1` in each bundle.
const Version = 1

// Limits of a bundle.
const (
	MaxSize  = 4 << 20
	MaxFiles = 64 // machines, and as many profiles
)

// File is a machine's file or a profile's. The name is without .toml.
type File struct {
	Name string
	Data []byte
}

// Bundle is a set-up, sorted by name.
type Bundle struct {
	Machines []File
	Profiles []File
}

// Sum returns what a bundle is pinned by: the SHA-256 of its bytes.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// document is the format.
type document struct {
	Version int64   `toml:"version"`
	Profile []entry `toml:"profile"`
	Machine []entry `toml:"machine"`
}

type entry struct {
	Name    string `toml:"name"`
	SHA256  string `toml:"sha256"`
	Content string `toml:"content"`
}

// Encode writes the bundle. The same files give the same bytes.
func (b Bundle) Encode() ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# A set-up of mayfly: mayfly init --from FILE reviews it and makes it.\nversion = %d\n", Version)
	for _, f := range sorted(b.Profiles) {
		writeEntry(&out, "profile", f)
	}
	for _, f := range sorted(b.Machines) {
		writeEntry(&out, "machine", f)
	}
	// What a reader would refuse is not written.
	if _, err := Read(out.Bytes()); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return out.Bytes(), nil
}

func sorted(files []File) []File {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files
}

func writeEntry(out *bytes.Buffer, kind string, f File) {
	fmt.Fprintf(out, "\n[[%s]]\nname = %s\nsha256 = %q\ncontent = %s\n", kind, tomlquote.String(f.Name), Sum(f.Data), tomlquote.Text(string(f.Data)))
}

// Read reads a bundle. It looks at no file's content but for its hash: that is
// Review's.
func Read(data []byte) (Bundle, error) {
	if len(data) > MaxSize {
		return Bundle{}, fmt.Errorf("read the set-up: larger than %d MiB", MaxSize>>20)
	}
	var doc document
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&doc); err != nil {
		return Bundle{}, fmt.Errorf("read the set-up: %s", decodeError(data, err))
	}
	switch doc.Version {
	case Version:
	case 0:
		return Bundle{}, errors.New("read the set-up: " + noVersion)
	default:
		return Bundle{}, fmt.Errorf("read the set-up: its version is %d; this mayfly reads version %d", doc.Version, Version)
	}
	machines, err1 := files("machine", doc.Machine, naming.Valid)
	profiles, err2 := files("profile", doc.Profile, naming.ValidProfile)
	if err := errors.Join(err1, err2); err != nil {
		return Bundle{}, err
	}
	if len(machines) == 0 {
		return Bundle{}, errors.New("read the set-up: it holds no machine")
	}
	return Bundle{machines, profiles}, nil
}

const noVersion = "it has no `version = 1`; is it a set-up?"

// decodeError returns go-toml's error with a line, safe to print. A bundle without a
// version may be of another kind, which is what is to be said then.
func decodeError(data []byte, err error) string {
	var version struct {
		Version any `toml:"version"`
	}
	if toml.Unmarshal(data, &version) == nil && version.Version == nil {
		return noVersion
	}
	msg := strings.TrimPrefix(err.Error(), "toml: ")
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		line, _ := strict.Errors[0].Position()
		return fmt.Sprintf("line %d: unknown key %s", line, short(strings.Join(strict.Errors[0].Key(), ".")))
	}
	if d, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := d.Position()
		return fmt.Sprintf("line %d: %s", line, termsafe.Line(msg))
	}
	return termsafe.Line(msg)
}

// files checks the entries of one kind.
func files(kind string, entries []entry, valid func(string) bool) ([]File, error) {
	if len(entries) > MaxFiles {
		return nil, fmt.Errorf("read the set-up: more than %d of [[%s]]", MaxFiles, kind)
	}
	var out []File
	var errs []error
	fail := func(e entry, format string, args ...any) {
		errs = append(errs, fmt.Errorf("read the set-up: %s %s: "+format, append([]any{kind, short(e.Name)}, args...)...))
	}
	for _, e := range entries {
		switch {
		case !valid(e.Name):
			fail(e, "is no name for one")
		case slices.ContainsFunc(out, func(f File) bool { return f.Name == e.Name }):
			fail(e, "is there twice")
		case len(e.Content) > config.MaxFileSize:
			fail(e, "larger than %d KiB", config.MaxFileSize>>10)
		case e.Content == "":
			fail(e, "has no content")
		case e.SHA256 != Sum([]byte(e.Content)):
			fail(e, "its content is not what its sha256 says: it was changed")
		default:
			out = append(out, File{e.Name, []byte(e.Content)})
		}
	}
	return sorted(out), errors.Join(errs...)
}

// short quotes text of a bundle, cut so that it stays on one line. What is not ASCII
// is escaped: it may look like something else.
func short(s string) string {
	const limit = 200
	if len(s) > limit {
		return fmt.Sprintf("%+q…", strings.ToValidUTF8(s[:limit], ""))
	}
	return fmt.Sprintf("%+q", s)
}

// ProfileNames returns the profiles that a machine's file names, in its order.
func (f File) ProfileNames() []string {
	var doc struct{ Profiles []any }
	if err := toml.Unmarshal(f.Data, &doc); err != nil {
		return nil
	}
	var names []string
	for _, v := range doc.Profiles {
		if name, ok := v.(string); ok && naming.ValidProfile(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
