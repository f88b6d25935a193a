package confine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/proc"
)

// The file of all authorities may be a link to one far from where authorities are, as on
// NixOS. crypto/x509 reads it when the first host is asked, and then it must be readable.
func TestHostFiles(t *testing.T) {
	for _, file := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if !slices.Contains(trustedFiles, file) {
			t.Errorf("%s is not followed where it is a link", file)
		}
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file, link, far := filepath.Join(dir, "store"), filepath.Join(dir, "static"), filepath.Join(dir, "certs")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(file, link), os.Symlink(link, far)); err != nil {
		t.Fatal(err)
	}
	want := []proc.Rule{{Path: far, Access: proc.Read}, {Path: file, Access: proc.Read}}
	if got := linkedFile(far); !slices.Equal(got, want) {
		t.Errorf("linkedFile() = %v; want %v", got, want)
	}
	if got := linkedFile(filepath.Join(file, "of no directory")); len(got) > 0 {
		t.Errorf("of what is not there: %v", got)
	}
}
