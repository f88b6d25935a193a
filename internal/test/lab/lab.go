// Package lab is an internet for tests, with a computer in it that the program
// under test runs on, and nobody else outside.
//
// A Lab is two network namespaces and the wire between them:
//
//	host                        inet
//	  lo: services nobody         every other IPv4 address there is: servers of
//	      may reach               many protocols, a resolver, a home router, a
//	  eth0: 10.9.0.2/24 ───────── cloud's metadata, a whole private network
//	        default via 10.9.0.1
//
// Every address answers on the wire, so that whatever leaves the host arrives
// somewhere, and the kernel notes where. There is no IPv6 and no way out.
//
// Commands are run on the host's side (Command, Wrap). They find the lab's resolver
// in /etc/resolv.conf and its authority among the trusted certificates, and need no
// hook for tests. In flow the names that exist (Name); out flow what was asked for
// (Queries, Requests) and what was connected to (Reached, Touched).
//
// Nothing of the computer that runs the tests is changed: the namespaces live as
// long as the test has them open, or a process is in them.
package lab

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// The addresses that the network is made of. All others are alike.
var (
	Host     = netip.MustParseAddr("10.9.0.2") // where commands run
	Router   = netip.MustParseAddr("10.9.0.1") // the host's gateway and resolver
	LAN      = netip.MustParseAddr("192.168.1.1")
	Metadata = netip.MustParseAddr("169.254.169.254")
)

// bundleFile is where Debian and Go's crypto/x509 keep what is trusted.
const bundleFile = "/etc/ssl/certs/ca-certificates.crt"

// Lab is an internet. Its methods may be called from several goroutines.
type Lab struct {
	t          testing.TB
	dir        string // of the lab's files
	host, inet *namespace
	mounts     *os.File // the mount namespace of the host
	authority  *authority
	resolver   *resolver
	watches    []*watch
	ssh        sshServer

	ctx    context.Context // ends with the lab
	cancel context.CancelFunc
	work   sync.WaitGroup // grows only by begin

	mu       sync.Mutex
	open     []io.Closer // listening sockets and servers
	requests []Request
	sites    map[string]http.Handler // by name; what answers in the place of web pages
}

// New makes an internet for the time of t. It needs root.
func New(t testing.TB) *Lab {
	t.Helper()
	env.NeedRoot(t)
	l := &Lab{t: t, dir: t.TempDir(), resolver: newResolver()}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.Cleanup(l.close)
	for _, step := range []func() error{l.makeNetwork, l.makeMounts, l.makeServers} {
		if err := step(); err != nil {
			t.Fatalf("lab: %v", err)
		}
	}
	return l
}

// makeNetwork makes the namespaces, connects them and has the kernel watch.
func (l *Lab) makeNetwork() (err error) {
	if l.host, err = newNamespace(); err != nil {
		return err
	}
	if l.inet, err = newNamespace(); err != nil {
		return err
	}
	if err := connect(l.host, l.inet); err != nil {
		return err
	}
	wire, err := watchWire(l.inet)
	if err != nil {
		return err
	}
	loopback, err := watchLoopback(l.host)
	if err != nil {
		return err
	}
	l.watches = []*watch{wire, loopback}
	return nil
}

// makeMounts makes the files that commands on the host see in the place of the
// computer's own.
func (l *Lab) makeMounts() (err error) {
	if l.authority, err = newAuthority(); err != nil {
		return err
	}
	bundle, err := os.ReadFile(bundleFile)
	if err != nil {
		return err
	}
	files := map[string]string{
		bundleFile:         string(bundle) + "\n" + string(l.Authority()),
		"/etc/resolv.conf": "nameserver " + Router.String() + "\n",
		"/etc/hosts":       "127.0.0.1 localhost\n",
		// Or a resolver that is asked through a socket would know better.
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
	}
	binds := make(map[string]string)
	for target, content := range files {
		if _, err := os.Stat(target); os.IsNotExist(err) && target == "/etc/nsswitch.conf" {
			continue // what C libraries other than glibc's do without
		}
		source := filepath.Join(l.dir, filepath.Base(target))
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			return err
		}
		binds[target] = source
	}
	l.mounts, err = newMounts(binds)
	return err
}

// Authority returns the certificate that all servers' come from, in PEM.
func (l *Lab) Authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.authority.cert.Raw})
}

// Pool returns what trusts the lab's servers and no other.
func (l *Lab) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(l.authority.cert)
	return pool
}

// Serve has the servers answer by handler whatever is asked of a name, which exists from now
// on.
func (l *Lab) Serve(name string, handler http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sites == nil {
		l.sites = make(map[string]http.Handler)
	}
	l.sites[name] = handler
	l.Name(name, A(fmt.Sprintf("93.184.217.%d", len(l.sites))))
}

// site returns what answers for a name; nil if it has web pages.
func (l *Lab) site(name string) http.Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sites[name]
}

// begin reports whether the lab goes on; if so, its end waits for work.Done.
func (l *Lab) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.work.Add(1)
	return true
}

// start runs f in a goroutine that the lab's end waits for, and reports whether the
// lab goes on. f ends when ctx does, or with what keep or closeAtEnd closes.
func (l *Lab) start(f func()) bool {
	if !l.begin() {
		return false
	}
	go func() {
		defer l.work.Done()
		f()
	}()
	return true
}

// keep has c closed at the end of the lab.
func (l *Lab) keep(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
}

// close ends everything that the lab has begun.
func (l *Lab) close() {
	l.mu.Lock()
	l.cancel()
	open := slices.Clone(l.open)
	l.mu.Unlock()
	for _, c := range slices.Backward(open) {
		c.Close()
	}
	l.work.Wait()
	for _, ns := range []*namespace{l.host, l.inet} {
		if ns != nil {
			l.killAll(ns)
			ns.file.Close()
		}
	}
	if l.mounts != nil {
		l.mounts.Close()
	}
}

// killAll kills what is left in ns: nothing of a test is to go on after it.
func (l *Lab) killAll(ns *namespace) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := ns.processes()
		if err != nil {
			l.t.Errorf("lab: find what is left: %v", err)
			return
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			l.t.Errorf("lab: processes %v do not end", left)
			return
		}
		for _, pid := range left {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if ns.kill(pid) {
				l.t.Logf("lab: killed %d, which was left: %s", pid, strings.ReplaceAll(string(name), "\x00", " "))
			}
		}
	}
}
