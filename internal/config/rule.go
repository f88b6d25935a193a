package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/ipaddr"
	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// HostName is the name by which a machine reaches services on the loopback
// interface of its host.
const HostName = "host.mayfly.internal"

// Rule lets connections to a host pass: an element of network.allow.
type Rule struct {
	Host string // in lower case: "github.com", "*.golang.org", "10.1.2.3"
	Port int    // 0: the web's, 80 and 443

	Methods     []string // "GET"; none: all
	Paths       []string // "/repos/acme/"; none: all
	Private     bool     // the host may have addresses that are not public
	Passthrough bool     // intercept = false: TLS is left to the two ends
}

// maxRule bounds a rule's text.
const maxRule = 4096

// ParseRule reads a rule as it is written in one string:
//
//	[METHOD[,METHOD…] ]HOST[:PORT][/PATH[,/PATH…]]
//
// HOST is a name, "*." and a name for all below it, or an IP address, in
// brackets when it is an IPv6 one with a port. Whoever writes down an address
// that is not public means it: the rule is Private then.
func ParseRule(text string) (Rule, error) {
	r, err := parseRule(text)
	if err != nil {
		return Rule{}, err // not the nil pointer of a type
	}
	return r, nil
}

func parseRule(text string) (Rule, *Error) {
	if len(text) > maxRule {
		return Rule{}, wrong("a rule has at most %d bytes", maxRule)
	}
	if err := refusePasted(text); err != nil {
		return Rule{}, err
	}
	var r Rule
	head, tail, hasPath := strings.Cut(text, "/")
	if methods, rest, ok := strings.Cut(head, " "); ok {
		r.Methods, head = strings.Split(methods, ","), rest
	}
	host, port, err := splitHostPort(head)
	if err != nil {
		return Rule{}, err
	}
	r.Port = port
	if r.Host, err = parseHost(host); err != nil {
		return Rule{}, err.withPort(port)
	}
	addr, notAddr := netip.ParseAddr(r.Host)
	if notAddr == nil {
		r.Private = !ipaddr.Public(addr)
	}
	if hasPath {
		if _, err := strconv.ParseUint(tail, 10, 8); err == nil && addr.IsValid() {
			return Rule{}, wrong("%s is a range of addresses; a rule has one", shortQuote(text))
		}
		r.Paths = splitPaths("/" + tail)
	}
	return r, r.check()
}

// splitPaths undoes the join by commas. A path begins with a slash, and none
// holds a comma and a slash (checkPath).
func splitPaths(text string) []string {
	paths := strings.Split(text, ",/")
	for i := range paths[1:] {
		paths[i+1] = "/" + paths[i+1]
	}
	return paths
}

// asRule reads an element of network.allow, a string or a table.
func asRule(s setting) (Rule, *Error) {
	switch v := s.value.(type) {
	case string:
		r, err := parseRule(v)
		return r, s.place(err)
	case map[string]any:
		return asRuleTable(s, v)
	default:
		return Rule{}, s.errorf("must be a host or a table such as { host = \"example.org\", port = 443 }, not %s", describe(s.value))
	}
}

func asRuleTable(s setting, table map[string]any) (Rule, *Error) {
	r := Rule{}
	host, intercept := "", true
	for _, key := range sortedKeys(table) {
		at := setting{s.origin, joinKey(s.key, key), table[key]}
		var err *Error
		switch key {
		case "host":
			err = asString(at, &host)
		case "port":
			err = asInt(at, 1, maxPort, &r.Port)
		case "methods":
			r.Methods, err = asList(at)
		case "paths":
			r.Paths, err = asList(at)
		case "private":
			err = asBool(at, &r.Private)
		case "intercept":
			err = asBool(at, &intercept)
		default:
			err = at.errorf("unknown key")
			err.Suggestion = suggest.Nearest(key, partsOf("network.allow"))
		}
		if err != nil {
			return r, err
		}
	}
	r.Passthrough = !intercept
	if host == "" {
		return r, s.errorf("a rule has no host")
	}
	if err := refusePasted(host); err != nil {
		return r, s.place(err)
	}
	name, port, err := splitHostPort(host)
	if err == nil && port != 0 {
		err = wrong("the host is %s; a port has a key of its own: host = %q, port = %d", shortQuote(host), name, port)
	}
	if err == nil {
		r.Host, err = parseHost(name)
	}
	if err == nil {
		err = r.check()
	}
	return r, s.place(err)
}

// refusePasted says what is wrong with an address of a browser or of git. What
// may hold a password is not repeated.
func refusePasted(text string) *Error {
	scheme, _, isURL := strings.Cut(text, "://")
	if isURL {
		err := wrong("a rule begins with a host's name and not with a scheme")
		if u, parseErr := url.Parse(text); parseErr == nil && u.Hostname() != "" {
			err.Suggestion = suggestHost(u.Hostname(), defaultPort(scheme), u.Port())
		}
		return err
	}
	head, _, _ := strings.Cut(text, "/")
	if user, host, ok := strings.Cut(head, "@"); ok {
		err := wrong("a rule begins with a host's name and has no user")
		host, port, _ := strings.Cut(host, ":")
		if _, e := parsePortNumber(port); e != nil {
			port = ""
		}
		if user == "git" && port == "" {
			port = "22" // git@github.com:acme/project
		}
		err.Suggestion = suggestHost(host, "", port)
		return err
	}
	return nil
}

// suggestHost writes a rule for a host, or "" when it cannot be one.
func suggestHost(host, usual, port string) string {
	host, err := parseHost(host)
	if err != nil {
		return ""
	}
	if port == "" {
		port = usual
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || port == "80" || port == "443" {
		return host
	}
	return host + ":" + port
}

// withPort adds a port to a suggested host.
func (e *Error) withPort(port int) *Error {
	if port == 0 && e.Suggestion == HostName {
		port = 8080 // it needs one
	}
	if port != 0 && e.Suggestion != "" {
		e.Suggestion += fmt.Sprintf(":%d", port)
	}
	return e
}

// defaultPort returns the port of a scheme that is not the web's.
func defaultPort(scheme string) string {
	if scheme == "ssh" || strings.HasSuffix(scheme, "+ssh") {
		return "22"
	}
	return ""
}

// splitHostPort parts "host", "host:port", "address" and "[address]:port"; port
// is 0 when there is none.
func splitHostPort(text string) (host string, port int, err *Error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		host, rest, ok := strings.Cut(inner, "]")
		addr, addrErr := netip.ParseAddr(host)
		if !ok || addrErr != nil || !addr.Is6() || rest != "" && rest[0] != ':' {
			return "", 0, wrong("%s is no IPv6 address in brackets, as in \"[2001:db8::1]:22\"", shortQuote(text))
		}
		if rest == "" {
			return host, 0, nil
		}
		port, err = parsePortNumber(rest[1:])
		return host, port, err
	}
	if _, addrErr := netip.ParseAddr(text); addrErr == nil {
		return text, 0, nil
	}
	host, number, ok := strings.Cut(text, ":")
	if !ok {
		return text, 0, nil
	}
	if strings.Contains(number, ":") {
		return "", 0, wrong("%s is no host and port; an IPv6 address with a port is in brackets, as in \"[2001:db8::1]:22\"", shortQuote(text))
	}
	port, err = parsePortNumber(number)
	return host, port, err
}

const maxPort = 1<<16 - 1

func parsePortNumber(text string) (int, *Error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || text[0] == '0' {
		return 0, wrong("the port is %s; must be a number between 1 and %d", shortQuote(text), maxPort)
	}
	return int(n), nil
}

// parseHost returns the one form of a rule's host: a name, "*." and a name, or
// an address.
func parseHost(text string) (string, *Error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return "", wrong("%s is an address with a zone, which a machine cannot reach", shortQuote(text))
		}
		return addr.Unmap().String(), nil
	}
	return parseName(text)
}

// parseName returns the one form of a host's name, or of "*." and a name.
func parseName(text string) (string, *Error) {
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	parent, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case name == "":
		return "", wrong("a host's name is missing")
	case name == "*":
		return "", wrong(`"*" is every host; for that there is egress = "public"`)
	case strings.HasPrefix(name, "."):
		err := wrong("%s is no host's name", shortQuote(text))
		if _, bad := parseName("*" + name); bad == nil {
			err.Suggestion = "*" + name
		}
		return "", err
	case strings.Contains(parent, "*"):
		return "", wrong("%s: a * stands only for whole labels at the front, as in \"*.example.org\"", shortQuote(text))
	case wildcard && !strings.Contains(parent, "."):
		return "", wrong("%s is too wide: there must be two labels behind the *, as in \"*.example.org\"", shortQuote(text))
	case wildcard && strings.HasSuffix(HostName, "."+parent):
		err := wrong("this computer's services are named one by one")
		err.Suggestion = HostName
		return "", err
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		err := wrong("%s is the machine itself", shortQuote(text))
		err.Suggestion = HostName
		return "", err
	}
	if msg := checkName(parent); msg != "" {
		return "", wrong("%s %s", shortQuote(text), msg)
	}
	return name, nil
}

// checkName says what is wrong with a name in lower case by RFC 1123, section
// 2.1, or "". Underscores are in use, though no host should have one.
func checkName(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r > '~' }) {
		return "is not ASCII; write the form that begins with xn--"
	}
	if len(name) > 253 {
		return "is longer than a name can be, 253 bytes"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		switch {
		case label == "" || len(label) > 63:
			return "is no host's name: its parts have 1 to 63 bytes"
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || strings.ContainsFunc(label, notInName):
			return "is no host's name: only letters, digits, hyphens and dots can be in one"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "is no host's name: no part of one begins or ends with a hyphen"
		}
	}
	// Many programs take these for IPv4 addresses: 0x7f.1, 2130706433.
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" || numberPattern.MatchString(last) {
		return "is neither a name nor an address of four decimal numbers"
	}
	return ""
}

var numberPattern = regexp.MustCompile(`^0x[0-9a-f]*$`)

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// check judges a rule whose host is in its one form.
func (r Rule) check() *Error {
	if r.Passthrough && r.limited() {
		return wrong("intercept = false hides methods and paths, which the rule limits")
	}
	for _, m := range r.Methods {
		if err := checkMethod(m); err != nil {
			return err
		}
	}
	for _, p := range r.Paths {
		if err := checkPath(p); err != nil {
			return err
		}
	}
	if addr, err := netip.ParseAddr(r.Host); err == nil {
		return r.checkAddr(addr)
	}
	if r.Host == HostName {
		switch {
		case r.Port == 0:
			return wrong("%s needs the port of the service, as in \"%s:8080\"", HostName, HostName)
		case r.Private:
			return wrong("%s is this computer's loopback interface; private means nothing there", HostName)
		}
	}
	return nil
}

// limited reports whether only some requests pass.
func (r Rule) limited() bool { return len(r.Methods) > 0 || len(r.Paths) > 0 }

func (r Rule) checkAddr(addr netip.Addr) *Error {
	switch {
	case addr.IsLoopback() || addr.IsUnspecified():
		err := wrong("%s is the machine itself", addr)
		err.Suggestion = HostName
		return err.withPort(r.Port)
	case addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return wrong("%s is no single host's address", addr)
	case nameRange.Contains(addr):
		return wrong("%s is in %s, whose addresses stand for names in a machine", addr, nameRange)
	case r.limited():
		return wrong("methods and paths are limited for names only, not for the address %s", addr)
	case !r.Private && !ipaddr.Public(addr):
		return wrong("%s is not a public address; add private = true if you mean it", addr)
	}
	return nil
}

// nameRange is where package network/dns takes addresses for names from.
var nameRange = netip.MustParsePrefix("198.18.0.0/15")

// methodPattern is a token of RFC 9110, as far as methods are registered.
var methodPattern = regexp.MustCompile(`^[A-Z][A-Z0-9-]{0,31}$`)

func checkMethod(method string) *Error {
	if methodPattern.MatchString(method) {
		return nil
	}
	err := wrong("%s is no HTTP method", shortQuote(method))
	if upper := strings.ToUpper(method); methodPattern.MatchString(upper) {
		err.Suggestion = upper
	}
	return err
}

// maxPath bounds a path of a rule.
const maxPath = 1024

// checkPath accepts only what can be the beginning of a path that
// policy.CleanPath lets pass.
func checkPath(p string) *Error {
	bad := func(why string) *Error {
		err := wrong("the path %s %s", shortQuote(p), why)
		better, _, _ := strings.Cut("/"+p, "?")
		better, _, _ = strings.Cut(better, "*")
		if better = cleanPath(better); better != p && checkPath(better) == nil {
			err.Suggestion = better
		}
		return err
	}
	switch {
	case len(p) > maxPath:
		return wrong("a path has at most %d bytes", maxPath)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }):
		return wrong("the path %s holds what is no text", shortQuote(p))
	case !strings.HasPrefix(p, "/"):
		return bad("does not begin with /")
	case strings.Contains(p, "*"):
		return bad("holds a *; it stands for all that is below it anyway")
	case strings.ContainsAny(p, `?#%\;`) || strings.Contains(p, ",/"):
		return bad(`holds one of ? # % \ ; or ,/ and would never match`)
	case p != cleanPath(p):
		return bad("is not in its shortest form")
	}
	return nil
}

// cleanPath is path.Clean that keeps the slash at the end, which is a part of
// what a path in a rule means.
func cleanPath(p string) string {
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// sortedKeys returns the keys of a table in a fixed order.
func sortedKeys(table map[string]any) []string {
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
