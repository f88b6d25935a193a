package policy

import (
	"net/http"
	"net/url"
	"strings"
)

// Override returns what of a request may make a server take it for one with another
// method or path than it has, for whoever limits these: the name of a header, or that of
// a parameter behind a question mark. It is "" for none.
func Override(header, trailer http.Header, query string) string {
	for _, fields := range []http.Header{header, trailer} {
		for name := range fields {
			if overrides(name) {
				return shorten(name)
			}
		}
	}
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		// PHP reads _method[x] and " _method" as _method.
		name, _, _ = strings.Cut(strings.TrimSpace(name), "[")
		switch name = plainName(name); {
		case name == "-method", name == "$method", name == "$httpmethod", name == "httpmethod", name == "-httpmethod", overrides(name):
			return "?" + shorten(name)
		}
	}
	return ""
}

// plainName returns a name as servers compare it: in many, what a header is called
// reaches the program as the name of a variable.
func plainName(name string) string {
	return strings.NewReplacer("_", "-", ".", "-", " ", "-").Replace(strings.ToLower(name))
}

// overrides reports whether a header of this name is one by which proxies or frameworks
// tell a server of another method or path. These are not registered: what it is called
// like counts.
func overrides(name string) bool {
	name = plainName(name)
	switch name {
	case "destination", // of MOVE and COPY, RFC 4918 10.3
		"base-url", "http-url", "request-uri", "request-url", "original-url", "original-uri", "rewrite-url", "redirect-url",
		"script-name", "path-info", "path-translated", "script-url", "http-destinationurl", "proxy-url", "uri":
		return true
	}
	if strings.Contains(name, "method-override") || strings.Contains(name, "override-method") || strings.Contains(name, "http-method") {
		return true
	}
	rest, ok := strings.CutPrefix(name, "x-")
	if !ok {
		return false
	}
	if rest == "method" || strings.HasSuffix(rest, "-method") || strings.HasSuffix(rest, "methodoverride") {
		return true
	}
	last := rest[strings.LastIndexByte(rest, '-')+1:]
	switch last {
	case "url", "uri", "path", "prefix", "destinationurl", "override":
		return true
	}
	return rest == "script-name" || strings.HasPrefix(rest, "path-")
}
