package supervisor

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
)

// A stopped owner does not stop the machine, whatever its guest does meanwhile. What it reads
// when it goes on is whole, and it hears what happens from then on.
func TestStoppedOwner(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil { // as a supervisor gets it
		t.Fatal(err)
	}
	owner := os.NewFile(uintptr(fds[0]), "owner")
	defer owner.Close()
	pipe, err := openOwnerPipe(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.file.Close()
	ev := newEvents(pipe)
	began := time.Now()
	const sent = 500
	for i := range sent {
		ev.send(control.Event{Note: strconv.Itoa(i) + strings.Repeat("x", 1000)})
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%d events took %v", sent, took)
	}
	heard := make(chan string, sent+1)
	go func() {
		defer close(heard)
		lines := bufio.NewScanner(owner)
		for lines.Scan() {
			var e control.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("the owner read %q: %v", lines.Text(), err)
			}
			heard <- e.Note
		}
	}()
	for last := -1; last < 40; last++ { // what fits into a pipe is not lost
		if note := <-heard; !strings.HasPrefix(note, strconv.Itoa(last+1)+"x") {
			t.Fatalf("after event %d came %.20q", last, note)
		}
	}
	for stop := time.Now().Add(time.Minute); time.Now().Before(stop); time.Sleep(10 * time.Millisecond) {
		ev.send(control.Event{Note: "again"})
		for len(heard) > 0 {
			if <-heard == "again" {
				return
			}
		}
	}
	t.Error("the owner hears nothing of what happens after it went on")
}
