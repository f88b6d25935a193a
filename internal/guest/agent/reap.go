package agent

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper waits for every child of PID 1: the programs that it started, and the
// orphans that the kernel gives it. There is one waiter for all, since a
// wait for one process would race with the wait for any.
type reaper struct {
	mu      sync.Mutex // guards waiting; held while a program is started
	waiting map[int]chan<- syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{waiting: make(map[int]chan<- syscall.WaitStatus)}
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGCHLD)
	go func() {
		for range sigs {
			r.reap()
		}
	}()
	return r
}

// start runs fork, with the limits of programs, which returns a new child's pid. The channel gets the
// child's status when it ends.
func (r *reaper) start(fork func() (pid int, err error)) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := withFileLimit(fork)
	if err != nil {
		return 0, nil, err
	}
	status := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = status
	return pid, status, nil
}

// reap collects the children that have ended, continues those that have stopped, and reports
// whether any is left.
func (r *reaper) reap() (left bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG|syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return err == nil
		}
		r.mu.Lock()
		if ws.Stopped() {
			// A program that suspends itself hands the terminal to the shell that it
			// was started from. Where there is none, nobody could ever continue it.
			if _, ok := r.waiting[pid]; ok {
				continueGroup(pid)
			}
		} else if status, ok := r.waiting[pid]; ok {
			status <- ws
			delete(r.waiting, pid)
		}
		r.mu.Unlock()
	}
}

// continueGroup continues a process group that is stopped.
func continueGroup(group int) {
	syscall.Kill(-group, syscall.SIGCONT)
	syscall.Kill(-group, syscall.SIGWINCH) // it may draw its screen anew
}

// endTimeout is the time that programs have to end by themselves when the machine does.
const endTimeout = 3 * time.Second

// endAll asks every process to end, as when a terminal and then a computer are
// switched off, and kills those that have not within timeout.
func (r *reaper) endAll(timeout time.Duration) {
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGCONT} {
		unix.Kill(-1, sig)
	}
	for deadline := time.Now().Add(timeout); r.reap() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	r.killAll()
}

// killTimeout bounds the wait for processes that hang in the kernel.
const killTimeout = time.Second

// killAll kills every process but this one and the kernel's, and waits until
// those that can die are dead. kill(2) cannot tell when that is: it counts the
// kernel's threads. But whoever is killed becomes our child when its parent
// dies, so that nobody is left when we have no child.
func (r *reaper) killAll() {
	for deadline := time.Now().Add(killTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		unix.Kill(-1, unix.SIGKILL)
		if !r.reap() {
			return
		}
	}
}
