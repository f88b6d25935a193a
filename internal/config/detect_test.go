package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestDetect(t *testing.T) {
	tests := []struct {
		files []string
		want  []Detection
	}{
		{nil, nil},
		{[]string{"README", "src/go.mod"}, nil},
		{[]string{"go.mod"}, []Detection{{"go", "go.mod"}}},
		{[]string{"package.json", "go.mod"}, []Detection{{"go", "go.mod"}, {"node", "package.json"}}},
		{[]string{"setup.py", "requirements.txt"}, []Detection{{"python", "requirements.txt"}}},
		{[]string{"meson.build"}, []Detection{{"c", "meson.build"}}},
		{[]string{"CMakeLists.txt", "pyproject.toml"}, []Detection{{"python", "pyproject.toml"}, {"c", "CMakeLists.txt"}}},
		{[]string{"go.mod", "a.proto"}, []Detection{{"go-protobuf", "go.mod and a.proto"}}},
		{[]string{"go.mod", "api/v1.proto"}, []Detection{{"go-protobuf", "go.mod and api/v1.proto"}}},
		{[]string{"go.mod", "api/v1/a.proto", "vendor/a.proto", ".x/a.proto"}, []Detection{{"go", "go.mod"}}},
		{[]string{"a.proto"}, nil},
		{[]string{"go.mod", "\x1b[31m.proto"}, []Detection{{"go", "go.mod"}}},
	}
	for _, tt := range tests {
		fsys := fstest.MapFS{}
		for _, f := range tt.files {
			fsys[f] = &fstest.MapFile{}
		}
		if d := cmp.Diff(tt.want, Detect(fsys)); d != "" {
			t.Errorf("Detect(%q): (-want +got)\n%s", tt.files, d)
		}
	}
}

func TestDetectRealDirectory(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	write(t, filepath.Join(outside, "a.proto"), "")
	write(t, filepath.Join(dir, "go.mod"), "")
	for name, target := range map[string]string{"package.json": "go.mod", "linked": outside} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "setup.py"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxDetectDirs {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("d%03d", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if d := cmp.Diff([]Detection{{"go", "go.mod"}}, Detect(root.FS())); d != "" {
		t.Errorf("Detect: (-want +got)\n%s", d)
	}
}

func TestDetectCommand(t *testing.T) {
	tests := []struct {
		argv []string
		want string
	}{
		{nil, ""},
		{[]string{"bash", "claude"}, ""},
		{[]string{"claude", "--version"}, "claude"},
		{[]string{"/usr/bin/codex"}, "codex"},
		{[]string{"opencode"}, "opencode"},
		{[]string{"copilot"}, "copilot"},
		{[]string{"gemini", "-p", "hi"}, "gemini"},
		{[]string{"claude-x"}, ""},
	}
	for _, tt := range tests {
		d, ok := DetectCommand(tt.argv)
		if d.Profile != tt.want || ok != (tt.want != "") {
			t.Errorf("DetectCommand(%q) = %+v, %v; want %q", tt.argv, d, ok, tt.want)
		}
	}
}
