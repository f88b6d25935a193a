package host

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// newCertificate returns a certificate in PEM, of an authority unless change says otherwise.
func newCertificate(t testing.TB, name string, change func(*x509.Certificate)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The authorities of a host are those that its distribution does not bring, however the
// distribution keeps them.
func TestAuthorities(t *testing.T) {
	first, second := newCertificate(t, "public 1", nil), newCertificate(t, "public 2", nil)
	corp := newCertificate(t, "corp", nil)
	leaf := newCertificate(t, "leaf", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, true })
	old := newCertificate(t, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	block, _ := pem.Decode([]byte(corp))
	p11 := func(certs ...string) string {
		return "[p11-kit-object-v1]\nlabel: \"x\"\ntrusted: true\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" + strings.Join(certs, "[p11-kit-object-v1]\n")
	}
	const fedora, mozilla = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "usr/share/ca-certificates/mozilla/"
	for what, test := range map[string]struct {
		files map[string]string
		env   map[string]string
		want  string // names, those that programs do not find by themselves with a +
	}{
		"nothing": {},
		"Debian": {files: map[string]string{
			mozilla + "1.crt": first, mozilla + "2.crt": second, "usr/local/share/ca-certificates/corp.crt": corp,
			"etc/ssl/certs/ca-certificates.crt": first + corp + second,
		}, want: "corp"},
		"Debian, a package's": {files: map[string]string{
			mozilla + "1.crt": first, "usr/share/ca-certificates/corp/corp.crt": corp, "etc/ssl/certs/ca-certificates.crt": first + corp,
		}, want: "corp"},
		"Debian, not yet in the bundle": {files: map[string]string{
			mozilla + "1.crt": first, "usr/local/share/ca-certificates/corp.crt": corp, "etc/ssl/certs/ca-certificates.crt": first,
		}, want: "+corp"},
		"Debian, put aside": {files: map[string]string{
			mozilla + "1.crt": first, "usr/local/share/ca-certificates/corp.crt.off": corp, "etc/ssl/certs/ca-certificates.crt": first,
		}},
		"Debian, appended to the bundle": {files: map[string]string{
			mozilla + "1.crt": first, "etc/ssl/certs/ca-certificates.crt": first + "\n# corp\n" + corp,
		}, want: "corp"},
		"Fedora": {files: map[string]string{
			"usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit": p11(first, second), fedora: "# public\n" + first + second + "# corp\n" + corp,
			"etc/pki/ca-trust/source/anchors/corp.cer": string(block.Bytes),
		}, want: "corp"},
		"Arch": {files: map[string]string{
			"usr/share/ca-certificates/trust-source/mozilla.trust.p11-kit": p11(first), "etc/ssl/certs/ca-certificates.crt": first + corp,
		}, want: "corp"},
		"openSUSE": {files: map[string]string{
			"usr/share/pki/trust/ca-certificates-mozilla.trust.p11-kit": p11(first), "etc/pki/trust/anchors/corp.pem": corp, "etc/ssl/ca-bundle.pem": first + corp,
		}, want: "corp"},
		"no list of a distribution's": {files: map[string]string{"etc/ssl/certs/ca-certificates.crt": first + corp}},
		"no authorities": {files: map[string]string{
			mozilla + "1.crt": first, "etc/ssl/certs/ca-certificates.crt": first + leaf + old,
			"usr/local/share/ca-certificates/bad.crt":  "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n",
			"usr/local/share/ca-certificates/bad2.crt": "0",
		}},
		"variables": {files: map[string]string{
			mozilla + "1.crt": first, "etc/ssl/certs/ca-certificates.crt": first, "home/me/corp.pem": corp, "home/me/all.pem": first + corp,
		}, env: map[string]string{"NODE_EXTRA_CA_CERTS": "/home/me/corp.pem", "SSL_CERT_FILE": "/home/me/all.pem"}, want: "+corp"},
		"variables that lead nowhere": {env: map[string]string{"NODE_EXTRA_CA_CERTS": "/dev/zero", "SSL_CERT_FILE": "corp.pem"}},
	} {
		root := t.TempDir()
		for name, text := range test.files {
			if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		all, omitted := probeAuthorities(Options{Root: root, Getenv: func(k string) string { return test.env[k] }}, time.Now())
		var got []string
		for _, a := range all {
			name := strings.TrimPrefix(a.Subject, "CN=")
			if !a.System {
				name = "+" + name
			}
			got = append(got, name)
			if !bytes.Equal(a.Certificate, block.Bytes) || len(a.Hash) != 8 || time.Until(a.Until) > time.Hour {
				t.Errorf("%s: %+v", what, a)
			}
		}
		if strings.Join(got, " ") != test.want || omitted != 0 {
			t.Errorf("%s: %q, %d omitted; want %q", what, got, omitted, test.want)
		}
	}
}

// However many authorities a host has, machines are given a bounded number.
func TestAuthoritiesBounded(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc/pki/trust/anchors")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for range maxAuthorities + 3 {
		text.WriteString(newCertificate(t, "a", nil))
	}
	text.WriteString(newCertificate(t, "large", func(c *x509.Certificate) { c.Subject.Organization = []string{strings.Repeat("x", maxAuthority)} }))
	if err := os.WriteFile(filepath.Join(dir, "all.pem"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	all, omitted := probeAuthorities(Options{Root: root, Getenv: func(string) string { return "" }}, time.Now())
	if len(all) != maxAuthorities || omitted != 4 {
		t.Errorf("%d authorities, %d omitted; want %d and 4", len(all), omitted, maxAuthorities)
	}
}

// OpenSSL finds a certificate by the hash that we write down.
func TestSubjectHash(t *testing.T) {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type nameSET []attribute
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	name := func(values ...asn1.RawValue) []byte {
		var names []nameSET
		for _, v := range values {
			names = append(names, nameSET{{cn, v}})
		}
		der, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	names := [][]byte{
		name(asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte("  Corp \t ROOT ")}, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("Zürich ÄÖ")}),
		name(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte("\x00C\x00\xe4\x00 \x00 \x00A")}),
		name(asn1.RawValue{Tag: tagUniversalString, Bytes: []byte("\x00\x00\x00C\x00\x01\xf6\x00")}),
		name(asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte("Caf\xe9")}, asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte("me@Corp.example")}),
		name(asn1.RawValue{Tag: asn1.TagNumericString, Bytes: []byte("1  2")}),
		name(),
	}
	der, err := asn1.Marshal([]nameSET{{{cn, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("longer")}}, {asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("a")}}}})
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, der)
	for _, bad := range []string{"", "x", "\x30\x80", "\x30\x02\x05\x00"} {
		if hash, err := subjectHash([]byte(bad)); err == nil {
			t.Errorf("subjectHash(%q) = %s; want an error", bad, hash)
		}
	}
	own := name(asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte("mayfly machine authority")})
	if hash, err := subjectHash(own); err != nil || hash != "f2ed554b" {
		t.Errorf("subjectHash of machines' authorities = %s, %v; want f2ed554b", hash, err)
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skipf("compares hashes with OpenSSL's: %v", err)
	}
	var certs []string
	for _, raw := range names {
		certs = append(certs, newCertificate(t, "", func(c *x509.Certificate) { c.RawSubject = raw }))
	}
	for _, text := range slices.Sorted(maps.Keys(distributionCertificates(Options{}))) {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		names = append(names, cert.RawSubject)
		certs = append(certs, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	for i, text := range certs[:min(len(certs), 40)] {
		cmd := exec.Command(openssl, "x509", "-noout", "-subject_hash")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := subjectHash(names[i]); err != nil || got != strings.TrimSpace(string(out)) {
			t.Errorf("subjectHash of %q = %s, %v; want %s", names[i], got, err, out)
		}
	}
}

// Whatever a file of certificates holds, what is taken of it are certificates of
// authorities.
func FuzzAuthorities(f *testing.F) {
	corp := newCertificate(f, "corp", nil)
	block, _ := pem.Decode([]byte(corp))
	f.Add([]byte(corp))
	f.Add(block.Bytes)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
	now := time.Now()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, text := range certificates(data) {
			a, ok := parseAuthority(text, now)
			if !ok {
				continue
			}
			if cert, err := x509.ParseCertificate(a.Certificate); err != nil || !cert.IsCA || len(a.Hash) != 8 || len(a.Subject) > 210 {
				t.Errorf("%+v: %v", a, err)
			}
		}
	})
}

func BenchmarkAuthorities(b *testing.B) {
	o := Options{Getenv: func(string) string { return "" }, Dirs: Dirs{Cache: b.TempDir()}}
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			probeAuthorities(o, time.Now())
		}
	})
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			o.rememberedAuthorities(time.Now())
		}
	})
}

// What was found is kept for as long as no file changes that it came from.
func TestAuthoritiesRemembered(t *testing.T) {
	root, cache := t.TempDir(), t.TempDir()
	env := make(map[string]string)
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	soon := newCertificate(t, "soon", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) })
	public, bundle := newCertificate(t, "public", nil), "etc/ssl/certs/ca-certificates.crt"
	write("usr/share/ca-certificates/mozilla/public.crt", public)
	write(bundle, public)
	kept := filepath.Join(cache, knownAuthoritiesFile)
	check := func(what string, now time.Time, isNew bool, want ...string) {
		t.Helper()
		before, _ := os.Stat(kept)
		all, _ := Options{Root: root, Dirs: Dirs{Cache: cache}, Getenv: func(k string) string { return env[k] }}.rememberedAuthorities(now)
		var got []string
		for _, a := range all {
			got = append(got, strings.TrimPrefix(a.Subject, "CN="))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q; want %q", what, got, want)
		}
		after, err := os.Stat(kept)
		if err != nil || os.SameFile(before, after) == isNew {
			t.Errorf("%s: written anew: %t (%v); want %t", what, !os.SameFile(before, after), err, isNew)
		}
	}
	now := time.Now()
	check("first", now, true)
	check("again", now, false)
	write("usr/local/share/ca-certificates/a.crt", newCertificate(t, "a", nil))
	check("a file more", now, true, "a")
	check("a file more, again", now, false, "a")
	write("usr/local/share/ca-certificates/a.crt", newCertificate(t, "b", nil))
	check("another content", now, true, "b")
	if err := os.Rename(filepath.Join(root, "usr/local/share/ca-certificates/a.crt"), filepath.Join(root, "usr/local/share/ca-certificates/a.off")); err != nil {
		t.Fatal(err)
	}
	check("put aside", now, true)
	write("usr/share/ca-certificates/mozilla/other.crt", newCertificate(t, "other", nil))
	check("a package's", now, true)
	write(bundle, public+soon)
	check("in the bundle", now, true, "soon")
	check("expired", now.Add(2*time.Minute), true)
	write(bundle, public)
	write("home/corp.pem", newCertificate(t, "corp", nil))
	check("not named", now, true)
	env["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
	check("the bundle named by a variable", now, false)
	env["SSL_CERT_FILE"] = "/home/corp.pem"
	check("named by a variable", now, true, "corp")
	write("home/corp.pem", newCertificate(t, "corp 2", nil))
	check("another content there", now, true, "corp 2")
	if err := os.WriteFile(kept, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("a broken memory", now, true, "corp 2")
}
