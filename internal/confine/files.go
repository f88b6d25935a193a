package confine

import (
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/proc"
)

// resolverFiles are what the resolver of package net reads, again when they change.
var resolverFiles = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services"}

// trustedFiles are where crypto/x509 looks for authorities: the files that have all of them,
// each of which may be a link to somewhere else, and directories.
var trustedFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/certs", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem", "/etc/pki/tls/certs", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
}

// HostFiles returns rules for the host's files that name hosts and authorities, for a process
// that uses the network; root says that it is root.
func HostFiles(root bool) (rules []proc.Rule) {
	for _, path := range append(trustedFiles, resolverFiles...) {
		rules = append(rules, linkedFile(path)...)
	}
	// A file in /etc that is replaced is another one to Landlock. A user can read there
	// what everybody can. Root has keys there: of a file that is replaced it keeps what
	// it read before.
	if !root {
		rules = append(rules, proc.Rule{Path: "/etc", Access: proc.ReadFiles})
	}
	return rules
}

// linkedFile returns rules for what is at path, and for what that is a link to.
func linkedFile(path string) (rules []proc.Rule) {
	read := func(path string) { rules = append(rules, proc.Rule{Path: path, Access: proc.Read}) }
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil // it is not there
	}
	read(path)
	if real != path {
		read(real)
		// Who writes it makes a new file each time; only such directories are
		// that program's alone.
		if dir := filepath.Dir(real); strings.HasPrefix(dir, "/run/") {
			rules = append(rules, proc.Rule{Path: dir, Access: proc.ReadFiles})
		}
	}
	return rules
}
