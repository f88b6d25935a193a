// Package credential says where a request carries a credential.
//
// A Place is one such position: a header, the password of Basic authentication or a
// parameter of the query. Machine files, plans and the tables of services name places, and
// the network fills a secret into them and nowhere else. The package knows nothing of
// values.
package credential

import (
	"net/http"
	"slices"
	"strings"
)

// Kind is the kind of a place.
type Kind string

// The kinds.
const (
	Header Kind = "header" // Name is the header's, Scheme the word before the credential
	Basic  Kind = "basic"  // the password of RFC 7617; Name is the user
	Query  Kind = "query"  // Name is the parameter's
)

// Place is a position in a request at which a credential stands, alone.
type Place struct {
	// Host limits the place to some of the secret's hosts: a name, or "*." and a
	// name. Empty for all of them.
	Host   string `json:"host,omitempty"`
	Kind   Kind   `json:"kind"`
	Name   string `json:"name,omitempty"`
	Scheme string `json:"scheme,omitempty"` // "Bearer"; empty for a header that is the credential
	// AnyUser takes any user of Basic authentication, and sends Name in its place.
	AnyUser bool `json:"any_user,omitempty"`
}

// The places that services have most often.
var (
	Bearer = Place{Kind: Header, Name: "Authorization", Scheme: "Bearer"}
	// Token is GitHub's and Gitea's older word for Bearer.
	Token = Place{Kind: Header, Name: "Authorization", Scheme: "token"}
)

// InHeader returns the place of a header that is the credential.
func InHeader(name string) Place { return Place{Kind: Header, Name: http.CanonicalHeaderKey(name)} }

// InQuery returns the place of a parameter.
func InQuery(name string) Place { return Place{Kind: Query, Name: name} }

// AsUser returns the place of a password whose user means nothing to the service.
func AsUser(name string) Place { return Place{Kind: Basic, Name: name, AnyUser: true} }

// WellKnown returns where a service of which nothing is known takes a key: Authorization
// with Bearer, or one of the headers that are made for keys.
func WellKnown() []Place {
	places := []Place{Bearer}
	for _, name := range []string{
		"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Auth-Token", "Private-Token", "X-Access-Token",
	} {
		places = append(places, InHeader(name))
	}
	return places
}

// String returns the place as a flag has it, without its host: "bearer",
// "header=x-api-key", "basic=git", "query=key".
func (p Place) String() string {
	name := p.Name
	if p.Kind == Header {
		name = strings.ToLower(name)
		switch {
		case p.Scheme == Bearer.Scheme && p.Name == Bearer.Name:
			return "bearer"
		case p.Scheme != "":
			name += ": " + p.Scheme
		}
	}
	return string(p.Kind) + "=" + name
}

// Join names places for people: "bearer, header=x-api-key".
func Join(places []Place) string {
	var names []string
	for _, p := range places {
		if name := p.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Covers reports whether a pattern, a name or "*." and a name, stands for host.
func Covers(pattern, host string) bool {
	below, ok := strings.CutPrefix(pattern, "*")
	return pattern == host || ok && strings.HasSuffix(host, below) && len(host) > len(below)
}
