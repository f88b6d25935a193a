package supervisor

import (
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
)

// consoleLimit is the size in bytes at which a console's file is set aside as
// FILE.old and begun anew, so that two of them are kept at most.
const consoleLimit = 512 << 10

// console keeps what a guest's kernel prints. The guest decides how much that
// is.
type console struct {
	path string

	mu   sync.Mutex // guards what follows
	file *os.File
	size int
	tail []byte // the last lines
}

const tailBytes = 16 << 10

func newConsole(path string) (*console, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &console{path: path, file: f}, nil
}

// copy keeps what comes from r until it ends.
func (c *console) copy(r io.Reader) {
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		c.write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (c *console) write(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	if extra := len(c.tail) - tailBytes; extra > 0 {
		c.tail = append(c.tail[:0], c.tail[extra:]...)
	}
	if c.size+len(p) > consoleLimit {
		if err := c.rotateLocked(); err != nil {
			return // a full disk must not stop the machine
		}
	}
	n, _ := c.file.Write(p)
	c.size += n
}

func (c *console) rotateLocked() error {
	f, err := os.OpenFile(c.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(os.Rename(c.path, c.path+".old"), os.Rename(c.path+".new", c.path))
	c.file.Close()
	c.file, c.size = f, 0
	return err
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file.Close()
}

// failure matches the first line of what a kernel says when it dies.
var failure = regexp.MustCompile(`Kernel panic|Oops|BUG:|double fault|Unable to mount`)

// end returns the last lines, or the first lines of the kernel's last words if
// there are such, safe to print.
func (c *console) end(lines int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.ReplaceAll(string(c.tail), "\r", "")
	all := strings.Split(strings.TrimSpace(text), "\n")
	if i := slices.IndexFunc(all, failure.MatchString); i >= 0 {
		all = all[i:min(i+lines, len(all))]
	} else if len(all) > lines {
		all = all[len(all)-lines:]
	}
	for i, line := range all {
		all[i] = client.Printable(line)
	}
	return strings.Join(all, "\n")
}
