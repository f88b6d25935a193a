package intercept

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A program on an emulated CPU may take long until it says something, as Java does. One that
// says nothing is let go.
func TestSlowGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := policy.New(plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Allow: []plan.Rule{{Host: "slow.example"}}})
		p, err := New(Config{
			Policy:  func() *policy.Set { return set },
			Secrets: secret.NewTable(nil),
			Dial: func(context.Context, string, uint16) (net.Conn, error) {
				return nil, fmt.Errorf("%w: it is a test", ErrDenied)
			},
			Record: func(audit.Event) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for _, tt := range []struct {
			after time.Duration
			want  bool
		}{{50 * time.Second, true}, {70 * time.Second, false}} {
			guest, ours := net.Pipe()
			go p.Serve(t.Context(), ours, "slow.example", 80)
			time.Sleep(tt.after)
			_, err := io.WriteString(guest, "GET / HTTP/1.1\r\nHost: slow.example\r\nConnection: close\r\n\r\n")
			if err == nil {
				_, err = http.ReadResponse(bufio.NewReader(guest), nil)
			}
			if (err == nil) != tt.want {
				t.Errorf("a request after %v: %v; want an answer: %v", tt.after, err, tt.want)
			}
			guest.Close()
		}
	})
}
