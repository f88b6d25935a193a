package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

// What a block begins and ends with: lines that Markdown does not show. The line break
// before is the block's own, so that taking it out leaves the text as it was.
const (
	blockBegin = "\n<!-- mayfly writes from here at each start -->\n"
	blockEnd   = "<!-- mayfly writes to here -->\n"
)

// seedBlock puts a block into the text file path, which has the content old or could not be
// read because of err.
func seedBlock(path string, old []byte, block string, err error) error {
	perm := os.FileMode(0o600)
	switch fi, statErr := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("settings in %s: %w", path, err)
	case statErr == nil:
		perm = fi.Mode().Perm()
	}
	text := mergeBlock(old, block)
	if bytes.Equal(text, old) {
		return nil
	}
	if len(text) == 0 {
		return os.Remove(path)
	}
	return atomicfile.WriteUnsynced(path, text, perm)
}

// mergeBlock returns text with the block in it: where one is, or else at its end. An empty
// block is taken out. What the user wrote stays, byte for byte, and so does a text
// whose block was cut off.
func mergeBlock(text []byte, block string) []byte {
	if block != "" {
		block = blockBegin + block + blockEnd
	}
	before, rest, ok := bytes.Cut(text, []byte(blockBegin))
	if ok {
		_, after, ok := bytes.Cut(rest, []byte(blockEnd))
		if !ok {
			return text
		}
		return bytes.Join([][]byte{before, after}, []byte(block))
	}
	return append(bytes.Clone(text), block...)
}
