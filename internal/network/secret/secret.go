// Package secret holds values that must not show up, and what stands for them.
//
// In flow where a value comes from (Resolve, for the command line) or the value itself;
// out flow placeholders of the same shape (Placeholder) for whoever must not have it, and
// a Table that finds placeholders in requests. Nothing here prints, logs or saves: a Value
// is REDACTED to every encoder.
package secret

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// redacted is what there is of a value for all who print it.
const redacted = "REDACTED"

// Value is a value that must not show up.
type Value struct {
	// A pointer, since fmt calls no methods of what is in an unexported field,
	// and prints strings that it finds there.
	plain *string
	live  *Live // in the place of plain, unless it is nil
}

// NewValue returns a Value.
func NewValue(plain string) Value { return Value{plain: &plain} }

// Reveal returns the value itself, for the one place where it is used. It is "" for a value
// that there is none of now.
func (v Value) Reveal() string {
	plain, _ := v.reveal()
	return plain
}

// reveal returns the value, "" and the reason if there is none.
func (v Value) reveal() (plain, why string) {
	switch {
	case v.live != nil:
		return v.live.get(time.Now())
	case v.plain == nil:
		return "", ""
	}
	return *v.plain, ""
}

// Missing returns why there is no value now, "" if there is one.
func (v Value) Missing() string {
	_, why := v.reveal()
	return why
}

// All returns the value and those that were in its place before, which may still show up
// where the value went.
func (v Value) All() []string {
	if v.live != nil {
		return v.live.all()
	}
	if plain := v.Reveal(); plain != "" {
		return []string{plain}
	}
	return nil
}

func (Value) String() string               { return redacted }
func (Value) GoString() string             { return redacted }
func (Value) Format(s fmt.State, _ rune)   { io.WriteString(s, redacted) }
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Value) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Secret is a value with its placeholder, and where it may go.
type Secret struct {
	Name        string // of the variable that holds the placeholder in the guest
	Value       Value
	Placeholder string
	// Earlier are placeholders that the machine had before, and may have written
	// down.
	Earlier []string
	Hosts   []string // in the form of plan.Rule.Host
	// Places are where requests to Hosts carry the value. It goes nowhere else.
	Places []credential.Place
	// AllowForeign lets requests to Hosts carry other credentials.
	AllowForeign bool
	// Pass are headers, and parameters of the query behind a "?", in lower case,
	// that requests may carry though they are not known to be harmless.
	Pass []string
	// Withheld are parts of paths, in lower case, to which the value does not go.
	Withheld []string
}

// Placeholders returns all texts that stand for the value.
func (s *Secret) Placeholders() []string { return append([]string{s.Placeholder}, s.Earlier...) }

// Stands reports whether text is a placeholder, and nothing else.
func (s *Secret) Stands(text string) bool { return slices.Contains(s.Placeholders(), text) }

// In reports whether a placeholder is in text.
func (s *Secret) In(text string) bool {
	return slices.ContainsFunc(s.Placeholders(), func(p string) bool { return strings.Contains(text, p) })
}

// At returns the places that requests to host have.
func (s *Secret) At(host string) []credential.Place {
	var places []credential.Place
	for _, p := range s.Places {
		if p.Host == "" || credential.Covers(p.Host, host) {
			places = append(places, p)
		}
	}
	return places
}

// minRandom is the least number of characters that are random in a placeholder: nobody
// guesses one, and no text has one by chance.
const minRandom = 16

// maxPrefix bounds the beginning of a value that says of which kind it is, in bytes.
const maxPrefix = 16

// vendorPrefix matches that beginning: words with a version at most. What is random,
// such as a UUID or base64, has capitals or other digits, and is no prefix.
var vendorPrefix = regexp.MustCompile(`^(?:[a-z]{1,10}[0-9]{0,2}[-_])+`)

// Placeholder returns a random placeholder for v. It has the length of v and its prefix, such
// as "ghp_" or "sk-ant-api03-", and after that other letters and digits of the same
// alphabet: programs look at the shape of a token before they use it. For a value too
// short to be replaced so it is "mayfly-" and 32 hexadecimal digits.
func Placeholder(v Value) string {
	value := v.Reveal()
	prefix, ok := keptPrefix(value)
	if !ok {
		var b [16]byte
		rand.Read(b[:])
		return plainPrefix + hex.EncodeToString(b[:])
	}
	alphabet := alphabetOf(value[prefix:])
	for {
		out := []byte(value)
		for i := prefix; i < len(out); i++ {
			if isAlnum(out[i]) {
				out[i] = pick(alphabet)
			}
		}
		if string(out) != value {
			return string(out)
		}
	}
}

// plainPrefix begins a placeholder that has nothing of its value.
const plainPrefix = "mayfly-"

// keptPrefix returns how much of a value stays in its placeholder, false if that has
// another shape.
func keptPrefix(value string) (prefix int, ok bool) {
	prefix = len(vendorPrefix.FindString(value[:min(len(value), maxPrefix)]))
	if countAlnum(value[prefix:]) < minRandom {
		prefix = 0
	}
	return prefix, countAlnum(value[prefix:]) >= minRandom && isPrintable(value)
}

// maxEarlier bounds the placeholders of one secret that are remembered.
const maxEarlier = 8

// Renew returns a placeholder for v, and those that a machine had for it before: had, the
// newest first. It is the newest one still if that has the shape of v, so that what a
// program wrote down stays right.
func Renew(v Value, had []string) (placeholder string, earlier []string) {
	for _, p := range had {
		// What is not random enough is none of ours, and could be anywhere.
		if countAlnum(p) >= minRandom && p != v.Reveal() && !slices.Contains(earlier, p) {
			earlier = append(earlier, p)
		}
	}
	earlier = earlier[:min(len(earlier), maxEarlier)]
	if len(earlier) > 0 && fits(earlier[0], v) {
		return earlier[0], earlier[1:]
	}
	return Placeholder(v), earlier
}

// fits reports whether p has the shape that Placeholder gives to one for v.
func fits(p string, v Value) bool {
	value := v.Reveal()
	prefix, ok := keptPrefix(value)
	if !ok {
		return strings.HasPrefix(p, plainPrefix)
	}
	if len(p) != len(value) || p[:prefix] != value[:prefix] {
		return false
	}
	for i := prefix; i < len(p); i++ {
		if isAlnum(p[i]) != isAlnum(value[i]) || !isAlnum(p[i]) && p[i] != value[i] {
			return false
		}
	}
	return true
}

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// alphabetOf returns the smallest common alphabet that the letters and digits of s are
// from.
func alphabetOf(s string) string {
	for _, alphabet := range []string{
		digits, digits + lower[:6], digits + upper[:6], lower, upper, digits + lower, digits + upper, digits + lower + upper,
	} {
		if strings.IndexFunc(s, func(r rune) bool { return r < 0x80 && isAlnum(byte(r)) && !strings.ContainsRune(alphabet, r) }) < 0 {
			return alphabet
		}
	}
	return digits + lower + upper
}

func pick(alphabet string) byte {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return alphabet[n.Int64()]
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func countAlnum(s string) (n int) {
	for i := range len(s) {
		if isAlnum(s[i]) {
			n++
		}
	}
	return n
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// Table finds secrets by their hosts and by their placeholders.
type Table struct{ all []Secret }

// NewTable returns the table of a machine's secrets.
func NewTable(all []Secret) *Table { return &Table{all} }

// Find returns the secrets whose placeholder is in text.
func (t *Table) Find(text string) []*Secret {
	if t == nil {
		return nil
	}
	var found []*Secret
	for i := range t.all {
		if t.all[i].In(text) {
			found = append(found, &t.all[i])
		}
	}
	return found
}

// For returns the secrets that may go to host.
func (t *Table) For(host string) []*Secret {
	if t == nil {
		return nil
	}
	var found []*Secret
	for i := range t.all {
		if t.all[i].MayGoTo(host) {
			found = append(found, &t.all[i])
		}
	}
	return found
}

// FindName returns the secrets whose placeholder is in the name of a header, whatever its
// case.
func (t *Table) FindName(name string) []*Secret {
	if t == nil {
		return nil
	}
	name = strings.ToLower(name)
	var found []*Secret
	for i := range t.all {
		s := &t.all[i]
		if slices.ContainsFunc(s.Placeholders(), func(p string) bool { return strings.Contains(name, strings.ToLower(p)) }) {
			found = append(found, s)
		}
	}
	return found
}

// MayGoTo reports whether the secret may be sent to host. A pattern never reaches over a
// border behind which names belong to others: "*.amazonaws.com" does not stand for what is
// below s3.amazonaws.com.
func (s *Secret) MayGoTo(host string) bool {
	return slices.ContainsFunc(s.Hosts, func(pattern string) bool {
		return credential.Covers(pattern, host) && (pattern == host || oneOwner(pattern, host))
	})
}

// oneOwner reports whether all names from that below a pattern's "*." to host are one
// owner's.
func oneOwner(pattern, host string) bool {
	suffix, _ := publicsuffix.PublicSuffix(host)
	parent := strings.TrimPrefix(pattern, "*.")
	return len(suffix) < len(parent)
}
