package session

import (
	"syscall"
	"time"
)

// endTime is how long a program may take to end after each signal that asks it to.
const endTime = 2 * time.Second

// end ends the program: it is told that its terminal is closed, then asked to end, and
// then killed. It returns when the program has ended, or can do nothing about that.
func (s *Session) end() {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL} {
		if !s.running() {
			return
		}
		s.program.Signal(sig)
		s.program.Signal(syscall.SIGCONT) // one that is stopped would not hear of it
		select {
		case <-s.ended:
			return
		case <-time.After(endTime):
		}
	}
}
