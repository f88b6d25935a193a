package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

func TestSecretPlaces(t *testing.T) {
	const head = "version = 1\n[secrets.T]\nfrom = \"env:T\"\nhosts = [\"a.example\"]\n"
	apiKey := credential.InHeader("X-Api-Key")
	for text, want := range map[string][]credential.Place{
		"":                                nil,
		`header = "x-api-key"`:            {apiKey},
		`bearer = true`:                   {credential.Bearer},
		`bearer = false`:                  nil,
		`basic = "git"`:                   {{Kind: credential.Basic, Name: "git"}},
		`basic = ""`:                      {{Kind: credential.Basic}},
		`query = "key"`:                   {credential.InQuery("key")},
		`query = ["key", "Key"]`:          {credential.InQuery("key"), credential.InQuery("Key")},
		`header = "authorization: token"`: {credential.Token},
		"header = [\"x-api-key\", \"X-API-KEY\"]":       {apiKey},
		"bearer = true\nheader = \"x-api-key\"":         {credential.Bearer, apiKey},
		"header = \"authorization: Bearer\"":            {credential.Bearer},
		"query = \"key\"\nbasic = [\"a\", \"b\"]":       {credential.InQuery("key"), {Kind: credential.Basic, Name: "a"}, {Kind: credential.Basic, Name: "b"}},
		"header = [\"private-token\"]\nbearer = false":  {credential.InHeader("Private-Token")},
		"foreign_credentials = \"strip\"\nbearer= true": {credential.Bearer},
	} {
		got, err := Load(Sources{Files: []File{file("f.toml", head+text)}})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, got.Secrets["T"].Places); d != "" {
			t.Errorf("%s: (-want +got)\n%s", text, d)
		}
	}
	// A later source replaces what is written with the same key, and a flag all.
	later, err := Load(Sources{
		Files:    []File{file("f.toml", head+"header = \"x-api-key\"\nbearer = true\npass = [\"X-Tenant\", \"?Tenant\"]")},
		Settings: []Setting{{"--secret T", "secrets.T.header", []string{}}, {"--secret T", "secrets.T.query", []string{"key"}}, {"--secret T", "secrets.T.bearer", false}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Secret{From: "env:T", Hosts: []string{"a.example"}, Places: []credential.Place{credential.InQuery("key")}, Pass: []string{"x-tenant", "?tenant"}}
	if d := cmp.Diff(want, later.Secrets["T"]); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestSecretPlaceErrors(t *testing.T) {
	const head = "version = 1\n[secrets.T]\nfrom = \"env:T\"\nhosts = [\"a.example\"]\n"
	for text, want := range map[string]string{
		`header = "x api key"`:         `f.toml:5: secrets.T.header: "x api key" is no header's name`,
		`header = ""`:                  `is no header's name`,
		`header = "Host"`:              `the header host cannot hold a secret`,
		`header = "transfer-encoding"`: `cannot hold a secret`,
		`header = "cookie"`:            `cannot hold a secret`,
		`header = "a: b c"`:            `is no header's name`,
		`header = 1`:                   `must be a list of strings`,
		`bearer = "true"`:              `must be true or false`,
		`basic = "a:b"`:                `is no user of basic authentication`,
		`query = ""`:                   `is no name of a parameter`,
		`query = "a&b"`:                `is no name of a parameter`,
		`query = "` + strings.Repeat("a", 200) + `"`: `is too long`,
		`pass = ["?"]`:            `is neither a header's name`,
		`pass = ["a b"]`:          `is neither a header's name`,
		`cookie = "x"`:            `unknown key`,
		`hosts = ["*.github.io"]`: `is every customer's`,
	} {
		body := head + text
		if strings.HasPrefix(text, "hosts") {
			body = "version = 1\n[secrets.T]\nfrom = \"env:T\"\n" + text
		}
		if _, err := Load(Sources{Files: []File{file("f.toml", body)}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

// A secret goes to no host that anybody can have.
func TestSecretPublicSuffixes(t *testing.T) {
	for _, host := range []string{
		"*.github.io", "*.s3.amazonaws.com", "*.workers.dev", "*.co.uk", "*.pages.dev", "*.vercel.app", "*.herokuapp.com", "*.cloudfront.net",
		"*.blob.core.windows.net", "*.azurewebsites.net", "*.GitHub.IO.", "*.run.app", "*.web.app", "*.ngrok.io", "*.appspot.com", "*.k12.ca.us",
	} {
		if name, err := secretHost(host); err == nil {
			t.Errorf("%s is taken as %s", host, name)
		}
	}
	for _, host := range []string{"me.github.io", "github.io", "*.me.github.io", "*.example.org", "*.acme.co.uk", "*.corp.internal", "*.api.local", "*.amazonaws.com"} {
		if _, err := secretHost(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// The places of providers are known, those of others guessed.
func TestPlacesOfHosts(t *testing.T) {
	for host, want := range map[string]string{
		"api.anthropic.com":                 "header=x-api-key, bearer",
		"api.openai.com":                    "bearer",
		"generativelanguage.googleapis.com": "header=x-goog-api-key, query=key, bearer",
		"api.github.com":                    "bearer, header=authorization: token, basic=x-access-token",
		"github.com":                        "bearer, header=authorization: token, basic=x-access-token",
		"raw.githubusercontent.com":         "bearer, header=authorization: token, basic=x-access-token",
		"*.githubusercontent.com":           "bearer, header=authorization: token, basic=x-access-token",
		"api.individual.githubcopilot.com":  "bearer",
	} {
		places, known := Places(host)
		if got := credential.Join(places); got != want || !known {
			t.Errorf("Places(%s) = %q, %t; want %q", host, got, known, want)
		}
	}
	places, known := Places("api.example.org")
	if known || !slices.Equal(places, credential.WellKnown()) {
		t.Errorf("Places(api.example.org) = %v, %t", places, known)
	}
}

// What is written of places is taken in one form, or refused.
func FuzzPlaces(f *testing.F) {
	f.Add("header", "x-api-key")
	f.Add("header", "authorization: token")
	f.Add("basic", "git")
	f.Add("query", "key")
	f.Fuzz(func(t *testing.T, key, text string) {
		switch key {
		case "header", "basic", "query":
		default:
			return
		}
		p, err := parsePlace(key, text)
		if err != nil {
			return
		}
		never := " \r\n\x00"
		switch p.Kind {
		case credential.Basic:
			never += ":"
		case credential.Query:
			never += "&=;"
		}
		if strings.ContainsAny(p.Name+p.Scheme, never) || string(p.Kind) != key {
			t.Errorf("parsePlace(%s, %q) = %+v", key, text, p)
		}
		kind, again, ok := strings.Cut(p.String(), "=")
		if p == credential.Bearer {
			return
		}
		if q, err := parsePlace(kind, again); !ok || err != nil || q != p {
			t.Errorf("%q is written %q, which is %+v, %v", text, p, q, err)
		}
		host, hostErr := secretHost(text)
		if hostErr == nil && (host == "" || strings.ContainsAny(host, "/: ")) {
			t.Errorf("secretHost(%q) = %q", text, host)
		}
	})
}
