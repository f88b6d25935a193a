// Package pasting finds what a user wants to show to a program in a machine: a file, or what
// is on the clipboard of the host.
package pasting

import (
	"bytes"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// MaxBytes bounds one file.
const MaxBytes = 32 << 20

// Item is one file to be shown.
type Item struct {
	Source    string // its path on the host; empty for what is no file
	Data      []byte
	Extension string // without a dot, of the kind that the content is
}

// pictures are the beginnings of pictures, and their extensions.
var pictures = []struct{ magic, extension string }{
	{"\x89PNG\r\n\x1a\n", "png"},
	{"\xff\xd8\xff", "jpg"},
	{"GIF87a", "gif"},
	{"GIF89a", "gif"},
}

// Picture returns the extension of the picture that data is, of a kind that coding agents
// look at, or "".
func Picture(data []byte) string {
	for _, p := range pictures {
		if bytes.HasPrefix(data, []byte(p.magic)) {
			return p.extension
		}
	}
	if len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP" {
		return "webp"
	}
	return ""
}

// maxExtension bounds the extension that is taken over from a name.
const maxExtension = 10

// NewItem returns data as it is to be shown. What the content does not say of its kind, the
// name on the host does.
func NewItem(source string, data []byte) Item {
	i := Item{Source: source, Data: data, Extension: Picture(data)}
	named := strings.ToLower(strings.TrimPrefix(filepath.Ext(source), "."))
	switch {
	case i.Extension != "":
	case bytes.HasPrefix(data, []byte("%PDF-")):
		i.Extension = "pdf"
	case named != "" && len(named) <= maxExtension && !strings.ContainsFunc(named, strange) && !isPicture(named):
		i.Extension = named
	case utf8.Valid(data) && bytes.IndexByte(data, 0) < 0:
		i.Extension = "txt"
	default:
		i.Extension = "bin"
	}
	return i
}

func strange(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }

// isPicture reports whether an extension is one that Picture returns: a name alone makes
// nothing a picture.
func isPicture(extension string) bool {
	switch extension {
	case "png", "jpg", "jpeg", "gif", "webp":
		return true
	}
	return false
}
