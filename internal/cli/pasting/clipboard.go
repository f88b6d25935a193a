package pasting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

const (
	// clipboardTime bounds each question to the clipboard: it is answered by the program
	// that has set it, which may be stopped.
	clipboardTime = 10 * time.Second
	// maxTypes bounds the list of what the clipboard can be had as, in bytes.
	maxTypes = 64 << 10
	// maxFiles bounds the files of one clipboard.
	maxFiles = 16
)

const insteadHint = "mayfly paste NAME FILE"

// The types of what is taken of a clipboard, the first that there is before all others.
var (
	pictureTypes = []string{"image/png", "image/jpeg", "image/webp", "image/gif"}
	textTypes    = []string{"text/plain;charset=utf-8", "UTF8_STRING", "text/plain", "STRING"}
)

const filesType = "text/uri-list"

// clipboard asks a program for what is on the clipboard.
type clipboard struct {
	program string
	types   []string                   // arguments that list its types, one a line
	content func(kind string) []string // that print it as one of them
}

// wayland and x11 are the programs for the two kinds of display.
var (
	wayland = clipboard{"wl-paste", []string{"--list-types"}, func(kind string) []string {
		return []string{"--no-newline", "--type", kind}
	}}
	x11 = clipboard{"xclip", []string{"-selection", "clipboard", "-o", "-t", "TARGETS"}, func(kind string) []string {
		return []string{"-selection", "clipboard", "-o", "-t", kind}
	}}
)

// Clipboard returns what is on the clipboard of the host: a picture, else files, else a
// text.
func Clipboard(ctx context.Context, getenv func(string) string) ([]Item, error) {
	c, err := display(getenv)
	if err != nil {
		return nil, err
	}
	listed, err := c.ask(ctx, maxTypes, c.types)
	types := strings.Fields(string(listed))
	if c.program == wayland.program { // whose types can have spaces in them
		types = strings.Split(strings.TrimSpace(string(listed)), "\n")
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed || err == nil && len(listed) == 0 {
		return nil, hint.Errorf("copy something, or "+insteadHint, "there is nothing on the clipboard")
	}
	if err != nil {
		return nil, err
	}
	has := func(of []string) string {
		for _, t := range of {
			if slices.Contains(types, t) {
				return t
			}
		}
		return ""
	}
	if t := has(pictureTypes); t != "" {
		data, err := c.ask(ctx, MaxBytes, c.content(t))
		if err != nil {
			return nil, err
		}
		if Picture(data) == "" {
			return nil, hint.Errorf(insteadHint, "what is on the clipboard as %s is none", t)
		}
		return []Item{NewItem("", data)}, nil
	}
	if slices.Contains(types, filesType) {
		list, err := c.ask(ctx, maxTypes, c.content(filesType))
		if err != nil {
			return nil, err
		}
		if paths := filePaths(string(list)); len(paths) > 0 {
			return files(paths)
		}
	}
	t := has(textTypes)
	if t == "" {
		return nil, hint.Errorf(insteadHint, "there is neither a picture, nor a file, nor a text on the clipboard")
	}
	data, err := c.ask(ctx, MaxBytes, c.content(t))
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, hint.Errorf("copy something, or "+insteadHint, "there is nothing on the clipboard")
	}
	return []Item{NewItem("", data)}, nil
}

// display returns how to ask the clipboard of the display that there is.
func display(getenv func(string) string) (clipboard, error) {
	var missing string
	for _, d := range []struct {
		variable, deb string
		c             clipboard
	}{{"WAYLAND_DISPLAY", "wl-clipboard", wayland}, {"DISPLAY", "xclip", x11}} {
		if getenv(d.variable) == "" {
			continue
		}
		if _, err := exec.LookPath(d.c.program); err == nil {
			return d.c, nil
		}
		if missing == "" {
			missing = d.deb
		}
	}
	if missing != "" {
		return clipboard{}, hint.Errorf("sudo apt install "+missing+", or "+insteadHint, "nothing here reads the clipboard: the package %s is not installed", missing)
	}
	return clipboard{}, hint.Errorf(insteadHint, "there is no clipboard here: neither WAYLAND_DISPLAY nor DISPLAY is set")
}

// ask runs the program, and returns at most limit bytes that it prints.
func (c clipboard) ask(ctx context.Context, limit int, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, clipboardTime, fmt.Errorf("read the clipboard: %s does not answer", c.program))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("read the clipboard: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(out, int64(limit)+1))
	if len(data) > limit {
		cancel()
		cmd.Wait()
		return nil, hint.Errorf(insteadHint, "what is on the clipboard has more than %d KiB", limit>>10)
	}
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("read the clipboard: %s: %w", c.program, err)
	}
	return data, nil
}

// filePaths returns the files of this host in a list of URLs.
func filePaths(list string) []string {
	var paths []string
	for line := range strings.Lines(list) {
		if p := filePath(strings.TrimSpace(line)); p != "" {
			paths = append(paths, p)
		}
	}
	return paths
}

// filePath returns the path of a file:// URL of this host, else "".
func filePath(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" || !filepath.IsAbs(u.Path) {
		return ""
	}
	return filepath.Clean(u.Path)
}

// files reads the files of a clipboard. A page in a browser may have put them there, and so
// none is taken that could be a key or a setting.
func files(paths []string) ([]Item, error) {
	if len(paths) > maxFiles {
		return nil, hint.Errorf(insteadHint, "there are %d files on the clipboard; %d are the most", len(paths), maxFiles)
	}
	var items []Item
	total := 0
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			return nil, err
		}
		if hidden(p) || hidden(real) {
			return nil, hint.Errorf(insteadHint, "%s is hidden, and hidden files are not taken from the clipboard", termsafe.Quote(p))
		}
		data, err := userfile.Read(real, MaxBytes-total)
		if err != nil {
			return nil, err
		}
		total += len(data)
		items = append(items, NewItem(p, data))
	}
	return items, nil
}

// hidden reports whether a path has a part that begins with a dot.
func hidden(p string) bool { return strings.Contains(p, "/.") }
