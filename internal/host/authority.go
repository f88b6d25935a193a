package host

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Authority is a certificate authority that this host trusts and its distribution does
// not: one of a company whose network looks into TLS.
type Authority struct {
	Subject     string    `json:"subject"`
	Until       time.Time `json:"until"`
	Hash        string    `json:"hash"`        // of the subject, as OpenSSL names its files
	Certificate []byte    `json:"certificate"` // DER
	// System says that programs of the host find it where they look by themselves.
	System bool `json:"system"`
}

// Where certificates are. Of bundles, programs read the first that there is.
var (
	bundleFiles = []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Alpine, NixOS
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora
		"/etc/pki/tls/certs/ca-bundle.crt",                  // the same, older
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/ssl/cert.pem",                                 // Alpine
	}
	// What an administrator adds.
	anchorDirs = []string{
		"/usr/local/share/ca-certificates",          // Debian, Alpine
		"/etc/pki/ca-trust/source/anchors",          // Fedora
		"/etc/ca-certificates/trust-source/anchors", // Arch
		"/etc/pki/trust/anchors",                    // openSUSE
	}
	// What a distribution brings.
	distributionDirs = []string{
		"/usr/share/ca-certificates/mozilla",      // Debian, Alpine
		"/usr/share/pki/ca-trust-source",          // Fedora
		"/usr/share/ca-certificates/trust-source", // Arch
		"/usr/share/pki/trust",                    // openSUSE
	}
	// Variables by which users without root add an authority.
	authorityVariables = []string{"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"}
)

// Bounds of what is read, and of what machines are given.
const (
	maxBundle       = 4 << 20
	maxAnchorFiles  = 1000
	maxAuthority    = 8 << 10
	maxAuthorities  = 64
	maxAuthorityAll = 128 << 10
)

// probeAuthorities returns the authorities that an administrator or the user has added to
// those of the distribution, and how many more there are than a machine is given.
func probeAuthorities(o Options, now time.Time) (list []Authority, omitted int) {
	// A certificate is its base64 until it is one of the few that matter: there are
	// some 150, and each start of a machine looks at them.
	var all []string
	known := make(map[string]bool) // in the bundle
	own := distributionCertificates(o)
	for _, name := range bundleFiles {
		data := readBounded(o.path(name))
		if data == nil {
			continue
		}
		for _, cert := range certificates(data) {
			known[cert] = true
			// Without the distribution's list all would count as added.
			if len(own) > 0 && !own[cert] {
				all = append(all, cert)
			}
		}
		break
	}
	for _, dir := range anchorDirs {
		for _, data := range readFiles(o.path(dir), ".crt", ".pem", ".cer", ".der") {
			all = append(all, certificates(data)...)
		}
	}
	for _, path := range namedAuthorities(o) {
		for _, cert := range certificates(readBounded(o.path(path))) {
			if !known[cert] && !own[cert] {
				all = append(all, cert)
			}
		}
	}
	seen := make(map[string]bool)
	size := 0
	for _, text := range all {
		if seen[text] {
			continue
		}
		seen[text] = true
		a, ok := parseAuthority(text, now)
		if !ok {
			continue
		}
		if n := len(a.Certificate); len(list) == maxAuthorities || n > maxAuthority || size+n > maxAuthorityAll {
			omitted++
			continue
		}
		size += len(a.Certificate)
		a.System = known[text]
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Authority) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), bytes.Compare(a.Certificate, b.Certificate))
	})
	return list, omitted
}

// namedAuthorities returns the files of the user's own that variables name.
func namedAuthorities(o Options) (paths []string) {
	for _, name := range authorityVariables {
		if path := o.env(name); filepath.IsAbs(path) && !slices.Contains(bundleFiles, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// parseAuthority reads a certificate. It reports false for what is none of an authority,
// and for one that has expired.
func parseAuthority(text string, now time.Time) (Authority, bool) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Authority{}, false
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || !cert.BasicConstraintsValid || !cert.IsCA || now.After(cert.NotAfter) {
		return Authority{}, false
	}
	hash, err := subjectHash(cert.RawSubject)
	if err != nil {
		return Authority{}, false
	}
	return Authority{
		Subject: termsafe.Clip(cert.Subject.String(), 200), Until: cert.NotAfter.UTC(), Hash: hash, Certificate: der,
	}, true
}

// distributionCertificates returns the certificates that the distribution brings, in base64.
func distributionCertificates(o Options) map[string]bool {
	all := make(map[string]bool)
	for _, dir := range distributionDirs {
		for _, data := range readFiles(o.path(dir)) {
			for _, cert := range certificates(data) {
				all[cert] = true
			}
		}
	}
	return all
}

// certificates returns the base64 of the certificates in data: text with any number of
// them, or one in DER. p11-kit's files are text, too.
func certificates(data []byte) (all []string) {
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	if len(data) > 0 && data[0] == 0x30 { // a SEQUENCE, RFC 5280 4.1
		if cert, err := x509.ParseCertificate(data); err == nil {
			return []string{base64.StdEncoding.EncodeToString(cert.Raw)}
		}
	}
	for {
		_, rest, ok := bytes.Cut(data, []byte(begin))
		if !ok {
			return all
		}
		body, rest, ok := bytes.Cut(rest, []byte(end))
		if !ok {
			return all
		}
		data = rest
		var b strings.Builder
		b.Grow(len(body))
		for line := range bytes.Lines(body) {
			b.Write(bytes.TrimSpace(line))
		}
		all = append(all, b.String())
	}
}

// readFiles returns the content of the files of a directory, of those with a name that
// ends so if endings are given: others were put aside.
func readFiles(dir string, endings ...string) (all [][]byte) {
	for _, name := range fileNames(dir) {
		if len(endings) > 0 && !slices.Contains(endings, filepath.Ext(name)) {
			continue
		}
		if data := readBounded(filepath.Join(dir, name)); data != nil {
			all = append(all, data)
		}
	}
	return all
}

// fileNames returns the names in a directory that certificates are read of, sorted.
func fileNames(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxAnchorFiles)
	slices.Sort(names)
	return names
}

// readBounded returns the content of a regular file that is not too large, nil for others.
func readBounded(name string) []byte {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxBundle {
		return nil
	}
	data := make([]byte, fi.Size())
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return data[:n]
}
