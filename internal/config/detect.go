package config

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Detection is a profile that a project's files, or the command, ask for.
type Detection struct {
	Profile string
	Because string // the file or command, for the line that says so
}

// maxDetectEntries bounds how many names are read of a directory: the look must
// stay instant in a directory of a million files.
const maxDetectEntries = 4096

// maxDetectDirs bounds how many subdirectories are looked at.
const maxDetectDirs = 64

// Marker is a file that says what a project is written in.
type Marker struct{ File, Profile string }

// Markers returns the files that choose a profile, in the order in which they are
// looked for.
func Markers() []Marker {
	return []Marker{
		{"go.mod", "go"},
		{"package.json", "node"},
		{"pyproject.toml", "python"},
		{"requirements.txt", "python"},
		{"setup.py", "python"},
		{"Cargo.toml", "rust"},
		{"CMakeLists.txt", "c"},
		{"meson.build", "c"},
	}
}

// Detect returns the profiles for the project in the directory fsys, in a fixed
// order. It looks at the names of regular files in the top directory and, for
// .proto files beside a go.mod, in its subdirectories. It opens no file and
// follows no symbolic link: the directory may be anyone's work. What cannot be
// read is not there.
//
// Give it os.Root.FS for a real directory.
func Detect(fsys fs.FS) []Detection {
	files, dirs := list(fsys, ".")
	var found []Detection
	for _, m := range Markers() {
		has := func(d Detection) bool { return d.Profile == m.Profile }
		if slices.Contains(files, m.File) && !slices.ContainsFunc(found, has) {
			found = append(found, Detection{m.Profile, m.File})
		}
	}
	if len(found) > 0 && found[0].Profile == "go" {
		if proto := findProto(fsys, files, dirs); proto != "" {
			found[0] = Detection{"go-protobuf", "go.mod and " + proto}
		}
	}
	return found
}

// findProto returns the first .proto file of the top two levels.
func findProto(fsys fs.FS, files, dirs []string) string {
	isProto := func(name string) bool { return strings.HasSuffix(name, ".proto") && termsafe.Is(name) }
	if i := slices.IndexFunc(files, isProto); i >= 0 {
		return files[i]
	}
	for _, dir := range dirs[:min(len(dirs), maxDetectDirs)] {
		files, _ := list(fsys, dir)
		if i := slices.IndexFunc(files, isProto); i >= 0 {
			return path.Join(dir, files[i])
		}
	}
	return ""
}

// list returns the sorted names of the regular files and of the directories in
// dir, of at most maxDetectEntries entries. Directories with a leading dot and
// those that hold other people's code are left out.
func list(fsys fs.FS, dir string) (files, dirs []string) {
	f, err := fsys.Open(dir)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, nil
	}
	entries, err := d.ReadDir(maxDetectEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case e.Type().IsRegular():
			files = append(files, name)
		case e.IsDir() && !strings.HasPrefix(name, ".") && name != "vendor" && name != "node_modules" && termsafe.Is(name):
			dirs = append(dirs, name)
		}
	}
	slices.Sort(files)
	slices.Sort(dirs)
	return files, dirs
}

// DetectCommand returns the profile of the agent that a command starts.
func DetectCommand(argv []string) (Detection, bool) {
	if len(argv) == 0 {
		return Detection{}, false
	}
	name := filepath.Base(argv[0])
	if !slices.Contains(codingagent.Names(), name) {
		return Detection{}, false
	}
	return Detection{Profile: name, Because: "the command " + name}, true
}
