// Package sshkey has the host's side of SSH's keys: it makes those of machines and
// the one of mayfly's own user, finds the public keys that the user has, and writes
// them as OpenSSH's files do.
//
// It speaks no SSH and asks no agent.
package sshkey

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

// Bounds of what is read of the user's directory.
const (
	maxFile = 8 << 10 // bytes of a file with a key
	maxLine = 4 << 10 // of a public key: 16,384 bits of RSA are 2,800
	maxKeys = 64      // of the user
)

// Public is a public key.
type Public struct {
	key     ssh.PublicKey
	Comment string
}

// Generate makes a new ed25519 key, and returns it as OpenSSH writes private keys.
func Generate(comment string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// PublicOf returns the public part of a private key without a passphrase.
func PublicOf(private []byte) (Public, error) {
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return Public{}, fmt.Errorf("read an SSH key: %w", err)
	}
	return Public{key: signer.PublicKey()}, nil
}

// Parse reads one public key, as a .pub file has it. A certificate is none, nor is
// a line with options.
func Parse(line []byte) (Public, error) {
	if len(line) > maxLine {
		return Public{}, errors.New("too long for an SSH key")
	}
	if line = bytes.TrimSpace(line); bytes.ContainsAny(line, "\r\n") {
		return Public{}, errors.New("more than one line is no SSH key")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return Public{}, err
	}
	if len(options) > 0 {
		return Public{}, errors.New("an SSH key with options")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return Public{}, errors.New("a certificate is no SSH key")
	}
	return Public{key, comment}, nil
}

// Line returns the key as a line of authorized_keys(5), without its comment: that
// often says whose it is and where, which is not a machine's business.
func (p Public) Line() []byte { return ssh.MarshalAuthorizedKey(p.key) }

// Fingerprint returns the key's fingerprint, as ssh-keygen -l prints it.
func (p Public) Fingerprint() string { return ssh.FingerprintSHA256(p.key) }

// KnownHost returns the line of a known_hosts file that says that host has the key.
func (p Public) KnownHost(host string) string {
	return host + " " + string(p.Line())
}

// Ensure returns the public part of the private key in the file name, which it makes
// when it is missing. The public part is beside it, in name.pub.
func Ensure(name, comment string) (Public, error) {
	private, err := readSmall(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(name, comment); err != nil {
			return Public{}, err
		}
		private, err = readSmall(name)
	}
	if err != nil {
		return Public{}, fmt.Errorf("read mayfly's SSH key: %w", err)
	}
	return PublicOf(private)
}

// create makes a key pair. Who comes first makes it.
func create(name, comment string) error {
	private, err := Generate(comment)
	if err != nil {
		return err
	}
	public, err := PublicOf(private)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make mayfly's SSH key: %w", err)
	}
	line := append(bytes.TrimSpace(public.Line()), " "+comment+"\n"...)
	switch err := atomicfile.WriteNew(name, private, 0o600); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("make mayfly's SSH key: %w", err)
	}
	// For programs and people; we do without.
	if err := os.WriteFile(name+".pub", line, 0o644); err != nil {
		return fmt.Errorf("make mayfly's SSH key: %w", err)
	}
	return nil
}

// UserKeys returns the public keys that a user has in the directory .ssh of home.
// What is no key there is left out.
func UserKeys(home string) []Public {
	entries, err := os.ReadDir(filepath.Join(home, ".ssh"))
	if err != nil {
		return nil // most users have one, but nobody has to
	}
	var keys []Public
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".pub") || len(keys) >= maxKeys {
			continue
		}
		line, err := readSmall(filepath.Join(home, ".ssh", e.Name()))
		if err != nil {
			continue
		}
		if key, err := Parse(line); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// AuthorizedKeys returns keys as authorized_keys(5), each once.
func AuthorizedKeys(keys ...Public) []byte {
	var lines []string
	for _, k := range keys {
		if line := string(k.Line()); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return []byte(strings.Join(lines, ""))
}

// readSmall reads a regular file. A pipe, which somebody may have in the place of
// one, would never end.
func readSmall(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, fmt.Errorf("%s is no file of a key", name)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}
