package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Request is an HTTP request as it arrived at a server or the proxy.
type Request struct {
	ServerName string      `json:"server_name"` // in TLS; "" without
	Host       string      `json:"host"`
	Method     string      `json:"method"`
	Path       string      `json:"path"`     // with the query
	Proto      string      `json:"protocol"` // "HTTP/1.1", "HTTP/2.0"
	Header     http.Header `json:"header"`   // without Host
	Body       string      `json:"body,omitempty"`
}

// maxBody bounds a body that is recorded; none of another length is.
const maxBody = 64 << 10

// Requests returns the requests that arrived, in their order.
func (l *Lab) Requests() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

// record adds r to the requests that arrived.
func (l *Lab) record(r *http.Request) {
	req := newRequest(r)
	if 0 < r.ContentLength && r.ContentLength <= maxBody {
		body, err := io.ReadAll(r.Body)
		req.Body = string(body)
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), errReader{err}))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, req)
}

// errReader ends with an error, or as a file does.
type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, cmp.Or(r.err, io.EOF) }

func newRequest(r *http.Request) Request {
	req := Request{
		Host: r.Host, Method: r.Method, Path: r.RequestURI, Proto: r.Proto,
		Header: r.Header.Clone(),
	}
	if r.TLS != nil {
		req.ServerName = r.TLS.ServerName
	}
	return req
}

// serveHTTP serves HTTP/1.1, and HTTP/2 if config is not nil, which makes it TLS.
func (l *Lab) serveHTTP(ln net.Listener, handler http.Handler, config *tls.Config) {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if l.begin() {
				defer l.work.Done()
				handler.ServeHTTP(w, r)
			}
		}),
		BaseContext: func(net.Listener) context.Context { return l.ctx },
		TLSConfig:   config,
		ErrorLog:    log.New(io.Discard, "", 0), // of clients that do not trust us
	}
	l.keep(server)
	l.start(func() {
		if config == nil {
			server.Serve(ln)
		} else {
			server.ServeTLS(ln, "", "")
		}
	})
}

// webHandler serves the internet's web pages, and at other addresses what nobody is
// to see.
func (l *Lab) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s\n", r.Host) })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, newRequest(r)) })
	mux.HandleFunc("/bytes/{n}", sendBytes)
	mux.HandleFunc("/upload", takeUpload)
	mux.HandleFunc("/sse", sendEvents)
	mux.HandleFunc("/slow", sendSlowly)
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.FormValue("to"), http.StatusFound)
	})
	mux.HandleFunc("/status/{code}", sendStatus)
	mux.HandleFunc("/ws", l.serveWebSocket)
	mux.HandleFunc("/dns-query", l.serveDoH)
	mux.Handle("/", l.gitHandler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.record(r)
		if addr := localAddr(r.Context().Value(http.LocalAddrContextKey).(net.Addr)); !isPublic(addr) {
			fmt.Fprintf(w, "private: %s\n", addr)
			return
		}
		if site := l.site(r.Host); site != nil {
			site.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// sendBytes sends the first n bytes of Pattern.
func sendBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "no such number", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	io.Copy(w, Pattern(n))
}

// Upload is what /upload answers.
type Upload struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal
}

// takeUpload reads a body and says what it was.
func takeUpload(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, Upload{Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
}

// sendEvents sends five server-sent events, the number as their data.
func sendEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	drip(w, r, 5, 50*time.Millisecond, func(i int) string { return fmt.Sprintf("data: %d\n\n", i) })
}

// sendSlowly sends a byte every 100 ms for half a minute.
func sendSlowly(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	drip(w, r, 300, 100*time.Millisecond, func(int) string { return "." })
}

// drip sends n pieces, one every interval.
func drip(w http.ResponseWriter, r *http.Request, n int, interval time.Duration, piece func(i int) string) {
	control := http.NewResponseController(w)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := range n {
		io.WriteString(w, piece(i))
		if control.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

func sendStatus(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		code = http.StatusBadRequest
	}
	w.WriteHeader(code)
}

// serveDoH answers questions for names by HTTP, RFC 8484.
func (l *Lab) serveDoH(w http.ResponseWriter, r *http.Request) {
	query, err := base64.RawURLEncoding.DecodeString(r.FormValue("dns"))
	if r.Method == http.MethodPost {
		query, err = io.ReadAll(io.LimitReader(r.Body, maxQuery))
	}
	reply := l.resolver.answer(query)
	if err != nil || reply == nil {
		http.Error(w, "no question", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/dns-message")
	w.Write(reply)
}
