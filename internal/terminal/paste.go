package terminal

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// What a terminal puts around what is pasted, for a program that has asked for it.
const (
	pasteBegin = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

const (
	// maxPaste bounds a paste that is looked at, in bytes: some paths.
	maxPaste = 8 << 10
	// maxPasted bounds the paths of one paste.
	maxPasted = 16
	// maxTyped bounds what is typed while a paste is looked at. More waits in the terminal.
	maxTyped = 64 << 10
)

// PasteReader is what is typed at a terminal, with pastes that consist of paths of files
// replaced. The typing goes on meanwhile, and comes behind.
type PasteReader struct {
	// Replace returns the texts that a paste is to be in place of text, which PastedPaths
	// reads; none leaves it as it is. It runs beside Read.
	Replace func(text string) []string
	// Pastes reports whether the program wants to know what is pasted.
	Pastes func() bool

	detach func() // of a DetachReader; see leave
	left   sync.Once

	ctx     context.Context
	typed   chan []byte   // of the terminal; closed at its end
	err     error         // why typed was closed
	found   chan []string // by Replace
	asked   chan []string // by Insert
	waiting []string      // from asked, until no paste is under way

	part    []byte // the beginning of pasteBegin or, in a paste, of pasteEnd
	state   pasteState
	held    []byte // the paste that may be paths
	behind  []byte // what was typed behind it
	looking bool   // at held
	ended   bool   // typed is closed
	ready   []byte // for Read
}

type pasteState byte

const (
	outside pasteState = iota
	holding            // in a paste that may be paths
	passing            // in another one
)

// leaveTime is how long the keys that leave wait until all before was handed on.
const leaveTime = 2 * time.Second

// NewPasteReader returns the reader of the terminal from, until ctx ends or from does. It reads
// ahead: Detach of a DetachReader is called once all that was typed before was handed on, and at
// the latest after a while.
func NewPasteReader(ctx context.Context, from io.Reader, pastes func() bool, replace func(text string) []string) *PasteReader {
	r := &PasteReader{
		Replace: replace, Pastes: pastes,
		ctx: ctx, typed: make(chan []byte), found: make(chan []string, 1), asked: make(chan []string),
	}
	if d, ok := from.(*DetachReader); ok {
		r.detach, d.Detach = d.Detach, nil
	}
	go func() {
		defer close(r.typed)
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case r.typed <- bytes.Clone(buf[:n]):
				case <-ctx.Done():
					r.err = io.EOF
					return
				}
			}
			if err != nil {
				if r.err = err; err == ErrDetach {
					time.AfterFunc(leaveTime, r.leave)
				}
				return
			}
		}
	}()
	return r
}

// Insert types texts, with spaces between, each as one that is pasted, if the program wants
// to know. It waits until they are taken, or nobody reads any more.
func (r *PasteReader) Insert(texts []string) {
	select {
	case r.asked <- texts:
	case <-r.ctx.Done():
	}
}

func (r *PasteReader) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		typed := r.typed
		if r.looking && (len(r.behind) > maxTyped || r.ended) {
			typed = nil
		}
		select {
		case chunk, ok := <-typed:
			if !ok {
				if r.ended = true; r.looking {
					r.leave()
					continue
				}
				if r.flush(); len(r.ready) > 0 {
					break
				}
				r.leave()
				return 0, r.err
			}
			if r.looking {
				r.behind = append(r.behind, chunk...)
			} else {
				r.take(chunk)
			}
		case texts := <-r.found:
			r.replaced(texts)
		case texts := <-r.asked:
			r.waiting = append(r.waiting, texts...)
		case <-r.ctx.Done():
			return 0, io.EOF
		}
		if len(r.waiting) > 0 && r.state == outside && !r.looking {
			r.ready = append(r.ready, r.pasted(r.waiting)...)
			r.waiting = nil
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// leave calls Detach of the DetachReader whose keys were typed.
func (r *PasteReader) leave() {
	if r.err == ErrDetach && r.detach != nil {
		r.left.Do(r.detach)
	}
}

// pasted returns texts as the program is to get them.
func (r *PasteReader) pasted(texts []string) []byte {
	begin, end := "", ""
	if r.Pastes() {
		begin, end = pasteBegin, pasteEnd
	}
	var b []byte
	for i, t := range texts {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(append(b, begin...), t...), end...)
	}
	return b
}

// flush passes on all that was held: nothing follows.
func (r *PasteReader) flush() {
	if r.state == holding {
		r.ready = append(append(r.ready, pasteBegin...), r.held...)
	}
	r.ready = append(r.ready, r.part...)
	r.held, r.part, r.state = nil, nil, outside
}

// replaced goes on behind a paste that was looked at.
func (r *PasteReader) replaced(texts []string) {
	if len(texts) > 0 {
		r.ready = append(r.ready, r.pasted(texts)...)
	} else {
		r.ready = append(append(append(r.ready, pasteBegin...), r.held...), pasteEnd...)
	}
	behind := r.behind
	r.held, r.behind, r.looking = nil, nil, false
	r.take(behind)
}

// take looks at what was typed.
func (r *PasteReader) take(typed []byte) {
	typed = append(r.part, typed...)
	r.part = nil
	for len(typed) > 0 {
		mark := pasteEnd
		if r.state == outside {
			mark = pasteBegin
		}
		i := bytes.Index(typed, []byte(mark))
		text, rest := typed, []byte(nil)
		if i >= 0 {
			text, rest = typed[:i], typed[i+len(mark):]
		} else if n := begins(typed, mark, r.state == outside); n > 0 {
			text, r.part = typed[:len(typed)-n], bytes.Clone(typed[len(typed)-n:])
		}
		switch r.state {
		case holding:
			r.held = append(r.held, text...)
			if !mayBePaths(r.held) {
				r.ready = append(append(r.ready, pasteBegin...), r.held...)
				r.held, r.state = nil, passing
			}
		default:
			r.ready = append(r.ready, text...)
		}
		if i < 0 {
			return
		}
		typed = rest
		switch r.state {
		case outside:
			r.state = holding
		case passing:
			r.ready = append(r.ready, pasteEnd...)
			r.state = outside
		case holding:
			r.state = outside
			if len(PastedPaths(string(r.held))) == 0 {
				r.ready = append(append(append(r.ready, pasteBegin...), r.held...), pasteEnd...)
				r.held = nil
				continue
			}
			r.looking, r.behind = true, bytes.Clone(typed)
			text := string(r.held)
			go func() { r.found <- r.Replace(text) }()
			return
		}
	}
}

// begins returns how many bytes at the end of typed may be the beginning of mark. Where keys
// are typed, fewer than three may be one, which must not wait.
func begins(typed []byte, mark string, keys bool) int {
	least := 1
	if keys {
		least = 3
	}
	for n := min(len(typed), len(mark)-1); n >= least; n-- {
		if bytes.HasSuffix(typed, []byte(mark[:n])) {
			return n
		}
	}
	return 0
}

// mayBePaths reports whether a paste that begins with text may consist of paths.
func mayBePaths(text []byte) bool {
	if len(text) > maxPaste || bytes.ContainsFunc(text, strangeInPaste) {
		return false
	}
	text = bytes.TrimLeftFunc(text, unicode.IsSpace)
	const scheme = "file:"
	return len(text) == 0 || strings.IndexByte(`/'"`, text[0]) >= 0 || bytes.HasPrefix([]byte(scheme), text[:min(len(text), len(scheme))])
}

// strangeInPaste reports whether no path has r in it that a terminal would paste.
func strangeInPaste(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
}

// PastedPaths returns what a paste may mean that consists of paths of files, as terminals
// write them where files are dropped: as they are, quoted for a shell, or as URLs. Each
// meaning is a list of absolute, clean paths. The likelier one comes first.
func PastedPaths(text string) [][]string {
	if !mayBePaths([]byte(text)) || !utf8.ValidString(text) {
		return nil
	}
	text = strings.TrimSpace(text)
	var all [][]string
	// One that a terminal did not quote may have spaces in it.
	if p := pastedPath(text); p != "" && !strings.ContainsAny(text, "\n\r\t") {
		all = append(all, []string{p})
	}
	words, ok := shellWords(text)
	if !ok || len(words) == 0 || len(words) > maxPasted {
		return all
	}
	var paths []string
	for _, w := range words {
		p := pastedPath(w)
		if p == "" {
			return all
		}
		paths = append(paths, p)
	}
	if len(all) == 1 && len(paths) == 1 && paths[0] == all[0][0] {
		return all
	}
	return append(all, paths)
}

// pastedPath returns the clean path that text is, absolute or a file:// URL of this host,
// or "".
func pastedPath(text string) string {
	if strings.HasPrefix(text, "file:") {
		u, err := url.Parse(text)
		if err != nil || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" {
			return ""
		}
		text = u.Path
	}
	if !path.IsAbs(text) || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text) {
		return ""
	}
	return path.Clean(text)
}

// shellWords splits text as a shell does that expands nothing.
func shellWords(text string) (words []string, ok bool) {
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			in, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			in, quote = true, r
		case unicode.IsSpace(r):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			in = true
			word.WriteRune(r)
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, quote == 0 && !escaped
}
