package mcp

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// output keeps the beginning and the end of what a program writes.
type output struct {
	limit int // bytes that are kept

	mu    sync.Mutex // guards what follows
	head  []byte     // at most a third of limit
	tail  []byte     // at most twice what is left
	total int64
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	o.total += int64(n)
	head := min(n, o.limit/3-len(o.head))
	o.head = append(o.head, p[:head]...)
	most := o.limit - o.limit/3
	p = p[head:]
	if len(p) > most {
		p = p[len(p)-most:]
	}
	o.tail = append(o.tail, p...)
	if len(o.tail) > 2*most { // moved only now and then
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-most:]...)
	}
	return n, nil
}

// size is how many bytes were written.
func (o *output) size() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total
}

// take returns what was written, fit to be shown, and forgets it. It reports whether
// something is left out.
func (o *output) take() (text string, cut bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	tail := o.tail
	if most := o.limit - o.limit/3; len(tail) > most {
		tail = tail[len(tail)-most:]
	}
	left := o.total - int64(len(o.head)+len(tail))
	if left == 0 {
		text = clean(append(o.head, tail...))
	} else {
		text = fmt.Sprintf("%s\n… %d bytes are left out …\n%s", clean(o.head), left, clean(tail))
	}
	o.head, o.tail, o.total = nil, nil, 0
	if len(text) > 2*o.limit { // bytes that are not UTF-8 take three times their place
		return termsafe.Abridge(text, 2*o.limit), true
	}
	return text, left > 0
}

// sequences are those that control a terminal, and what is left of one that was cut.
var sequences = regexp.MustCompile(`\x1b(?:` +
	`\[[0-?]*[ -/]*[@-~]` + // CSI
	`|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?` + // OSC, DCS, SOS, PM, APC
	`|[ -/]*[0-~])?`)

// clean returns a guest's text for a model: valid UTF-8 without sequences and control
// characters. Of a line that was written over, as by a progress bar, the last state is left.
// What nobody would see, such as a change of the direction of writing, is shown as \u{202e}.
func clean(text []byte) string {
	s := sequences.ReplaceAllString(strings.ToValidUTF8(string(text), "\ufffd"), "")
	var b strings.Builder
	for line := range strings.Lines(s) {
		body, end := strings.CutSuffix(line, "\n")
		body = strings.TrimRight(body, "\r")
		body = body[strings.LastIndexByte(body, '\r')+1:]
		visible(&b, body)
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// visible writes a line without control characters, and reports whether it is another
// now.
func visible(b *strings.Builder, line string) (other bool) {
	for _, r := range line {
		switch {
		case r == '\t' || r == utf8.RuneError || termsafe.Printable(r):
			b.WriteRune(r)
			continue
		case !unicode.IsControl(r):
			fmt.Fprintf(b, `\u{%x}`, r)
		}
		other = true
	}
	return other
}
