package session

import (
	"io"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Each signal has its time, and none is sent to a program that has ended.
func TestEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		obey syscall.Signal // upon which the program ends; 0 for none
		want []syscall.Signal
		took time.Duration
	}{
		{"at once", syscall.SIGHUP, []syscall.Signal{syscall.SIGHUP}, 0},
		{"asked", syscall.SIGTERM, []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM}, endTime},
		{"killed", syscall.SIGKILL, []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL}, 2 * endTime},
		{"hangs in the kernel", 0, []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL}, 3 * endTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s *Session
				var got []syscall.Signal
				s = newSession("s", nil, wire.Winsize{}, Program{Input: io.Discard, Signal: func(sig syscall.Signal) {
					if sig == syscall.SIGCONT {
						return
					}
					got = append(got, sig)
					if sig == tt.obey {
						s.Exit(Exit{Code: 1})
					}
				}})
				begin := time.Now()
				s.end()
				if took := time.Since(begin); took != tt.took || !slices.Equal(got, tt.want) {
					t.Errorf("end() sent %v in %v; want %v in %v", got, took, tt.want, tt.took)
				}
				if s.running() {
					s.Exit(Exit{Code: 1})
				}
				s.end()
				if !slices.Equal(got, tt.want) {
					t.Errorf("end() of a session that has ended sent %v", got[len(tt.want):])
				}
			})
		})
	}
}
