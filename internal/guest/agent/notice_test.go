package agent

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// While no program runs and nobody listens, nobody looks. The start of a program does not wait
// for a look, and what it leaves behind is seen until it ends.
func TestNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, guest := net.Pipe()
		defer host.Close()
		var programs activity
		var listening atomic.Pointer[[]int]
		var looks atomic.Int64
		listen := func(ports ...int) { listening.Store(&ports) }
		listen()
		ended, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			tellNoticed(guest, &programs, func() []int { looks.Add(1); return *listening.Load() }, ended)
		}()
		hears := func(want ...int) {
			t.Helper()
			var got wire.Listening
			if err := wire.ReadMessage(host, &got); err != nil || !slices.Equal(got.Ports, want) {
				t.Fatalf("the host hears %v, %v; want %v", got.Ports, err, want)
			}
		}
		time.Sleep(time.Hour)
		if n := looks.Load(); n > 0 {
			t.Errorf("%d looks before any program", n)
		}
		end := programs.begin()
		synctest.Wait()
		if looks.Load() > 0 {
			t.Errorf("the start of a program comes with a look")
		}
		listen(3000)
		began := time.Now()
		hears(3000)
		if took := time.Since(began); took != noticeInterval {
			t.Errorf("heard after %v; want %v", took, noticeInterval)
		}
		listen(3000, 5173)
		hears(3000, 5173)
		end()
		time.Sleep(time.Minute) // what it has left goes on
		listen()
		hears()
		time.Sleep(time.Minute)
		last := looks.Load()
		time.Sleep(time.Hour)
		if n := looks.Load() - last; n > 0 {
			t.Errorf("%d looks while nothing runs", n)
		}
		programs.begin()() // it starts a service and ends
		listen(4000)
		hears(4000)
		close(ended)
		<-done
	})
}

// What the loopback interface does not reach is nobody's business.
func TestListenersOf(t *testing.T) {
	const list = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1
   1: 00000000:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1
   2: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1
   3: 010011AC:1F42 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1
   4: 0100007F:1F43 0100007F:1F40 01 00000000:00000000 00:00000000 00000000  1000        0 1
   5: 00000000000000000000000001000000:1F44 00000000000000000000000000000000:0000 0A 00000000
   6: 00000000000000000000000000000000:1F45 00000000000000000000000000000000:0000 0A 00000000
   7: 0000000000000000FFFF00000100007F:1F46 00000000000000000000000000000000:0000 0A 00000000
   8: 000080FE00000000FF005450B5FC7AFE:1F47 00000000000000000000000000000000:0000 0A 00000000
`
	if got, want := listenersOf(strings.NewReader(list)), []int{8000, 8001, 8004, 8005, 8006}; !slices.Equal(got, want) {
		t.Errorf("listenersOf() = %v; want %v", got, want)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := listeners(); len(got) < wire.MaxListening && !slices.Contains(got, l.Addr().(*net.TCPAddr).Port) {
		t.Errorf("listeners() = %v; want %v among them", got, l.Addr())
	}
}
