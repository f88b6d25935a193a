package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// command takes an operating system command: NUMBER ; TEXT, which ended with end.
func (f *Filter) command(body []byte, end string) {
	number, rest, _ := bytes.Cut(body, []byte(";"))
	pass := func() { f.out = append(append(append(f.out, "\x1b]"...), body...), end...) }
	switch string(number) {
	case "0", "1", "2":
		if !f.tidy.title {
			f.tidy.title = true
			f.out = append(f.out, "\x1b[22;2t"...) // keeps the window's title, where a terminal can
		}
		f.say(string(number)+";", rest, end)
	case "4", "10", "11", "12", "17", "19":
		f.colour(string(number), rest, pass)
	case "104", "110", "111", "112", "117", "119":
		if safe(rest, "0123456789;") {
			pass()
		}
	case "8":
		f.link(rest, end)
	case "9":
		if progress(rest) {
			pass()
		} else if !conEmu(rest) {
			f.notify(rest)
		}
	case "22":
		if pointers[string(rest)] {
			f.tidy.pointer = true
			pass()
		}
	case "52":
		f.clipboard(rest, end)
	case "66": // how wide is a blank of another size? Programs look where the cursor is then.
		if string(rest) == "w=1; " || string(rest) == "s=2; " {
			pass()
		}
	case "99":
		f.kitty(rest)
	case "777":
		if note, ok := bytes.CutPrefix(rest, []byte("notify;")); ok {
			f.notify(bytes.ReplaceAll(note, []byte(";"), []byte(": ")))
		}
	}
}

// safe reports whether b has only these characters.
func safe(b []byte, these string) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return !strings.ContainsRune(these, r) })
}

// clean makes text of what should be one.
func clean(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if !termsafe.Printable(r) {
			return ' '
		}
		return r
	}, string(b))
	if utf8.RuneCountInString(s) > maxTitle {
		s = string([]rune(s)[:maxTitle])
	}
	return strings.TrimSpace(s)
}

// say passes on a command whose text is shown, with the machine's name before it.
func (f *Filter) say(command string, text []byte, end string) {
	s := clean(text)
	if f.o.Name != "" && s != "" {
		s = f.o.Name + ": " + s
	}
	f.out = append(f.out, "\x1b]"+command+s+end...)
}

// notify shows a notification: one text, in the form that has nothing else in it.
func (f *Filter) notify(text []byte) {
	if s := clean(text); s != "" && !conEmu([]byte(s)) {
		f.say("9;", []byte(s), "\a")
	}
}

// kitty takes a notification in kitty's form: METADATA ; TEXT.
func (f *Filter) kitty(rest []byte) {
	meta, text, ok := bytes.Cut(rest, []byte(";"))
	if !ok {
		return
	}
	for part := range bytes.SplitSeq(meta, []byte(":")) {
		switch key, value, _ := bytes.Cut(part, []byte("=")); string(key) {
		case "p":
			if v := string(value); v != "title" && v != "body" {
				return // a question, a picture, or the end of one
			}
		case "e":
			if string(value) == "1" {
				plain, err := base64.StdEncoding.DecodeString(string(text))
				if err != nil {
					return
				}
				text = plain
			}
		}
	}
	f.notify(text)
}

// conEmu reports whether what looks like a notification is one of ConEmu's commands, which
// have a number of their own.
func conEmu(rest []byte) bool {
	kind, _, _ := bytes.Cut(rest, []byte(";"))
	return len(kind) > 0 && len(kind) <= 2 && safe(kind, "0123456789")
}

// progress reports whether rest is ConEmu's bar of progress: 4 ; STATE ; PERCENT.
func progress(rest []byte) bool {
	parts := strings.Split(string(rest), ";")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "4" || len(parts[1]) != 1 || parts[1] > "4" {
		return false
	}
	return len(parts) == 2 || len(parts[2]) <= 3 && safe([]byte(parts[2]), "0123456789")
}

// colour takes a colour that is asked for or set.
func (f *Filter) colour(number string, rest []byte, pass func()) {
	value := rest
	if number == "4" { // INDEX ; COLOUR
		index, v, ok := bytes.Cut(rest, []byte(";"))
		if !ok || len(index) > 3 || !safe(index, "0123456789") {
			return
		}
		value = v
	}
	switch {
	case string(value) == "?":
		if f.mayAsk() {
			pass()
		}
	case len(value) > 0 && len(value) <= 64 && safe(value, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ#:/. "):
		f.tidy.colour(number)
		pass()
	}
}

// maxLink bounds a link in bytes.
const maxLink = 2048

// link takes a link: PARAMETERS ; ADDRESS. Its text is shown in any case.
func (f *Filter) link(rest []byte, end string) {
	params, address, ok := bytes.Cut(rest, []byte(";"))
	if !ok || bytes.ContainsFunc(rest, func(r rune) bool { return r < 0x21 || r > 0x7e }) || len(address) > maxLink || len(params) > 256 {
		params, address = nil, nil
	}
	if len(address) > 0 && !f.mayLink(string(address)) {
		params, address = nil, nil
	}
	// One that is refused ends the one before, or that would have its text.
	f.out = append(append(append(append(append(f.out, "\x1b]8;"...), params...), ';'), address...), end...)
}

func (f *Filter) mayLink(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		return u.Host != "" && u.User == nil
	case "mailto":
		return true
	case "file":
		return f.o.Workspace != "" && (u.Host == "" || u.Host == "localhost") && path.Clean(u.Path) == u.Path &&
			(u.Path == f.o.Workspace || strings.HasPrefix(u.Path, f.o.Workspace+"/"))
	}
	return false
}

// clipboard takes SELECTION ; BASE64. To read the clipboard is never allowed.
func (f *Filter) clipboard(rest []byte, end string) {
	selection, data, ok := bytes.Cut(rest, []byte(";"))
	if !ok || !safe(selection, "cp") || len(data) == 0 {
		return
	}
	text, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return
	}
	if f.o.Clipboard == nil || !f.o.Clipboard() {
		f.stats.Refused++
		return
	}
	// What is pasted must neither end the brackets of a paste nor be a key.
	pasted := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r <= 0x9f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(text), ""))
	f.stats.Clipboard++
	if f.copied == nil {
		f.copied = make(map[[sha256.Size]byte]bool)
	}
	if len(f.copied) < maxCopied {
		f.copied[sumOfText(pasted)] = true
	}
	f.out = append(f.out, "\x1b]52;"+string(selection)+";"+base64.StdEncoding.EncodeToString([]byte(pasted))+end...)
}

// maxCopied bounds the texts that are known to have been put into the clipboard.
const maxCopied = 1024

// Copied reports whether text, but for white space, has been put into the clipboard, or may
// have been: of too many, no more are known.
func (f *Filter) Copied(text string) bool {
	return len(f.copied) >= maxCopied || f.copied[sumOfText(text)]
}

func sumOfText(text string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(strings.Fields(text), "")))
}

// pointers are the shapes of the mouse's pointer that terminals know: CSS's.
var pointers = func() map[string]bool {
	known := make(map[string]bool)
	for _, name := range strings.Fields(`alias cell copy crosshair default e-resize ew-resize grab grabbing help move n-resize
		ne-resize nesw-resize no-drop not-allowed ns-resize nw-resize nwse-resize pointer progress s-resize se-resize
		sw-resize text vertical-text w-resize wait zoom-in zoom-out`) {
		known[name] = true
	}
	return known
}()
