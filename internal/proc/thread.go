// Package proc gives a program that will meet a hostile guest as little as it
// needs: Landlock rules and no capabilities, put on the thread that starts it,
// and a thread that lives as long as the program, so that the kernel kills the
// one with the other.
//
// What flows in are paths and rights; what flows out is a limited thread. It
// starts nothing by itself.
package proc

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread runs f on a thread that ends with it. The kernel sends the death
// signal when the *thread* that forked ends, prctl(2), so that f has to live as
// long as what it starts. It is never the process's first thread, which never
// ends and stands for the process when that is to be traced or signalled: were
// it limited together with a child, the child could do both.
func OnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		held := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(held)
			f()
		}()
		<-held
		runtime.UnlockOSThread()
	}()
}
