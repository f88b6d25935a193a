package nix

import (
	"fmt"
	"strings"
)

// source is one file.
type source struct {
	name string // its path
	text string

	// The last run of characters that a path can begin with, text[from:to]. Without
	// it, each token of 1+1+1+… would be searched for a path to the end of the run.
	from, to int
}

// pathRun returns the end of the run of such characters from i.
func (src *source) pathRun(i int) int {
	if i < src.from || i >= src.to {
		src.from, src.to = i, span(src.text, i, isPathChar)
	}
	return src.to
}

// pos is a place in a file.
type pos struct {
	src    *source
	offset int
}

func (p pos) line() int {
	if p.src == nil {
		return 0
	}
	return 1 + strings.Count(p.src.text[:p.offset], "\n")
}

func (p pos) file() string {
	if p.src == nil {
		return ""
	}
	return p.src.name
}

// posError is what is wrong with a file, or with a value where it is used.
type posError struct {
	pos pos
	msg string
}

func (e *posError) Error() string {
	if e.pos.src == nil {
		return e.msg
	}
	return fmt.Sprintf("%s:%d: %s", printable(e.pos.file()), e.pos.line(), e.msg)
}

func (p pos) errorf(format string, args ...any) error {
	return &posError{p, fmt.Sprintf(format, args...)}
}

type tokenKind int

const (
	tokEnd     tokenKind = iota
	tokWord              // an identifier, or a keyword
	tokInt               //
	tokFloat             //
	tokPath              // ./x, ../x, /x, x/y, ~/x
	tokSearch            // <nixpkgs>
	tokURI               // an unquoted string
	tokPunct             // an operator, a bracket; also the quotes that begin a string
	tokInvalid           //
)

// token is one word of the language, src[start:end].
type token struct {
	kind       tokenKind
	start, end int
	text       string
}

func (t token) is(text string) bool {
	return t.text == text && (t.kind == tokPunct || t.kind == tokWord)
}

// puncts are the operators, longest first.
var puncts = []string{
	"...", "${", "''", "==", "!=", "<=", ">=", "&&", "||", "->", "//", "++",
	"{", "}", "(", ")", "[", "]", ";", ":", ",", "@", "?", "=", ".", "<", ">", "!", "+", "-", "*", "/", "\"",
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isPathChar(c byte) bool {
	return isAlpha(c) || isDigit(c) || c == '.' || c == '_' || c == '-' || c == '+'
}
func isWordChar(c byte) bool { return isAlpha(c) || isDigit(c) || c == '_' || c == '\'' || c == '-' }
func isURIChar(c byte) bool {
	return isAlpha(c) || isDigit(c) || strings.IndexByte("%/?:@&=+$,-_.!~*'", c) >= 0
}

// span returns the end of the run of bytes from i that match.
func span(s string, i int, match func(byte) bool) int {
	for i < len(s) && match(s[i]) {
		i++
	}
	return i
}

// skipSpace returns the offset of the next token: behind blanks and comments. It is
// -1 in a comment without an end.
func skipSpace(s string, i int) int {
	for i < len(s) {
		switch {
		case s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r':
			i++
		case s[i] == '#':
			i = span(s, i, func(c byte) bool { return c != '\n' })
		case strings.HasPrefix(s[i:], "/*"):
			n := strings.Index(s[i+2:], "*/")
			if n < 0 {
				return -1
			}
			i += 2 + n + 2
		default:
			return i
		}
	}
	return i
}

// lex returns the token at or behind offset i. What is inside of strings is not its
// business.
func (src *source) lex(i int) token {
	s := src.text
	start := skipSpace(s, i)
	if start < 0 {
		return token{tokInvalid, i, len(s), "a comment without an end"}
	}
	if start >= len(s) {
		return token{tokEnd, len(s), len(s), ""}
	}
	tok := func(kind tokenKind, end int) token { return token{kind, start, end, s[start:end]} }
	if end := src.lexPath(start); end > 0 {
		return tok(tokPath, end)
	}
	c := s[start]
	switch {
	case isAlpha(c) || c == '_':
		if end := lexURI(s, start); end > 0 {
			return tok(tokURI, end)
		}
		return tok(tokWord, span(s, start, isWordChar))
	case isDigit(c):
		return lexNumber(s, start)
	case c == '<':
		if end := span(s, start+1, func(c byte) bool { return isPathChar(c) || c == '/' }); end > start+1 && end < len(s) && s[end] == '>' {
			return tok(tokSearch, end+1)
		}
	}
	for _, p := range puncts {
		if strings.HasPrefix(s[start:], p) {
			return tok(tokPunct, start+len(p))
		}
	}
	return token{tokInvalid, start, start + 1, fmt.Sprintf("%q has no meaning here", s[start:start+1])}
}

// lexPath returns the end of a path that begins at i, or 0.
func (src *source) lexPath(i int) int {
	s, end := src.text, i
	if s[i] == '~' {
		end++
	} else {
		end = src.pathRun(i)
	}
	last := 0
	for end < len(s) && s[end] == '/' {
		next := span(s, end+1, isPathChar)
		if next == end+1 {
			if strings.HasPrefix(s[next:], "${") { // ./${x}
				return next
			}
			break
		}
		end, last = next, next
	}
	return last
}

// maxScheme bounds the scheme of a URI, for what pathRun is for paths.
const maxScheme = 32

func lexURI(s string, i int) int {
	end := span(s[:min(len(s), i+maxScheme)], i, func(c byte) bool { return isAlpha(c) || isDigit(c) || c == '+' || c == '.' || c == '-' })
	if end >= len(s) || s[end] != ':' {
		return 0
	}
	if last := span(s, end+1, isURIChar); last > end+1 {
		return last
	}
	return 0
}

func lexNumber(s string, i int) token {
	end := span(s, i, isDigit)
	if end >= len(s) || s[end] != '.' || end+1 < len(s) && !isDigit(s[end+1]) {
		return token{tokInt, i, end, s[i:end]}
	}
	end = span(s, end+1, isDigit)
	if end < len(s) && (s[end] == 'e' || s[end] == 'E') {
		exp := end + 1
		if exp < len(s) && (s[exp] == '-' || s[exp] == '+') {
			exp++
		}
		if last := span(s, exp, isDigit); last > exp {
			end = last
		}
	}
	return token{tokFloat, i, end, s[i:end]}
}
