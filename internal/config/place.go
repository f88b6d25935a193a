package config

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// Limits of what a secret's section says of places.
const (
	maxPlaces    = 16
	maxPlaceName = 128 // bytes
)

// notPlaces are headers that the connection, or more than one program, needs.
var notPlaces = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// tokenPattern is a header's name, RFC 9110 5.6.2, as far as such names are in use.
var tokenPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// asPlaces reads one of the keys that say where a secret stands in a request, and returns
// the places with those in the place of what an earlier source said with the same key.
func asPlaces(s setting, key string, old []credential.Place) ([]credential.Place, *Error) {
	var added []credential.Place
	if key == "bearer" {
		var on bool
		if err := asBool(s, &on); err != nil {
			return nil, err
		}
		if on {
			added = append(added, credential.Bearer)
		}
	} else {
		if one, ok := s.value.(string); ok {
			s.value = []string{one}
		}
		list, err := asList(s)
		if err != nil {
			return nil, err
		}
		for _, text := range list {
			p, err := parsePlace(key, text)
			if err != nil {
				return nil, s.place(err)
			}
			added = append(added, p)
		}
	}
	var places []credential.Place
	for _, p := range old {
		if keyOf(p) != key {
			places = append(places, p)
		}
	}
	for _, p := range added {
		if !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	if len(places) > maxPlaces {
		return nil, s.errorf("a secret has at most %d places", maxPlaces)
	}
	return places, nil
}

// keyOf returns the key that a place is written with.
func keyOf(p credential.Place) string {
	if p == credential.Bearer {
		return "bearer"
	}
	return string(p.Kind)
}

// parsePlace reads a value of the key header, basic or query.
func parsePlace(key, text string) (credential.Place, *Error) {
	if len(text) > maxPlaceName {
		return credential.Place{}, wrong("is too long: at most %d bytes", maxPlaceName)
	}
	switch key {
	case "header":
		return parseHeader(text)
	case "basic":
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
			return credential.Place{}, wrong("%s is no user of basic authentication: no space, colon or letter beyond ASCII", shortQuote(text))
		}
		return credential.Place{Kind: credential.Basic, Name: text}, nil
	default:
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("&=;#?", r) }) {
			return credential.Place{}, wrong("%s is no name of a parameter", shortQuote(text))
		}
		return credential.InQuery(text), nil
	}
}

// parseHeader reads "x-api-key", or "authorization: token" for one with a word before the
// credential.
func parseHeader(text string) (credential.Place, *Error) {
	name, scheme, _ := strings.Cut(text, ":")
	scheme = strings.TrimSpace(scheme)
	switch canonical := http.CanonicalHeaderKey(name); {
	case !tokenPattern.MatchString(name) || scheme != "" && !tokenPattern.MatchString(scheme):
		return credential.Place{}, wrong("%s is no header's name, as in \"x-api-key\" or \"authorization: token\"", shortQuote(text))
	case slices.Contains(notPlaces, canonical):
		return credential.Place{}, wrong("the header %s cannot hold a secret", strings.ToLower(name))
	default:
		return credential.Place{Kind: credential.Header, Name: canonical, Scheme: scheme}, nil
	}
}

// asPass reads the headers and parameters that pass beside a secret.
func asPass(s setting) ([]string, *Error) {
	list, err := asList(s)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, text := range list {
		name, isQuery := strings.CutPrefix(text, "?")
		if len(name) > maxPlaceName || isQuery && name == "" || !isQuery && !tokenPattern.MatchString(name) ||
			strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("&=;#?", r) }) {
			return nil, s.errorf("%s is neither a header's name nor \"?\" and a parameter's, as in \"x-tenant\" or \"?tenant\"", shortQuote(text))
		}
		if text = strings.ToLower(text); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out, nil
}
