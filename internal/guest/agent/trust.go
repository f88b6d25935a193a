package agent

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
	"unicode/utf16"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Where certificates are beside wire.TrustedFile and its kin.
const (
	certsDir = "/etc/ssl/certs"
	javaFile = "/etc/ssl/certs/java/cacerts"
)

// certificate is one that the machine is to trust beside those of its image.
type certificate struct {
	name string // "mayfly"
	der  []byte
	text []byte // the same in PEM
	hash string // what OpenSSL calls its subject, X509_NAME_hash_ex(3)
}

// file returns where update-ca-certificates(8) finds the certificate.
func (c certificate) file() string { return wire.AuthorityDir + "/" + c.name + ".crt" }

// certificatesOf returns what a machine with this network is to trust.
func certificatesOf(n *wire.Network) ([]certificate, error) {
	var all []certificate
	if len(n.Authority) > 0 {
		block, _ := pem.Decode(n.Authority)
		if block == nil {
			return nil, errors.New("the authority's certificate is none")
		}
		all = append(all, certificate{"mayfly", block.Bytes, n.Authority, n.AuthorityHash})
	}
	for i, a := range n.HostAuthorities {
		all = append(all, certificate{fmt.Sprintf("mayfly-host-%d", i+1), a.Certificate, pemOf(a.Certificate), a.Hash})
	}
	return all, nil
}

// pemOf returns a certificate in PEM, as pem.Encode does, whose code an emulated CPU would
// translate for nothing else.
func pemOf(der []byte) []byte {
	const column = 64
	rest := base64.StdEncoding.EncodeToString(der)
	text := []byte("-----BEGIN CERTIFICATE-----\n")
	for len(rest) > 0 {
		n := min(column, len(rest))
		text = append(append(text, rest[:n]...), '\n')
		rest = rest[n:]
	}
	return append(text, "-----END CERTIFICATE-----\n"...)
}

// trust adds certificates to those that programs of the machine trust: to the file
// of all of them, to the directory in which OpenSSL looks by a hash of the subject,
// to what update-ca-certificates(8) makes both of, and to Java's own file.
func (t tree) trust(added []certificate) error {
	var together []byte
	for _, c := range added {
		if err := t.writeFile(c.file(), c.text, 0o644); err != nil {
			return err
		}
		together = append(together, c.text...)
	}
	if err := t.writeFile(wire.AddedFile, together, 0o644); err != nil {
		return err
	}
	err := t.edit(wire.TrustedFile, 0o644, func(all []byte) []byte {
		return append(bytes.TrimRight(all, "\n"), append([]byte("\n"), together...)...)
	})
	if err != nil {
		return err
	}
	for _, c := range added {
		if err := t.linkCertificate(c); err != nil {
			return err
		}
	}
	if err := t.reach(added); err != nil {
		return err
	}
	if err := t.reachContainers(); err != nil {
		return err
	}
	store, err := t.readFile(javaFile)
	if err != nil || store == nil {
		return err
	}
	for _, c := range added {
		more, ok := addToKeyStore(store, c.name, c.der, time.Now())
		if !ok {
			return nil
		}
		store = more
	}
	return t.writeFile(javaFile, store, 0o644)
}

// maxSameHash bounds the certificates that have subjects with the same hash.
const maxSameHash = 100

// linkCertificate makes the links by which OpenSSL finds a certificate.
func (t tree) linkCertificate(c certificate) error {
	dir, err := t.resolve(certsDir + "/.")
	if err != nil {
		return err
	}
	link := func(name, target string) error {
		name = filepath.Join(t.upper, dir, name)
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(target, name)
	}
	if err := link(c.name+".pem", c.file()); err != nil {
		return err
	}
	for i := range maxSameHash {
		name := fmt.Sprintf("%s.%d", c.hash, i)
		file, _, err := t.lookup(path.Join(dir, name))
		if err == nil {
			if target, err := os.Readlink(file); err != nil || target != c.name+".pem" {
				continue // another one's
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return link(name, c.name+".pem")
	}
	return nil
}

// A Java key store, as sun.security.provider.JavaKeyStore writes it and Debian's
// ca-certificates-java keeps it: a magic number, version 2, the number of entries,
// the entries, and a digest with the password that all know.
const (
	keyStoreMagic   = 0xfeedfeed
	keyStoreTrusted = 2 // the tag of an entry that is a certificate
)

// addToKeyStore returns store with a certificate added, in DER. It reports false for
// what is no key store of that kind.
func addToKeyStore(store []byte, alias string, cert []byte, now time.Time) ([]byte, bool) {
	const head, digest = 12, sha1.Size
	if len(store) < head+digest || binary.BigEndian.Uint32(store) != keyStoreMagic || binary.BigEndian.Uint32(store[4:]) != 2 {
		return nil, false
	}
	body := bytes.Clone(store[:len(store)-digest])
	if keyStoreDigest(body) != [sha1.Size]byte(store[len(body):]) {
		return nil, false // another password, and so somebody's own
	}
	binary.BigEndian.PutUint32(body[8:], binary.BigEndian.Uint32(body[8:])+1)
	text := func(s string) {
		body = binary.BigEndian.AppendUint16(body, uint16(len(s)))
		body = append(body, s...)
	}
	body = binary.BigEndian.AppendUint32(body, keyStoreTrusted)
	text(alias)
	body = binary.BigEndian.AppendUint64(body, uint64(now.UnixMilli()))
	text("X.509")
	body = binary.BigEndian.AppendUint32(body, uint32(len(cert)))
	body = append(body, cert...)
	sum := keyStoreDigest(body)
	return append(body, sum[:]...), true
}

func keyStoreDigest(body []byte) [sha1.Size]byte {
	h := sha1.New()
	for _, c := range utf16.Encode([]rune("changeit")) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(body)
	return [sha1.Size]byte(h.Sum(nil))
}
