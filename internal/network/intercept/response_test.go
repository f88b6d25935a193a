package intercept

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// FuzzResponse plays a host, whose answer is any bytes: the guest gets no value of a secret,
// and all that was held for it is given back.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nX-Key: " + value + "\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Key\r\n\r\n5\r\n" + value[:5] + "\r\n1e\r\n" + value[5:] + "\r\n0\r\nX-Key: " + value + "\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\nLink: " + value + "\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 " + value + "\r\n\r\n" + value))
	f.Add([]byte("HTTP/1.0 500 x\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b" + value))
	f.Add([]byte("garbage " + value))
	var answer []byte
	n := plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: host}}}
	set := policy.New(n)
	var recorded audit.Event
	p, err := New(Config{
		Policy:  func() *policy.Set { return set },
		Secrets: secret.NewTable([]secret.Secret{lend(host)}),
		Record:  func(e audit.Event) { recorded = e },
		Dial: func(context.Context, string, uint16) (net.Conn, error) {
			ours, theirs := net.Pipe()
			theirs.SetDeadline(time.Now().Add(time.Minute))
			go func(answer []byte) {
				defer theirs.Close()
				if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
					theirs.Write(answer)
				}
			}(answer)
			return ours, nil
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.Close)
	f.Fuzz(func(t *testing.T, in []byte) {
		answer = bytes.Clone(in)
		c := &clientConn{proxy: p, name: host, port: 80, held: held{budget: p.cfg.Budget}, head: held{budget: p.cfg.Budget}}
		r := httptest.NewRequest("GET", "http://"+host+"/", nil).WithContext(context.WithValue(t.Context(), connKey{}, c))
		w := httptest.NewRecorder()
		p.serveHTTP(w, r)
		got := fmt.Sprint(w.Header(), w.Result().Trailer, w.Body, recorded)
		if bytes.Contains([]byte(got), []byte(value)) {
			t.Errorf("the guest, or the record, has the secret: %q", got)
		}
		if used := p.cfg.Budget.Used(); used != 0 {
			t.Errorf("%d bytes are still counted", used)
		}
		p.transport.Load().closeIdle()
	})
}
