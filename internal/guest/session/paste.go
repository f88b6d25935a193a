package session

import (
	"bytes"
	"errors"
	"time"
)

// What a terminal puts around what is pasted, for a program that wants to know.
const (
	pasteBegin = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// paste types texts at the program, with spaces between, each as one that is pasted. It
// waits for nothing: a program that has not read what was typed before gets none of it.
func (s *Session) paste(texts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exited {
		return errors.New("the session has ended")
	}
	begin, end := "", ""
	if s.screen.Pastes() {
		begin, end = pasteBegin, pasteEnd
	}
	var data bytes.Buffer
	for i, text := range texts {
		if i > 0 {
			data.WriteByte(' ')
		}
		data.WriteString(begin + text + end)
	}
	select {
	case s.input <- input{nil, data.Bytes()}:
	default:
		return errors.New("the program does not read its input")
	}
	// It is input like what a viewer types, and draws the program's attention likewise.
	s.lastInput, s.quiet = time.Now(), quiet{}
	s.why, s.notice = "", ""
	return nil
}
