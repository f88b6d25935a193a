package terminal

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Progress shows what takes time: on a terminal one line that changes, with a
// clock; elsewhere a plain line for each step. What is quick shows nothing.
type Progress struct {
	w       io.Writer
	tty     bool
	verbose bool

	mu      sync.Mutex // guards what follows
	text    string
	began   time.Time
	shown   bool // the line stands on the terminal
	stopped bool
	ticker  chan struct{} // closed to end the clock
}

// quick is the time below which a step is not shown on a terminal.
const quick = 700 * time.Millisecond

// NewProgress returns a display on w, which says more when verbose.
func NewProgress(w *os.File, verbose bool) *Progress {
	p := &Progress{w: w, tty: Is(w), verbose: verbose, ticker: make(chan struct{})}
	if p.tty {
		go p.clock()
	}
	return p
}

func (p *Progress) clock() {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-p.ticker:
			return
		case <-t.C:
			p.mu.Lock()
			if took := time.Since(p.began); p.text != "" && took > quick {
				fmt.Fprintf(p.w, "\r\x1b[Kmayfly: %s %.0fs", p.text, took.Seconds())
				p.shown = true
			}
			p.mu.Unlock()
		}
	}
}

// Step begins a step; an empty text only ends the one before.
func (p *Progress) Step(text string, plain bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
	if p.stopped {
		return
	}
	p.text, p.began = text, time.Now()
	if text != "" && (!p.tty && plain || p.verbose) {
		fmt.Fprintf(p.w, "mayfly: %s\n", text)
	}
}

// Update says more of the step, or begins one that is only for a terminal.
func (p *Progress) Update(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	if p.text == "" {
		p.began = time.Now()
	}
	p.text = text
}

func (p *Progress) endLocked() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
	if p.text != "" && p.verbose {
		fmt.Fprintf(p.w, "mayfly: %s: %.2fs\n", p.text, time.Since(p.began).Seconds())
	}
	p.text = ""
}

// Stop ends the display. It may be called more than once.
func (p *Progress) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
	if !p.stopped {
		p.stopped = true
		close(p.ticker)
	}
}
