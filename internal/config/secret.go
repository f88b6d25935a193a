package config

import (
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// Secret is a section [secrets.NAME]: a value that requests to some hosts carry
// and that the machine never has. NAME is the variable which holds a placeholder
// for it there.
type Secret struct {
	// From is where the host has the value: "env:ANTHROPIC_API_KEY",
	// "file:~/.config/token" or "cmd:pass show token".
	From string
	// Hosts are where the value goes: "api.anthropic.com", "*.example.org".
	// What a later source says replaces what earlier ones did: a value never
	// goes where two files only together have sent it.
	Hosts []string
	// Places are where in a request the value stands, and nowhere else. With none,
	// they follow from the hosts: Places.
	Places []credential.Place
	// Foreign is what becomes of other credentials in requests to these
	// hosts: "strip", which "" means, or "allow".
	Foreign string
	// Pass are headers, and parameters of the query behind a "?", that are no
	// credentials though mayfly does not know them.
	Pass []string
}

const secretsSection = "secrets"

// secretKeys returns those of a section [secrets.NAME].
func secretKeys() []string { return partsOf(secretsSection + ".NAME") }

// cutSecret parts "secrets.NAME.KEY".
func cutSecret(key string) (name, sub string, ok bool) {
	rest, ok := strings.CutPrefix(key, secretsSection+".")
	if !ok {
		return "", "", false
	}
	return cutLast(rest, ".")
}

func isSecretKey(key string) bool {
	_, sub, ok := cutSecret(key)
	return ok && slices.Contains(secretKeys(), sub)
}

func applySecret(c *Config, s setting) *Error {
	name, sub, _ := cutSecret(s.key)
	secret := c.Secrets[name]
	var err *Error
	switch sub {
	case "from":
		err = asSource(s, &secret.From)
	case "hosts":
		secret.Hosts, err = asSecretHosts(s)
	case "header", "bearer", "basic", "query":
		secret.Places, err = asPlaces(s, sub, secret.Places)
	case "pass":
		secret.Pass, err = asPass(s)
	case "foreign_credentials":
		err = asOneOf(s, &secret.Foreign, "strip", "allow")
	}
	if err != nil {
		return err
	}
	// A copy, because the map is not this Config's alone.
	secrets := maps.Clone(c.Secrets)
	if secrets == nil {
		secrets = make(map[string]Secret)
	}
	secrets[name] = secret
	c.Secrets = secrets
	return nil
}

// asSource reads where a secret's value comes from. Whoever errs here may have
// written the value itself, so no error repeats it.
func asSource(s setting, dst *string) *Error {
	v, ok := s.value.(string)
	if !ok {
		return s.errorf("must be a string such as \"env:NAME\", \"file:PATH\" or \"cmd:COMMAND\"")
	}
	kind, rest, _ := strings.Cut(v, ":")
	switch {
	case len(v) > maxCommand || strings.ContainsRune(v, 0):
		return s.errorf("is not the name of a variable or a file, and no command")
	case kind == "env":
		if !envName.MatchString(rest) {
			e := s.errorf("\"env:\" is followed by the name of a variable: letters, digits and _ only")
			if name, ok := strings.CutPrefix(rest, "$"); ok && envName.MatchString(name) {
				e.Suggestion = "env:" + name
			}
			return e
		}
	case kind == "file":
		if rest != "~" && !strings.HasPrefix(rest, "~/") && !filepath.IsAbs(rest) {
			return s.errorf("\"file:\" is followed by a path that is absolute or begins with ~/")
		}
	case kind == "cmd":
		if strings.TrimSpace(rest) == "" {
			return s.errorf("\"cmd:\" is followed by a shell command")
		}
	default:
		e := s.errorf("must begin with \"env:\", \"file:\" or \"cmd:\"; the value itself does not belong here")
		if name, ok := strings.CutPrefix(v, "$"); ok && envName.MatchString(name) {
			e.Suggestion = "env:" + name
		}
		return e
	}
	*dst = v
	return nil
}

func asSecretHosts(s setting) ([]string, *Error) {
	list, err := asList(s)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, 0, len(list))
	for _, text := range list {
		host, err := secretHost(text)
		if err != nil {
			return nil, s.place(err)
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

// secretHost reads a name to which a secret may go. It is always HTTPS on the
// port for that.
func secretHost(text string) (string, *Error) {
	if len(text) > maxRule {
		return "", wrong("a host's name has at most 253 bytes")
	}
	if err := refusePasted(text); err != nil {
		return "", err
	}
	host, port, err := splitHostPort(text)
	if err != nil {
		return "", err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return "", wrong("a secret goes to hosts by their names only, not to the address %s", addr)
	}
	name, err := parseName(host)
	switch {
	case err != nil:
		return "", err
	case port != 0:
		err := wrong("%s has a port: a secret goes to port 443 only", shortQuote(text))
		err.Suggestion = name
		return "", err
	case name == HostName:
		return "", wrong("%s has no certificate: no secret goes there", HostName)
	}
	if parent, ok := strings.CutPrefix(name, "*."); ok && isPublicSuffix(parent) {
		return "", wrong("%s is every customer's: names below %s belong to different owners; name the host", shortQuote(text), parent)
	}
	return name, nil
}

// isPublicSuffix reports whether anybody can have a name below this one: "co.uk",
// "github.io". Companies' own networks have names that the list does not know.
func isPublicSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	// For some, any name below is such a suffix again: "*.compute.amazonaws.com".
	below, listed := publicsuffix.PublicSuffix("x." + name)
	return suffix == name || below == "x."+name && (listed || strings.Contains(name, "."))
}
