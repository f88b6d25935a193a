package intercept

import (
	"crypto/x509"
	"testing"
	"time"
)

// A machine runs for months, and its host's clock may be wrong and be set meanwhile: what
// the machine trusts since its start holds, and so do certificates for names.
func TestAuthorityHolds(t *testing.T) {
	a, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.text()) {
		t.Fatal("the authority's certificate is none")
	}
	const day = 24 * time.Hour
	now := time.Now()
	a.now = func() time.Time { return now }
	start := now
	for _, after := range []time.Duration{0, day, 6 * day, 8 * day, 29 * day, 31 * day, 400 * day, 5 * 365 * day, -3 * day, -1000 * day, 0} {
		now = start.Add(after)
		c, err := a.certificate("a.example")
		if err != nil {
			t.Fatal(err)
		}
		// The guest's clock may be a little behind, and a program may take its time.
		for _, off := range []time.Duration{-time.Hour, 0, day} {
			if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "a.example", CurrentTime: now.Add(off)}); err != nil {
				t.Errorf("%v after the start, for a clock that is %v off: %v", after, off, err)
			}
		}
		if again, err := a.certificate("a.example"); err != nil || again != c {
			t.Errorf("%v after the start: a certificate is made each time: %v", after, err)
		}
	}
}
