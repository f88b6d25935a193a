package agent

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf16"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Where certificates are beside wire.TrustedFile and wire.AuthorityFile.
const (
	certsDir = "/etc/ssl/certs"
	javaFile = "/etc/ssl/certs/java/cacerts"
)

// trust adds a certificate to those that programs of the machine trust: to the file
// of all of them, to the directory in which OpenSSL looks by a hash of the subject,
// to what update-ca-certificates(8) makes both of, and to Java's own file.
//
// hash is what OpenSSL calls the certificate's subject, X509_NAME_hash_ex(3).
func (t tree) trust(authority []byte, hash string) error {
	block, _ := pem.Decode(authority)
	if block == nil {
		return errors.New("the authority's certificate is none")
	}
	if err := t.writeFile(wire.AuthorityFile, authority, 0o644); err != nil {
		return err
	}
	err := t.edit(wire.TrustedFile, 0o644, func(all []byte) []byte {
		return append(bytes.TrimRight(all, "\n"), append([]byte("\n"), authority...)...)
	})
	if err != nil {
		return err
	}
	dir, err := t.resolve(certsDir + "/.")
	if err != nil {
		return err
	}
	for link, target := range map[string]string{
		"mayfly.pem": wire.AuthorityFile,
		hash + ".0":  "mayfly.pem",
	} {
		name := filepath.Join(t.upper, dir, link)
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(target, name); err != nil {
			return err
		}
	}
	if err := t.reach(block.Bytes); err != nil {
		return err
	}
	store, err := t.readFile(javaFile)
	if err != nil || store == nil {
		return err
	}
	if store, ok := addToKeyStore(store, block.Bytes, time.Now()); ok {
		return t.writeFile(javaFile, store, 0o644)
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
func addToKeyStore(store, cert []byte, now time.Time) ([]byte, bool) {
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
	text("mayfly")
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
