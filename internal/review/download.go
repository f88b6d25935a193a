package review

import (
	"bytes"
	"regexp"
)

// fetchers are words of which one is in each line that fetches or unpacks what it runs.
var fetchers = [][]byte{
	[]byte("curl"), []byte("wget"), []byte("/dev/tcp/"), []byte("/dev/udp/"), []byte("powershell"), []byte("pwsh"), []byte("nc "), []byte("ncat"), []byte("netcat"),
	[]byte("base64"), []byte("b64decode"), []byte("atob"), []byte("downloadstring"), []byte("invoke-webrequest"), []byte("iwr "), []byte("irm "), []byte("xxd "),
	[]byte("fromcharcode"), []byte("unhexlify"), []byte("fromhex"), []byte("marshal.loads"), []byte("mshta"), []byte("certutil"), []byte("openssl enc"),
}

const shell = `(?:sudo\s+(?:-\S+\s+)*)?(?:env\s+(?:\S+=\S*\s+)*)?(?:/\S*/)?(?:(?:ba|z|da|k|fi|a)?sh|python[0-9.]*|node|perl|ruby|php|iex)\b`

// fetchAndRun are what such lines look like, in lower case.
var fetchAndRun = []func() *regexp.Regexp{
	expression(`\b(?:curl|wget)\b[^;&]*?\|\s*(?:tee\s+\S+\s*\|\s*)?` + shell),
	expression(`\b(?:curl|wget)\b.*?\|\s*(?:gunzip|gzip -d|zcat|xz -d|base64 (?:-d|--decode)|tar\s+-?x\S*o\S*)[^|]*\|\s*` + shell),
	expression(`\b(?:(?:ba|z|da|k)?sh|eval|source|exec|python[0-9.]*|node|perl|ruby)\b\s*(?:-\w+\s+)?["']?\s*(?:<\(|\$\(|` + "`" + `|\.\s+<\()\s*(?:curl|wget)\b`),
	expression(`(?:^|\s)\.\s+<\(\s*(?:curl|wget)\b`),
	expression(`\b(?:curl|wget)\b.*?(?:&&|;)\s*(?:sudo\s+)?(?:ba|z|da|k)?sh\s+(?:-\w+\s+)*[^\s-]`),
	expression(`\b(?:curl|wget)\b.*\bchmod\s+(?:\S*\+x|[0-7]?7[0-7]{2})\s+\S+\s*(?:&&|;)\s*(?:sudo\s+)?\.?/\S+`),
	expression(`\b(?:powershell|pwsh)(?:\.exe)?\b.*\s-e(?:nc?|ncodedcommand|c)?\s+\S{8,}`),
	expression(`\b(?:iex|invoke-expression)\b.*(?:downloadstring|invoke-webrequest|\biwr\b|\birm\b|webclient)|(?:downloadstring|invoke-webrequest|\biwr\b|\birm\b).*\|\s*(?:iex|invoke-expression)\b`),
	expression(`/dev/(?:tcp|udp)/[^\s"']+`),
	expression(`\b(?:nc|ncat|netcat)\b(?:\s+\S+)*?\s+(?:-\w*[ec]\b|--exec|--sh-exec)`),
	expression(`\bbase64\s+(?:-d|--decode|-di)\b[^|]*\|\s*` + shell),
	expression(`\bxxd\s+-r\b[^|]*\|\s*` + shell),
	expression(`\b(?:eval|exec|execsync|function|spawn|system|popen|compile)\s*\(\s*(?:new\s+)?(?:[\w.]+\(\s*)*(?:atob|[\w.]*b64decode|buffer\.from|string\.fromcharcode|[\w.]*unhexlify|bytes\.fromhex|marshal\.loads|base64_decode|zlib\.decompress|__import__\(\s*["']base64)`),
	expression(`\beval\s*["'(\x60]?\s*\$\(\s*(?:echo|printf)\b.*\bbase64\b`),
	expression(`\bmshta(?:\.exe)?\s+https?:|\bcertutil(?:\.exe)?\b.*-urlcache`),
}

// Long texts that are not for people, and the calls that unpack or run one.
var (
	escapes = expression(`(?:\\x[0-9a-fA-F]{2}){60,}|(?:0x[0-9a-fA-F]{2},\s*){120,}`)
	unpacks = expression(`(?i)\b(?:eval|exec|execsync|spawn|spawnsync|function|system|popen|invoke-expression)\s*\(|\bmarshal\.loads\b`)
	decodes = expression(`(?i)\b(?:atob|b64decode|base64_decode|frombase64string|fromcharcode|unhexlify|fromhex)\s*\(`)
)

// nearness is how far from such a text the call is looked for, in bytes.
const nearness = 400

const (
	mostWord  = 200 // letters without a blank that people write
	mostBlobs = 16
)

// runs looks for lines that fetch or unpack what they run.
func (t *text) runs() {
	low := t.low
	for _, word := range fetchers {
		for at := 0; ; {
			i := bytes.Index(low[at:], word)
			if i < 0 {
				break
			}
			i += at
			if i > 0 && isAlnum(low[i-1]) {
				at = i + 1
				continue
			}
			start := bytes.LastIndexByte(low[:i], '\n') + 1
			command := logicalLine(low[start:])
			at = start + len(command) + 1
			if matchesAny(fetchAndRun, bytes.ReplaceAll(command, []byte("\\\n"), []byte(" "))) {
				t.fetches(start)
			}
			if at >= len(low) {
				break
			}
		}
		if len(t.found["download-and-run"]) > 0 {
			return
		}
	}
	if t.genre != code {
		return
	}
	for _, at := range blobs(t.added) {
		from, to := max(0, at[0]-nearness), min(len(t.added), at[1]+nearness)
		around := slicesOf(t.added, from, at[0], at[1], to)
		if unpacks().Match(around) || !t.fixture && decodes().Match(around) {
			t.report("download-and-run", at[0], Finding{})
			return
		}
	}
}

// blobs returns where long texts are that are not for people.
func blobs(b []byte) [][]int {
	var found [][]int
	run := 0
	for i, c := range b {
		if isAlnum(c) || c == '+' || c == '/' {
			run++
			continue
		}
		if run >= mostWord && len(found) < mostBlobs {
			found = append(found, []int{i - run, i})
		}
		run = 0
	}
	if run >= mostWord {
		found = append(found, []int{len(b) - run, len(b)})
	}
	if bytes.Contains(b, []byte(`\x`)) || bytes.Contains(b, []byte("0x")) {
		found = append(found, escapes().FindAllIndex(b, mostBlobs)...)
	}
	return found
}

// slicesOf returns what is around a match.
func slicesOf(b []byte, from, start, end, to int) []byte {
	return append(append(bytes.Clone(b[from:start]), ' '), b[end:to]...)
}

func isAlnum(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

func matchesAny(patterns []func() *regexp.Regexp, line []byte) bool {
	for _, p := range patterns {
		if p().Match(line) {
			return true
		}
	}
	return false
}

// fetches reports a line that fetches what it runs: in a text for people it is advice.
func (t *text) fetches(at int) {
	if t.genre == prose && !t.obeyed || t.fixture && !t.obeyed && t.genre != code {
		t.note("download-and-run", at, "tells the reader to run what a command downloads")
		return
	}
	t.report("download-and-run", at, Finding{})
}

// mostCommand bounds the text of one command, in bytes.
const mostCommand = 4096

// logicalLine returns the command at the start of a text, with the lines that go on with it.
func logicalLine(b []byte) []byte {
	b = b[:min(len(b), mostCommand)]
	for at := 0; at < len(b); {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return b
		}
		i += at
		next := bytes.TrimLeft(b[i+1:], " \t")
		if !bytes.HasSuffix(bytes.TrimRight(b[:i], " \t\r"), []byte{'\\'}) && !bytes.HasSuffix(bytes.TrimRight(b[:i], " \t\r"), []byte{'|'}) && !bytes.HasPrefix(next, []byte{'|'}) {
			return b[:i]
		}
		at = i + 1
	}
	return b
}
