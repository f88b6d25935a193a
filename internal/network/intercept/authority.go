package intercept

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// subject is the name of every machine's authority.
const subject = "mayfly machine authority"

// SubjectHash is what OpenSSL calls that name, X509_NAME_hash_ex(3): what the link to
// the certificate has to be called in a directory of certificates.
const SubjectHash = "f2ed554b"

// How long certificates hold that an authority makes. Clocks of guests may be behind.
const (
	clockSlack = 24 * time.Hour
	leafAge    = 7 * 24 * time.Hour
)

// An authority holds for as long as a certificate can say in two digits of the year. It is
// trusted in one machine and its key is gone with that machine's supervisor, so that an
// earlier end would protect nobody. But a machine may run for months, with programs that
// have read what they trust once, and the host's clock may be set while it does.
var (
	authorityFrom  = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	authorityUntil = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// maxLeaves bounds the certificates that are kept.
const maxLeaves = 1000

// authority makes certificates for names. Its keys are in memory only.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	leaf *ecdsa.PrivateKey // of all certificates that it makes
	now  func() time.Time

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

func newAuthority() (*authority, error) {
	a := &authority{leaves: make(map[string]*tls.Certificate), now: time.Now}
	for _, key := range []**ecdsa.PrivateKey{&a.key, &a.leaf} {
		var err error
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, fmt.Errorf("make the machine's authority: %w", err)
		}
	}
	all4 := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	all6 := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             authorityFrom,
		NotAfter:              authorityUntil,
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		// Not for addresses. For which names it is cannot be
		// said here: the policy of a running machine may change.
		PermittedDNSDomainsCritical: true,
		ExcludedIPRanges:            []*net.IPNet{all4, all6},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("make the machine's authority: %w", err)
	}
	return a, nil
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // positive, RFC 5280 4.1.2.2
	b[0] |= 0x40
	return new(big.Int).SetBytes(b[:])
}

// text returns the authority's certificate in PEM.
func (a *authority) text() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// certificate returns one for name.
func (a *authority) certificate(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	// Also when the clock was put back.
	if c, ok := a.leaves[name]; ok && now.After(c.Leaf.NotBefore) && c.Leaf.NotAfter.Sub(now) > leafAge/2 {
		return c, nil
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     now.Add(leafAge),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{name},
	}
	if len(name) <= 64 { // RFC 5280, ub-common-name
		template.Subject.CommonName = name
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &a.leaf.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", name, err)
	}
	if len(a.leaves) >= maxLeaves {
		a.leaves = make(map[string]*tls.Certificate)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leaf, Leaf: leaf}
	a.leaves[name] = c
	return c, nil
}
