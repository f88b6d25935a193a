package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// newAuthority returns a certificate, in PEM and DER.
func newAuthority(t testing.TB) (text, der []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), der
}

// Programs find the authority in the file of all certificates, beside those of the
// image, and in the directory by its hash.
func TestTrust(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(lower, certsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	const image = "-----BEGIN CERTIFICATE-----\nimage's\n-----END CERTIFICATE-----\n"
	if err := os.WriteFile(filepath.Join(lower, wire.TrustedFile), []byte(image), 0o644); err != nil {
		t.Fatal(err)
	}
	text, _ := newAuthority(t)
	root := treeOf(upper, []string{lower}, newSeen())
	if err := root.setUpNetwork(&wire.Network{Authority: text, AuthorityHash: "0123abcd"}); err != nil {
		t.Fatal(err)
	}
	all, err := root.readFile(wire.TrustedFile)
	if err != nil {
		t.Fatal(err)
	}
	if want := image + string(text); string(all) != want {
		t.Errorf("%s is %q; want %q", wire.TrustedFile, all, want)
	}
	if alone, err := root.readFile(wire.AuthorityFile); err != nil || !bytes.Equal(alone, text) {
		t.Errorf("%s is %q, %v; want the authority alone", wire.AuthorityFile, alone, err)
	}
	for link, want := range map[string]string{"0123abcd.0": "mayfly.pem", "mayfly.pem": wire.AuthorityFile} {
		if got, err := os.Readlink(filepath.Join(upper, certsDir, link)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %q", link, got, err, want)
		}
	}
	if err := root.setUpNetwork(&wire.Network{Authority: []byte("nothing"), AuthorityHash: "0123abcd"}); err == nil {
		t.Error("what is no certificate is trusted")
	}
}

// Programs find the authority also without the machine's variables, and what an image has
// of its own stays.
func TestTrustReaches(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"etc/sudoers.d/README": "", "etc/systemd/system.conf": "", "etc/environment": "NODE_EXTRA_CA_CERTS=/mine.pem\nLANG=C",
		"etc/firefox/policies/policies.json": "{}", "etc/ssl/certs/ca-certificates.crt": "",
	} {
		if err := os.MkdirAll(filepath.Join(lower, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lower, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := newAuthority(t)
	root := treeOf(upper, []string{lower}, newSeen())
	for range 2 { // also in a machine that is started again
		if err := root.setUpNetwork(&wire.Network{Authority: text, AuthorityHash: "0123abcd"}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		data, err := root.readFile(name)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	env := read("/etc/environment")
	if !strings.HasPrefix(env, "NODE_EXTRA_CA_CERTS=/mine.pem\nLANG=C\nSSL_CERT_FILE="+wire.TrustedFile+"\n") ||
		strings.Count(env, "NODE_EXTRA_CA_CERTS") != 1 || strings.Count(env, "\nSSL_CERT_FILE") != 1 {
		t.Errorf("/etc/environment is %q", env)
	}
	if got := read("/etc/sudoers.d/mayfly-trust"); !strings.HasPrefix(got, "Defaults env_keep += \"SSL_CERT_FILE ") || !strings.HasSuffix(got, "DENO_TLS_CA_STORE\"\n") {
		t.Errorf("sudo has %q", got)
	}
	if got := read("/etc/systemd/system.conf.d/mayfly-trust.conf"); !strings.HasPrefix(got, "[Manager]\nDefaultEnvironment=\"SSL_CERT_FILE=") {
		t.Errorf("systemd has %q", got)
	}
	if got := read("/etc/firefox/policies/policies.json"); got != "{}" {
		t.Errorf("the image's own policies became %q", got)
	}
	block, _ := pem.Decode(text)
	for _, name := range []string{"/etc/chromium/policies/managed/mayfly-trust.json", "/etc/opt/chrome/policies/managed/mayfly-trust.json"} {
		var p struct{ CACertificates [][]byte }
		if err := json.Unmarshal([]byte(read(name)), &p); err != nil || len(p.CACertificates) != 1 || !bytes.Equal(p.CACertificates[0], block.Bytes) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if got := read("/etc/xdg/pip/pip.conf"); !strings.Contains(got, wire.TrustedFile) {
		t.Errorf("pip has %q", got)
	}
}

// A machine trusts the host's authorities everywhere where it trusts its own, or them alone,
// and those of the image stay.
func TestTrustHostAuthorities(t *testing.T) {
	text, der := newAuthority(t)
	hostText, hostDER := newAuthority(t)
	for what, own := range map[string][]byte{"with an authority": text, "on the bridge": nil} {
		lower, upper := t.TempDir(), t.TempDir()
		for name, text := range map[string]string{
			"etc/ssl/certs/ca-certificates.crt": "image's\n", "etc/ssl/certs/0123abcd.0": "image's", "etc/ssl/certs/89abcdef.0": "image's",
		} {
			if err := os.MkdirAll(filepath.Join(lower, filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(lower, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		root := treeOf(upper, []string{lower}, newSeen())
		n := &wire.Network{Authority: own, AuthorityHash: "0123abcd", HostAuthorities: []wire.Authority{{Certificate: hostDER, Hash: "89abcdef"}, {Certificate: der, Hash: "89abcdef"}}}
		for range 2 {
			if err := root.setUpNetwork(n); err != nil {
				t.Fatal(err)
			}
		}
		added := string(own) + string(hostText) + string(text)
		links := map[string]string{
			"mayfly-host-1.pem": wire.AuthorityDir + "/mayfly-host-1.crt", "89abcdef.1": "mayfly-host-1.pem", "89abcdef.2": "mayfly-host-2.pem",
		}
		ders := [][]byte{hostDER, der}
		if own != nil {
			links["0123abcd.1"] = "mayfly.pem"
			ders = append([][]byte{der}, ders...)
		}
		for link, want := range links {
			if got, err := os.Readlink(filepath.Join(upper, certsDir, link)); err != nil || got != want {
				t.Errorf("%s: %s leads to %q, %v; want %q", what, link, got, err, want)
			}
		}
		if all, err := root.readFile(wire.TrustedFile); err != nil || !strings.HasPrefix(string(all), "image's\n"+added) {
			t.Errorf("%s: %s is %q, %v", what, wire.TrustedFile, all, err)
		}
		if all, err := root.readFile(wire.AddedFile); err != nil || string(all) != added {
			t.Errorf("%s: %s is %q, %v; want %q", what, wire.AddedFile, all, err, added)
		}
		if one, err := root.readFile(wire.AuthorityDir + "/mayfly-host-1.crt"); err != nil || !bytes.Equal(one, hostText) {
			t.Errorf("%s: the file of the host's authority is %q, %v", what, one, err)
		}
		var chrome struct{ CACertificates [][]byte }
		data, err := root.readFile("/etc/chromium/policies/managed/mayfly-trust.json")
		if err := errors.Join(err, json.Unmarshal(data, &chrome)); err != nil || !slices.EqualFunc(chrome.CACertificates, ders, bytes.Equal) {
			t.Errorf("%s: Chromium has %s, %v", what, data, err)
		}
		firefox, err := root.readFile("/etc/firefox/policies/policies.json")
		if err != nil || strings.Count(string(firefox), ".crt") != len(ders) {
			t.Errorf("%s: Firefox has %s, %v", what, firefox, err)
		}
	}
}

// A key store to which the authority was added is one that Java's own tool reads,
// with its digest.
func TestAddToKeyStore(t *testing.T) {
	keytool, err := exec.LookPath("keytool")
	if err != nil {
		t.Skipf("reads the key store with Java's tool: %v", err)
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(keytool, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("keytool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	first, der := newAuthority(t)
	cert := filepath.Join(dir, "first.pem")
	if err := os.WriteFile(cert, first, 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cacerts")
	run("-importcert", "-noprompt", "-storetype", "jks", "-keystore", file, "-storepass", "changeit", "-alias", "first", "-file", cert)
	store, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	more, ok := addToKeyStore(store, "mayfly", der, time.Now())
	if !ok {
		t.Fatal("the key store of Java's tool is none")
	}
	if err := os.WriteFile(file, more, 0o644); err != nil {
		t.Fatal(err)
	}
	list := run("-list", "-keystore", file, "-storepass", "changeit")
	if !strings.Contains(list, "mayfly,") || !strings.Contains(list, "first,") {
		t.Errorf("keytool -list: %s; want first and mayfly", list)
	}
	for what, bad := range map[string][]byte{
		"empty": nil, "short": store[:20], "another digest": append(bytes.Clone(store[:len(store)-1]), store[len(store)-1]^1),
	} {
		if _, ok := addToKeyStore(bad, "mayfly", der, time.Now()); ok {
			t.Errorf("a key store that is %s: a certificate was added", what)
		}
	}
}

// What pemOf writes is what others do.
func TestPEM(t *testing.T) {
	for n := range 200 {
		der := bytes.Repeat([]byte{0x30}, n)
		if got, want := pemOf(der), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}); !bytes.Equal(got, want) {
			t.Fatalf("pemOf of %d bytes = %q; want %q", n, got, want)
		}
	}
}
