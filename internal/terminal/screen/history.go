package screen

import "slices"

const (
	// historySize is how much of the last output is remembered at least, once
	// there was as much. A program that fills a large screen with colours
	// writes some 100 KiB for it.
	historySize  = 256 << 10
	historySlack = 64 << 10 // more than that is kept before what is old is dropped
	markEvery    = 16 << 10
)

// history is the last output, and where in it a terminal can begin to follow.
type history struct {
	bytes []byte
	start int64 // of bytes[0], counted from the first output

	marks  []mark  // one in each markEvery bytes, ascending
	clears [2]mark // where the main and the alternate screen were last empty; at < 0 for nowhere
	begun  bool
}

// mark is a place between two sequences, and the modes there.
type mark struct {
	at    int64
	modes modes
}

func (h *history) end() int64 { return h.start + int64(len(h.bytes)) }

// add appends whole sequences, before which the modes are m.
func (h *history) add(p []byte, m *modes) {
	h.begin()
	for len(p) > markEvery { // a mark is needed in each
		h.add(p[:markEvery], m)
		p = p[markEvery:]
	}
	if n := len(h.marks); n == 0 || h.end()-h.marks[n-1].at >= markEvery {
		h.marks = append(h.marks, mark{h.end(), *m})
	}
	h.bytes = append(h.bytes, p...)
	if len(h.bytes) < historySize+historySlack {
		return
	}
	drop := len(h.bytes) - historySize
	h.bytes = slices.Delete(h.bytes, 0, drop)
	h.start += int64(drop)
	old := 0
	for old < len(h.marks) && h.marks[old].at < h.start {
		old++
	}
	h.marks = slices.Delete(h.marks, 0, old)
}

func (h *history) begin() {
	if !h.begun {
		// At first both are empty.
		h.begun = true
		h.clears[1].at = -1
	}
}

// clear says that the next sequence empties the screen that m shows.
func (h *history) clear(m *modes) {
	h.begin()
	h.clears[m.alternate()] = mark{h.end(), *m}
}

// enterAlternate says that the next sequence shows an empty alternate screen
// instead of the main one, whose modes are m.
func (h *history) enterAlternate(m *modes) {
	h.begin()
	h.clears[1] = mark{h.end(), *m}
}

// since returns the output from where the screen that is shown was last empty,
// and the modes there. If that was forgotten it begins at the first mark that
// was not.
func (h *history) since(alternate int) (m modes, out []byte) {
	if c := h.clears[alternate]; c.at >= h.start {
		return c.modes, h.bytes[c.at-h.start:]
	}
	if len(h.marks) == 0 {
		return modes{}, h.bytes
	}
	c := h.marks[0]
	return c.modes, h.bytes[c.at-h.start:]
}
