package filter

import (
	"maps"
	"slices"
	"strings"
)

// tidy is what the program has made of the terminal, of what package screen does not
// follow.
type tidy struct {
	insert, blink  bool
	title, pointer bool
	colours        map[string]bool // numbers of commands
}

func (t *tidy) colour(number string) {
	if t.colours == nil {
		t.colours = make(map[string]bool)
	}
	t.colours[number] = true
}

// Tidy returns what takes back what the program has set and package screen does not
// follow: insert mode, a blinking cursor, colours, the title and the pointer. A sequence that was not
// ended is forgotten: it did not go out.
func (f *Filter) Tidy() []byte {
	f.drop()
	var b strings.Builder
	t := &f.tidy
	if t.insert {
		b.WriteString("\x1b[4l")
	}
	if t.blink {
		b.WriteString("\x1b[?12l")
	}
	for _, number := range slices.Sorted(maps.Keys(t.colours)) {
		b.WriteString("\x1b]1" + pad(number) + "\a") // 4 is taken back by 104, 10 by 110
	}
	if t.title {
		b.WriteString("\x1b[23;2t")
	}
	if t.pointer {
		b.WriteString("\x1b]22;default\a")
	}
	*t = tidy{}
	return []byte(b.String())
}

func pad(number string) string {
	if len(number) == 1 {
		return "0" + number
	}
	return number
}
