package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// A host whose apt knows no Debian, as Ubuntu's, still finds its packages.
func TestWithoutMirror(t *testing.T) {
	env.NeedVM(t)
	for name, makeAccount := range map[string]func(*testing.T) account{"root": rootAccount, "user": userAccount} {
		t.Run(name, func(t *testing.T) {
			a := makeAccount(t)
			const ubuntu = "Types: deb\nURIs: http://mirror.example/ubuntu\nSuites: noble noble-updates\nComponents: main universe\n"
			aptDir := filepath.Join(a.dir, "apt")
			if err := os.MkdirAll(filepath.Join(aptDir, "sources.list.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(aptDir, "sources.list.d", "ubuntu.sources"), []byte(ubuntu), 0o644); err != nil {
				t.Fatal(err)
			}
			check := child{Do: "check packages", Options: Options{AptDir: aptDir}}
			check.Image = plan.Image{Base: "debian:trixie", Packages: []string{"delve"}}
			if _, err := a.run(check, nil); err != nil {
				t.Error(err)
			}
			check.Image.Packages = []string{"delve", "frobnicate"}
			if _, err := a.run(check, nil); err == nil || !strings.Contains(err.Error(), "no Debian package is called frobnicate") {
				t.Errorf("checking the package frobnicate = %v; want an error that names it", err)
			}
			checkEmpty(t, a.options().BuildDir)
			checkProcesses(t, a.dir)
		})
	}
}
