package review

import (
	"bytes"
	"cmp"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// textRules are about what lines hold, in whatever file. Only added lines are looked at.
var textRules = []rule{
	{id: "not-scanned", class: Suspicious, reason: "too large to look into, or it cannot be read", kinds: []Kind{Regular}, when: scanned("not-scanned")},
	{id: "direction-characters", class: Suspicious, reason: "text reads differently than it runs", kinds: []Kind{Regular}, when: scanned("direction-characters")},
	{
		id: "hidden-characters", class: Suspicious, reason: "hidden characters that agents read and people do not",
		kinds: []Kind{Regular}, when: scanned("hidden-characters"),
	},
	{
		id: "control-characters", class: Suspicious, reason: "content hidden from a terminal by control characters",
		kinds: []Kind{Regular}, when: scanned("control-characters"),
	},
	{id: "far-right", class: Suspicious, reason: "content hidden from a reviewer far to the right", kinds: []Kind{Regular}, when: scanned("far-right")},
	{id: "imitated-letters", class: Suspicious, reason: "letters that imitate others", kinds: []Kind{Regular}, when: scanned("imitated-letters")},
	{id: "download-and-run", class: Suspicious, reason: "downloads or unpacks code to run", kinds: []Kind{Regular}, when: scanned("download-and-run")},
	{id: "secret", class: Suspicious, reason: "looks like a secret", kinds: []Kind{Regular}, when: scanned("secret")},
	{id: "url-password", class: Suspicious, reason: "an address with a password", kinds: []Kind{Regular}, when: scanned("url-password")},
	{id: "placeholder", class: Suspicious, reason: "a secret's placeholder, which works nowhere else", kinds: []Kind{Regular}, when: scanned("placeholder")},
}

// scanned makes a condition of what the scan of the text found for a rule.
func scanned(id string) func(*subject) []Finding {
	return func(s *subject) []Finding { return s.scan()[id] }
}

// mostPlaces bounds the findings of one rule in one file.
const mostPlaces = 4

// genre is how a text is read.
type genre uint8

const (
	code  genre = iota // by programs; whatever is not known is
	prose              // by people
	data               // by programs, for people: translations, documents
)

var (
	proseEnds = []string{".md", ".markdown", ".mdx", ".txt", ".rst", ".adoc", ".asciidoc", ".org", ".tex", ".po", ".pot", ".srt", ".vtt", ".textile", ".log"}
	dataEnds  = []string{".json", ".json5", ".jsonc", ".jsonl", ".ndjson", ".geojson", ".arb", ".yaml", ".yml", ".xml", ".csv", ".tsv", ".strings", ".properties", ".xliff",
		".xlf", ".resx", ".ftl", ".html", ".htm", ".svg", ".plist", ".toml", ".ini", ".snap", ".ipynb", ".lock", ".sum", ".map", ".golden"}
	proseNames = []string{"license", "licence", "copying", "notice", "authors", "contributors", "changelog", "changes", "news", "readme", "install", "todo", "thanks"}
)

// text is the added lines of one file.
type text struct {
	subject *subject
	genre   genre
	obeyed  bool // by an agent or a tool, by itself
	fixture bool

	added   []byte
	low     []byte // added, with ASCII in lower case
	numbers []int  // of the lines, where not all of the file is added
	longOld bool   // lines were long before

	found map[string][]Finding
}

// report notes a finding of a rule at an offset in the added lines.
func (t *text) report(id string, at int, f Finding) {
	if len(t.found[id]) >= mostPlaces {
		return
	}
	f.Line = t.subject.lineOf(at)
	f.Detail = bounded(f.Detail)
	t.found[id] = append(t.found[id], f)
}

// note notes what is worth to say, but harmless.
func (t *text) note(id string, at int, reason string) {
	if len(t.found[id]) == 0 {
		t.report(id, at, Finding{Class: Ordinary, Reason: reason})
	}
}

// scan looks at the added lines once, and returns the findings by rule.
func (s *subject) scan() map[string][]Finding {
	if s.texts != nil {
		return s.texts
	}
	s.texts = map[string][]Finding{}
	if s.change.New.Kind != Regular || s.generated() || slices.Contains(documents, path.Ext(s.folded)) || !s.contentChanged() {
		return s.texts
	}
	fresh, err := s.new()
	if err != nil {
		if head, err := s.set.head(&s.change.New); err != nil || bytes.IndexByte(head, 0) < 0 {
			s.texts["not-scanned"] = []Finding{{}}
		}
		return s.texts
	}
	if fresh = decoded(fresh); fresh == nil {
		return s.texts
	}
	old, _ := s.old()
	t := &text{subject: s, genre: genreOf(s.folded), fixture: s.fixture(), obeyed: s.set.obeyed(s), found: s.texts}
	s.text = t
	t.difference(decoded(old), fresh)
	t.low = lowered(t.added)
	t.letters()
	t.runs()
	t.secrets()
	return s.texts
}

// contentChanged is false where only the mode or the name differ.
func (s *subject) contentChanged() bool {
	old, err := s.old()
	fresh, err2 := s.new()
	return err != nil || err2 != nil || !bytes.Equal(old, fresh) || s.change.Old.Kind != Regular && s.change.From == ""
}

func genreOf(folded string) genre {
	base := path.Base(folded)
	ext := path.Ext(base)
	switch {
	case slices.Contains(proseEnds, ext) && base != "requirements.txt" && base != "cmakelists.txt", ext == "" && slices.Contains(proseNames, base):
		return prose
	case slices.Contains(dataEnds, ext):
		return data
	}
	return code
}

func longest(b []byte) int {
	most := 0
	for line := range bytes.Lines(b) {
		most = max(most, len(line))
	}
	return most
}

// Bounds of what a reviewer sees.
const (
	longLine   = 5000 // bytes
	wideBlanks = 120
)

// letters looks at the letters of each line.
func (t *text) letters() {
	at := 0
	for line := range bytes.Lines(t.added) {
		if !isPlain(line) {
			t.line(at, line)
		}
		t.width(at, line)
		at += len(line)
	}
}

// isPlain reports whether a line is ASCII without control characters.
func isPlain(line []byte) bool {
	line = trimEnd(line)
	for _, b := range line {
		if b < ' ' && b != '\t' || b >= 0x7f {
			return false
		}
	}
	return true
}

// line looks at a line that has more than plain ASCII.
func (t *text) line(at int, line []byte) {
	first := at == 0 && (t.numbers == nil || len(t.numbers) > 0 && t.numbers[0] == 1)
	if first {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	line = trimEnd(line)
	t.controls(at, line)
	if utf8.Valid(line) {
		runes := []rune(string(line))
		t.directions(at, runes)
		t.hidden(at, runes)
		if t.genre == code || t.obeyed {
			t.imitated(at, runes)
		}
	}
}

func (t *text) controls(at int, line []byte) {
	valid := utf8.Valid(line)
	for i, r := range string(line) {
		bad := r < ' ' && r != '\t' && r != '\f' && r != '\v' || r == 0x7f || valid && r >= 0x80 && r < 0xa0
		if r == '\r' && bytes.Trim(line[i:], "\r") == nil || r == 0x1a && i == len(line)-1 {
			bad = false
		}
		switch {
		case !bad:
		case t.fixture && !t.obeyed:
			t.note("control-characters", at, "control characters in what tests read")
			return
		default:
			t.report("control-characters", at, Finding{})
			return
		}
	}
}

func (t *text) directions(at int, runes []rune) {
	var open []rune
	turned, marked, balanced, rtl := false, false, true, false
	for _, r := range runes {
		switch {
		case r >= 0x202a && r <= 0x202e && r != 0x202c, r >= 0x2066 && r <= 0x2068:
			turned = true
			open = append(open, r)
		case r == 0x202c || r == 0x2069:
			turned = true
			isolate := len(open) > 0 && open[len(open)-1] >= 0x2066
			if len(open) == 0 || isolate != (r == 0x2069) {
				balanced = false
			} else {
				open = open[:len(open)-1]
			}
		case r == 0x200e || r == 0x200f || r == 0x061c:
			marked = true
		default:
			rtl = rtl || isRightToLeft(r)
		}
	}
	balanced = balanced && len(open) == 0
	switch {
	case turned && (t.genre == code || !balanced || !rtl):
		t.report("direction-characters", at, Finding{})
	case marked && !rtl && (t.genre == code || t.obeyed):
		t.report("direction-characters", at, Finding{})
	case turned || marked:
		t.note("direction-characters", at, "direction characters, as texts written from right to left have")
	}
}

// flags are the emoji that are made with tags.
var flags = []string{"gbeng", "gbsct", "gbwls"}

func (t *text) hidden(at int, runes []rune) {
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		if r < 0xad {
			continue
		}
		bad := false
		switch {
		case r >= 0xe0000 && r <= 0xe007f:
			if n := flagAt(runes, i); n > 0 {
				i += n - 1
				continue
			}
			bad = true
		case isSelector(r) && i > 0 && isSelector(runes[i-1]):
			bad = true
		case r >= 0xe0100 && r <= 0xe01ef:
			bad = t.genre == code || t.obeyed || i == 0 || !unicode.Is(unicode.Han, runes[i-1])
		case r == 0x200c || r == 0x200d:
			bad = !joins(runes, i) && t.inWord(runes, i)
		case r == 0x200b || r >= 0x2060 && r <= 0x2064 || r == 0x180e || r == 0xfeff || r == 0xad:
			bad = t.inWord(runes, i) || r == 0xfeff && t.genre == code
		case r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0:
			bad = t.genre == code || t.obeyed
		}
		if bad {
			t.report("hidden-characters", at, Finding{Detail: codePoint(r)})
			return
		}
	}
}

// flagAt returns the length of the tags at i that end a flag.
func flagAt(runes []rune, i int) int {
	if i == 0 || runes[i-1] != 0x1f3f4 {
		return 0
	}
	for _, f := range flags {
		if i+len(f) >= len(runes) || runes[i+len(f)] != 0xe007f {
			continue
		}
		same := true
		for j := range len(f) {
			same = same && runes[i+j] == 0xe0000+rune(f[j])
		}
		if same {
			return len(f) + 1
		}
	}
	return 0
}

func isSelector(r rune) bool { return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef }

// inWord reports whether what has no width at i hides in a word: for people between two
// of its letters, for programs also at its ends, for agents anywhere.
func (t *text) inWord(runes []rune, i int) bool {
	before := i > 0 && isPlainWord(runes[i-1])
	after := i+1 < len(runes) && isPlainWord(runes[i+1])
	switch {
	case runes[i] == 0xad:
		return before && after && (t.genre == code || t.obeyed)
	case t.obeyed:
		return true
	case t.genre == code:
		return before || after
	}
	return before && after
}

// imitated looks for words that mix scripts, or are Latin to the eye only.
func (t *text) imitated(at int, runes []rune) {
	foreign := slices.ContainsFunc(runes, func(r rune) bool {
		_, alike := latin[r]
		return r > 0x7f && unicode.Is(unicode.Cyrillic, r) && !alike
	})
	for i := 0; i < len(runes); {
		j := i
		plain, alike, other := 0, 0, 0
		for ; j < len(runes) && (unicode.IsLetter(runes[j]) || unicode.IsDigit(runes[j]) || runes[j] == '_'); j++ {
			r := runes[j]
			_, known := latin[r]
			switch {
			case r <= 0x7f:
				if r > '9' && r != '_' {
					plain++
				}
			case known && unicode.In(r, unicode.Cyrillic, unicode.Armenian):
				alike++
			case known && unicode.Is(unicode.Greek, r) && strings.ContainsRune("οΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳ", r):
				alike++
			default:
				other++
			}
		}
		if alike > 0 && (plain > 0 || other == 0 && alike >= 3 && !foreign) && !t.fixture {
			t.report("imitated-letters", at, Finding{Detail: string(runes[i:j])})
			return
		}
		i = max(j, i+1)
	}
}

// sources are endings of texts that people write line by line.
var sources = []string{".go", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".py", ".rb", ".rs", ".c", ".h", ".cc", ".cpp", ".hpp", ".java", ".kt",
	".kts", ".swift", ".cs", ".php", ".pl", ".lua", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd", ".scala", ".clj", ".ex", ".exs", ".erl", ".hs",
	".ml", ".vue", ".svelte", ".dart", ".zig", ".nim", ".r", ".jl", ".gradle", ".groovy", ".cmake", ".mk", ".el", ".vim", ".nix", ".tf", ".css", ".scss"}

// width looks for what a reviewer would have to scroll to.
func (t *text) width(at int, line []byte) {
	if len(line) < wideBlanks/4 || t.genre == prose && !t.obeyed || t.fixture && !t.obeyed {
		return
	}
	ext := path.Ext(t.subject.folded)
	if run := blanks(line); run >= wideBlanks && ext != ".csv" && ext != ".tsv" {
		t.report("far-right", at, Finding{})
		return
	}
	if len(line) <= longLine || t.longOld || !slices.Contains(sources, ext) {
		return
	}
	base := path.Base(t.subject.folded)
	if strings.Contains(base, ".min.") || strings.Contains(base, "-min.") || strings.Contains(base, ".bundle.") {
		t.note("far-right", at, "minified; nobody can review it")
		return
	}
	t.report("far-right", at, Finding{Reason: "a very long line, where the others are short", Class: Suspicious})
}

// blanks returns the longest run of blanks before something in a line.
func blanks(line []byte) int {
	most, run := 0, 0
	for _, b := range trimEnd(line) {
		switch b {
		case ' ':
			run++
		case '\t':
			run += 4
		default:
			most, run = max(most, run), 0
		}
	}
	return most
}

// codePoint returns how a letter is written that nobody sees.
func codePoint(r rune) string {
	const digits = "0123456789ABCDEF"
	var b []byte
	for ; r > 0 || len(b) < 4; r >>= 4 {
		b = append(b, digits[r&15])
	}
	slices.Reverse(b)
	return cmp.Or("U+"+string(b), "U+0000")
}

// lowered returns a text of the same length with its ASCII letters in lower case.
func lowered(b []byte) []byte {
	low := bytes.Clone(b)
	for i, c := range low {
		if c >= 'A' && c <= 'Z' {
			low[i] = c + 'a' - 'A'
		}
	}
	return low
}
