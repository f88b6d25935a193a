package intercept

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// holding is what a process holds.
type holding struct {
	heap        int64
	goroutines  int
	descriptors int
}

func measure(t *testing.T) holding {
	t.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return holding{int64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine(), len(fds)}
}

// hostile is a guest that speaks HTTP/2 as it likes.
type hostile struct {
	net.Conn
	header bytes.Buffer
	encode *hpack.Encoder
	stream uint32 // that was opened last
}

// Frames of RFC 9113 6.
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	endBoth       = 0x05 // of the headers, and of the stream
)

// hostile begins HTTP/2, with this window for answers, and reads nothing.
func (l *lab) hostile(window uint32) (*hostile, error) {
	conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return nil, err
	}
	l.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	h := &hostile{Conn: conn}
	h.encode = hpack.NewEncoder(&h.header)
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	const initialWindow = 4
	return h, h.frame(frameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, initialWindow}, window))
}

func (h *hostile) frame(kind, flags byte, stream uint32, payload []byte) error {
	b := []byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	b = binary.BigEndian.AppendUint32(b, stream)
	_, err := h.Write(append(b, payload...))
	return err
}

// request opens a stream.
func (h *hostile) request(path string) error {
	h.header.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", path}} {
		h.encode.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	h.stream = (h.stream + 1) | 1
	return h.frame(frameHeaders, endBoth, h.stream, h.header.Bytes())
}

// Whatever a guest sends, or does not read, the proxy holds no more than was counted, and
// nothing of it in the end.
func TestFloods(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 4<<20)
	for _, tt := range []struct {
		name string
		// heap and goroutines are the most that may be held, beside those of the
		// flood itself, which is in this process, too: own is what it has for
		// each of its connections.
		heap       int64
		goroutines int
		flood      func(l *lab) (conns int)
	}{
		{"refused streams without a window", 64 << 20, 1200, func(l *lab) int {
			const conns = 11
			for range conns {
				if h, err := l.hostile(0); err == nil {
					for range maxStreams {
						h.request("/refused")
					}
				}
			}
			return conns
		}},
		{"allowed streams without a window", budget.Default, 8000, func(l *lab) int {
			const conns = 11
			for range conns {
				if h, err := l.hostile(0); err == nil {
					for range maxStreams {
						h.request("/large")
					}
				}
			}
			return conns
		}},
		{"a stream of resets", 64 << 20, 1200, func(l *lab) int {
			const conns = 4
			for range conns {
				if h, err := l.hostile(0); err == nil {
					for range 20 * maxStreams {
						if h.request("/large") != nil || h.frame(frameReset, 0, h.stream, make([]byte, 4)) != nil {
							break
						}
					}
				}
			}
			return conns
		}},
		{"pings that are not read", 64 << 20, 600, func(l *lab) int {
			const conns = 16
			for range conns {
				if h, err := l.hostile(65535); err == nil {
					h.SetWriteDeadline(time.Now().Add(time.Second))
					for range 50_000 {
						if h.frame(framePing, 0, 0, make([]byte, 8)) != nil {
							break
						}
					}
				}
			}
			return conns
		}},
		{"beginnings of large frames", 24 << 20, 1200, func(l *lab) int {
			const conns = 64
			for range conns {
				if h, err := l.hostile(65535); err == nil {
					h.Write([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1})
				}
			}
			return conns
		}},
		{"headers that do not end", budget.Default, 8000, func(l *lab) int {
			conns := 1020
			if testing.Short() {
				conns = 200
			}
			head := "GET / HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 240)
			var wg sync.WaitGroup
			slots := make(chan struct{}, 16)
			for range conns {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					conn, err := tls.Dial("tcp", l.front.Addr().String(), &tls.Config{ServerName: host, InsecureSkipVerify: true})
					if err != nil {
						return
					}
					l.t.Cleanup(func() { conn.Close() })
					conn.SetDeadline(time.Now().Add(time.Minute))
					io.WriteString(conn, head)
				})
			}
			wg.Wait()
			return conns
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTimedLab(t, 20*time.Second, time.Minute, func(w http.ResponseWriter, r *http.Request) {
				w.Write(large)
			}, []plan.Rule{{Host: host, Paths: []string{"/large"}}})
			before := measure(t)
			conns := tt.flood(l)
			most := holding{}
			// The worst moment is not known: look often.
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				now := measure(t)
				most.heap, most.goroutines = max(most.heap, now.heap-before.heap), max(most.goroutines, now.goroutines-before.goroutines)
				most.descriptors = max(most.descriptors, now.descriptors-before.descriptors)
			}
			t.Logf("%d connections hold %d MiB, %d goroutines, %d descriptors; counted: %d MiB",
				conns, most.heap>>20, most.goroutines, most.descriptors, l.proxy.cfg.Budget.Used()>>20)
			// The other ends of the connections are here, too.
			if own := int64(conns) * 64 << 10; most.heap > tt.heap+own {
				t.Errorf("%d MiB are held; want at most %d, and %d of the guest's", most.heap>>20, tt.heap>>20, own>>20)
			}
			if most.goroutines > tt.goroutines {
				t.Errorf("%d goroutines are held; want at most %d", most.goroutines, tt.goroutines)
			}
			l.front.Close()
			l.proxy.Close()
			for deadline := time.Now().Add(time.Minute); l.proxy.cfg.Budget.Used() != 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d bytes are still counted at the end", l.proxy.cfg.Budget.Used())
				}
			}
		})
	}
}

// An answer that the guest does not read is given up, and its place is free again. One that
// is read slowly is not.
func TestStall(t *testing.T) {
	l := newTimedLab(t, 2*time.Second, time.Second, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			for range 8 {
				fmt.Fprint(w, "x")
				http.NewResponseController(w).Flush()
				time.Sleep(100 * time.Millisecond)
			}
			return
		}
		w.Write(make([]byte, 8<<20))
	}, []plan.Rule{{Host: host}})
	for _, proto := range protocols {
		if status, body, _ := do(t, l.client(proto), "GET", "https://"+host+"/slow", nil); status != 200 || len(body) != 8 {
			t.Errorf("%s: a slow answer: %d, %q; want all of it", proto, status, body)
		}
		resp, err := l.client(proto).Get("https://" + host + "/large")
		if err != nil {
			t.Fatal(err)
		}
		l.recorded("the end of an answer that is not read", func(events []audit.Event) bool {
			n := 0
			for _, e := range events {
				if strings.Contains(e.Reason, "did not read") {
					n++
				}
			}
			return n > 0 && (proto == "HTTP/1.1" || n > 1)
		})
		resp.Body.Close()
	}
}
