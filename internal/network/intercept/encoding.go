package intercept

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// scrubber knows the texts that stand for values of secrets, and what replaces them.
type scrubber struct {
	patterns []pattern // the longest first
	longest  int
	begins   [256]bool // the first bytes of patterns
	seen     map[string]bool
	values   []string // that it knows, in the order of their secrets
}

// pattern is a text and one of the same length that replaces it.
type pattern struct{ find, instead []byte }

// minEncoded is the least length of an encoded value that is searched for. A shorter one
// is in any large file by chance.
const minEncoded = 8

func newPatterns() *scrubber { return &scrubber{seen: make(map[string]bool)} }

// newScrubber returns one for the values of secrets, as they are and in the forms in which
// services repeat what they were sent.
func newScrubber(secrets []*secret.Secret) *scrubber {
	s := newPatterns()
	for _, one := range secrets {
		for _, value := range one.Value.All() {
			s.values = append(s.values, value)
			s.hide(value, one.Placeholder)
		}
	}
	return s.sorted()
}

// hide has a value replaced by its placeholder, in all forms.
func (s *scrubber) hide(value, instead string) {
	if len(instead) != len(value) {
		instead = strings.Repeat("*", len(value))
	}
	s.replace(value, instead)
	forms, others := encoded(value), encoded(instead)
	for i, form := range forms {
		if len(form) >= minEncoded {
			s.replace(form, others[i])
		}
	}
}

// scrubberFor returns the scrubber for secrets of the machine's, which is made once for the
// values that they have.
func (p *Proxy) scrubberFor(secrets []*secret.Secret) *scrubber {
	var names strings.Builder
	var values []string
	for _, s := range secrets {
		names.WriteString(s.Name + "\n")
		values = append(values, s.Value.All()...)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.scrubbers[names.String()]
	if s == nil || !slices.Equal(s.values, values) {
		s = newScrubber(secrets)
		p.scrubbers[names.String()] = s
	}
	return s
}

// replace adds a pattern. Where the other text has another length in an encoding, it is
// asterisks.
func (s *scrubber) replace(find, instead string) {
	if find == "" || s.seen[find] {
		return
	}
	if len(find) != len(instead) {
		instead = strings.Repeat("*", len(find))
	}
	s.seen[find] = true
	s.patterns = append(s.patterns, pattern{[]byte(find), []byte(instead)})
	s.begins[find[0]] = true
	s.longest = max(s.longest, len(find))
}

func (s *scrubber) sorted() *scrubber {
	slices.SortStableFunc(s.patterns, func(a, b pattern) int { return cmp.Compare(len(b.find), len(a.find)) })
	return s
}

// encoded returns the forms of a text other than itself, always as many and in the same
// order.
func encoded(text string) []string {
	var base []string
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 {
			base = append(base, within(encoding, text, offset))
		}
	}
	base = append(base, hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text))))
	forms := slices.Clone(base)
	for _, form := range append([]string{text}, base...) {
		query, path := url.QueryEscape(form), url.PathEscape(form)
		forms = append(forms, query, lowerEscapes(query), path, lowerEscapes(path))
		plain := quoted(form, false)
		forms = append(forms, plain, quoted(form, true), strings.ReplaceAll(plain, "/", `\/`), strings.ReplaceAll(plain, "+", `\u002B`), html.EscapeString(form))
	}
	var percent, upper, lower strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&percent, "%%%02X", text[i])
		fmt.Fprintf(&upper, `\u%04X`, text[i])
		fmt.Fprintf(&lower, `\u%04x`, text[i])
	}
	return append(forms, percent.String(), lowerEscapes(percent.String()), upper.String(), lower.String())
}

// within returns what of a text's base64 does not depend on what stands before and after
// it, if offset bytes modulo 3 stand before it.
func within(encoding *base64.Encoding, text string, offset int) string {
	all := encoding.EncodeToString(append(make([]byte, offset), text...))
	begin, end := (offset*8+5)/6, (offset+len(text))*8/6
	if begin >= end {
		return ""
	}
	return all[begin:end]
}

// lowerEscapes writes the hexadecimal digits of a URL's escapes in lower case.
func lowerEscapes(text string) string {
	b := []byte(text)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// quoted returns text as the inside of a string of JSON.
func quoted(text string, forHTML bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(forHTML)
	if enc.Encode(text) != nil {
		return text
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(b.String(), "\n"), `"`), `"`)
}
