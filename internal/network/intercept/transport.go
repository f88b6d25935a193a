package intercept

import (
	"crypto/tls"
	"net/http"
	"time"
)

// transport makes requests to hosts. What a host sends ahead of a guest that does not read
// is held here: most requests have a small window, a few at a time have one that is
// large enough for hosts that are far away.
type transport struct{ small, large *http.Transport }

func (p *Proxy) newTransport() *transport {
	with := func(window int) *http.Transport {
		return &http.Transport{
			DialContext:           p.dial,
			TLSClientConfig:       &tls.Config{RootCAs: p.cfg.Roots},
			TLSHandshakeTimeout:   headerTimeout,
			ForceAttemptHTTP2:     true,
			HTTP2:                 clientHTTP2(window),
			DisableCompression:    true, // what is compressed is between the two ends
			MaxIdleConns:          maxIdle,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       30 * time.Second,
			ExpectContinueTimeout: time.Second,
			WriteBufferSize:       hostBuffer,
			ReadBufferSize:        hostBuffer,

			MaxResponseHeaderBytes: maxRespHeaders,
		}
	}
	return &transport{small: with(smallWindow), large: with(largeWindow)}
}

func (t *transport) closeIdle() {
	t.small.CloseIdleConnections()
	t.large.CloseIdleConnections()
}

// roundTripper is httputil.ReverseProxy.Transport.
type roundTripper struct{ *Proxy }

func (p roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	t := p.transport.Load()
	if exchangeOf(r).large {
		return t.large.RoundTrip(r)
	}
	return t.small.RoundTrip(r)
}
