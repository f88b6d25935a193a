package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	mostRead    = 48 << 10 // bytes of one read
	mostSkipped = 256 << 20
	mostFile    = 1 << 20 // bytes of a file that is written or edited
	mostEntries = 1000
	mostMatches = 200
	mostMatch   = 400 // bytes of a line that matches
	mostListing = 1 << 20
)

// readInput are the arguments of read.
type readInput struct {
	Path   string `json:"path" jsonschema:"path in the machine, absolute or relative to the workspace"`
	Offset int    `json:"offset,omitempty" jsonschema:"first line, from 1"`
	Limit  int    `json:"limit,omitempty" jsonschema:"number of lines; default 1000"`
}

// readOutput is the result of read.
type readOutput struct {
	Path    string `json:"path"`
	Text    string `json:"text"`
	Lines   int    `json:"lines" jsonschema:"number of lines in text"`
	More    bool   `json:"more,omitempty" jsonschema:"there are more lines: go on with offset"`
	Changed bool   `json:"changed,omitempty" jsonschema:"characters that cannot be seen are shown as \\u{…} or left out"`
}

func (s *Server) read(ctx context.Context, c *call, in readInput) (readOutput, error) {
	w := &window{skip: max(in.Offset, 1) - 1, lines: in.Limit, most: mostRead}
	if w.lines <= 0 {
		w.lines = 1000
	}
	m, err := s.machine(ctx, c)
	if err != nil {
		return readOutput{}, err
	}
	name := guestPath(m, in.Path)
	_, err = tool(ctx, m, 0, mayfly.Cmd{Argv: []string{"cat", "--", name}, Stdout: w})
	w.finish()
	switch {
	case bytes.IndexByte(w.text, 0) >= 0:
		return readOutput{}, errors.New("it is no text: look at it with run, by file or xxd")
	case w.far:
		return readOutput{}, fmt.Errorf("the first %d MiB are not so far: use run, with sed or tail", mostSkipped>>20)
	case err != nil && !w.full:
		return readOutput{}, err
	}
	out := readOutput{Path: name, More: w.full}
	var b strings.Builder
	text := strings.ToValidUTF8(string(w.text), "\ufffd")
	out.Changed = text != string(w.text)
	for line := range strings.Lines(text) {
		body, end := strings.CutSuffix(line, "\n")
		if cut, ok := strings.CutSuffix(body, "\r"); ok {
			body, out.Changed = cut, true
		}
		if visible(&b, body) {
			out.Changed = true
		}
		if end {
			b.WriteByte('\n')
		}
		out.Lines++
	}
	out.Text = b.String()
	return out, nil
}

// window takes some lines of what is written to it, and then refuses more.
type window struct {
	skip, lines int
	most        int // bytes that are taken
	skipped     int64
	text        []byte
	far         bool // too much was to be skipped
	full        bool // there is more, after finish
}

// errWindow ends what writes to a window. The reader knows why.
var errWindow = errors.New("there is enough")

func (w *window) Write(p []byte) (int, error) {
	n := len(p)
	for w.skip > 0 && len(p) > 0 {
		i := bytes.IndexByte(p, '\n') + 1
		if i == 0 {
			i = len(p)
		} else {
			w.skip--
		}
		w.skipped += int64(i)
		p = p[i:]
	}
	if w.far = w.skip > 0 && w.skipped > mostSkipped; w.far {
		return 0, errWindow
	}
	w.text = append(w.text, p...)
	if w.end() < len(w.text) {
		return 0, errWindow
	}
	return n, nil
}

// end returns where the lines end that are wanted and that there is place for.
func (w *window) end() int {
	at, lines := 0, 0
	for ; lines < w.lines && at < len(w.text); lines++ {
		i := bytes.IndexByte(w.text[at:], '\n') + 1
		if i == 0 {
			i = len(w.text) - at
		}
		if at+i > w.most {
			if at == 0 {
				return w.most // of a line that is too long, its beginning
			}
			break
		}
		at += i
	}
	return at
}

// finish leaves what is wanted.
func (w *window) finish() {
	end := w.end()
	w.full = end < len(w.text)
	w.text = w.text[:end]
}

// writeInput are the arguments of write.
type writeInput struct {
	Path string `json:"path" jsonschema:"path in the machine, absolute or relative to the workspace"`
	Text string `json:"text" jsonschema:"the whole content of the file"`
}

// writeOutput is the result of write and edit.
type writeOutput struct {
	Path     string `json:"path"`
	Bytes    int    `json:"bytes"`
	Replaced int    `json:"replaced,omitempty" jsonschema:"by edit: how often"`
}

func (s *Server) write(ctx context.Context, c *call, in writeInput) (writeOutput, error) {
	m, err := s.touched(ctx, c)
	if err != nil {
		return writeOutput{}, err
	}
	name := guestPath(m, in.Path)
	return writeOutput{Path: name, Bytes: len(in.Text)}, put(ctx, m, name, in.Text)
}

// putScript has all of a file before it begins to write it: a call that is cancelled leaves
// what was there.
const putScript = `mkdir -p -- "${1%/*}/" && t=$(mktemp) || exit 1
trap 'rm -f "$t"' EXIT
cat >"$t" && cat "$t" >"$1"`

// put writes a file of the guest. What is there keeps its mode, and a link leads on.
func put(ctx context.Context, m Machine, name, text string) error {
	if len(text) > mostFile {
		return fmt.Errorf("the text has %d bytes; at most %d are possible", len(text), mostFile)
	}
	_, err := tool(ctx, m, 0, mayfly.Cmd{
		Argv:  []string{"sh", "-c", putScript, "sh", name},
		Stdin: strings.NewReader(text),
	})
	return err
}

// editInput are the arguments of edit.
type editInput struct {
	Path       string `json:"path" jsonschema:"path in the machine, absolute or relative to the workspace"`
	Old        string `json:"old" jsonschema:"the text that is replaced, as it is in the file"`
	New        string `json:"new"`
	ReplaceAll bool   `json:"replace_all,omitempty"`
}

func (s *Server) edit(ctx context.Context, c *call, in editInput) (writeOutput, error) {
	if in.Old == "" {
		return writeOutput{}, errors.New("old is empty: use write for a new file")
	}
	m, err := s.touched(ctx, c)
	if err != nil {
		return writeOutput{}, err
	}
	name := guestPath(m, in.Path)
	file := &window{lines: mostFile, most: mostFile}
	_, err = tool(ctx, m, 0, mayfly.Cmd{Argv: []string{"cat", "--", name}, Stdout: file})
	if file.finish(); file.full {
		return writeOutput{}, fmt.Errorf("the file is larger than %d bytes: use run, with sed or a script", mostFile)
	}
	if err != nil {
		return writeOutput{}, err
	}
	text, before, after := string(file.text), in.Old, in.New
	n := strings.Count(text, before)
	if n == 0 && strings.Contains(text, "\r\n") { // read shows no carriage returns
		before, after = strings.ReplaceAll(before, "\n", "\r\n"), strings.ReplaceAll(after, "\n", "\r\n")
		n = strings.Count(text, before)
	}
	switch {
	case n == 0:
		return writeOutput{}, errors.New("the text old is not in the file")
	case n > 1 && !in.ReplaceAll:
		return writeOutput{}, fmt.Errorf("the text old is in the file %d times: give more of what is around it, or replace_all", n)
	}
	text = strings.ReplaceAll(text, before, after)
	return writeOutput{Path: name, Bytes: len(text), Replaced: n}, put(ctx, m, name, text)
}

// listInput are the arguments of list.
type listInput struct {
	Path       string `json:"path,omitempty" jsonschema:"directory or, with pattern, also a file in the machine; default the workspace"`
	Depth      int    `json:"depth,omitempty" jsonschema:"without pattern: how deep; default 1"`
	Pattern    string `json:"pattern,omitempty" jsonschema:"extended regular expression, as of grep -E"`
	Glob       string `json:"glob,omitempty" jsonschema:"with pattern: only files whose name matches, such as *.go"`
	IgnoreCase bool   `json:"ignore_case,omitempty" jsonschema:"with pattern"`
}

// listOutput is the result of list.
type listOutput struct {
	Path      string   `json:"path"`
	Entries   []string `json:"entries,omitempty" jsonschema:"paths below path; those of directories end with /"`
	Matches   []match  `json:"matches,omitempty"`
	Truncated bool     `json:"truncated,omitempty" jsonschema:"there is more"`
}

// match is a line that matches.
type match struct {
	Path string `json:"path"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

func (s *Server) list(ctx context.Context, c *call, in listInput) (listOutput, error) {
	m, err := s.machine(ctx, c)
	if err != nil {
		return listOutput{}, err
	}
	out := listOutput{Path: guestPath(m, in.Path)}
	if in.Pattern != "" {
		return out, grep(ctx, m, in, &out)
	}
	listing := &window{lines: mostListing, most: mostListing}
	_, err = tool(ctx, m, 0, mayfly.Cmd{Stdout: listing, Argv: []string{
		"find", out.Path, "-mindepth", "1", "-maxdepth", strconv.Itoa(max(in.Depth, 1)),
		"-name", ".git", "-prune", "-o", "-type", "d", "-exec", "printf", `%s/\0`, "{}", "+", "-o", "-print0",
	}})
	listing.finish()
	if err != nil && len(listing.text) == 0 { // else there are directories that cannot be read
		return listOutput{}, err
	}
	prefix := strings.TrimSuffix(out.Path, "/") + "/"
	for name := range bytes.SplitSeq(listing.text, []byte{0}) {
		if len(name) > 0 {
			out.Entries = append(out.Entries, oneLine(strings.TrimPrefix(string(name), prefix)))
		}
	}
	slices.Sort(out.Entries)
	if out.Truncated = listing.full || len(out.Entries) > mostEntries; out.Truncated {
		out.Entries = out.Entries[:min(len(out.Entries), mostEntries)]
	}
	return out, nil
}

// grep lists the lines that match.
func grep(ctx context.Context, m Machine, in listInput, out *listOutput) error {
	argv := []string{"grep", "-rnIEZH", "--exclude-dir=.git"}
	if in.Glob != "" {
		argv = append(argv, "--include="+in.Glob)
	}
	if in.IgnoreCase {
		argv = append(argv, "-i")
	}
	found := &window{lines: mostMatches, most: mostListing}
	_, err := tool(ctx, m, 0, mayfly.Cmd{Argv: append(argv, "-e", in.Pattern, "--", out.Path), Stdout: found})
	found.finish()
	if e, ok := errors.AsType[exitError](err); ok && e.code == 1 || len(found.text) > 0 {
		err = nil // nothing matches, or some files cannot be read
	}
	prefix := strings.TrimSuffix(out.Path, "/") + "/"
	for line := range strings.Lines(string(found.text)) {
		name, rest, _ := strings.Cut(line, "\x00")
		number, text, ok := strings.Cut(rest, ":")
		n, _ := strconv.Atoi(number)
		if !ok || n <= 0 {
			continue // a name with a line break
		}
		out.Matches = append(out.Matches, match{oneLine(strings.TrimPrefix(name, prefix)), n, oneLine(strings.TrimRight(text, "\r\n"))})
	}
	out.Truncated = found.full
	return err
}

// oneLine returns a guest's text for one line.
func oneLine(text string) string {
	var b strings.Builder
	visible(&b, strings.ToValidUTF8(termsafe.Clip(text, mostMatch), "\ufffd"))
	return b.String()
}
