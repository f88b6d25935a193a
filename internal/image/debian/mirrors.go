package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/apt"
)

// DefaultMirrors returns the mirrors that mmdebstrap itself would use, for hosts
// whose apt knows none of Debian.
func (b Builder) DefaultMirrors(ctx context.Context) (apt.Mirrors, error) {
	// Without the update this gives little more than the directories of apt, in
	// which mmdebstrap has written its sources. It takes no network.
	b.Text = nil // no stage of a build
	var root bytes.Buffer
	err := b.run(ctx, []string{"--variant=custom", "--skip=update,cleanup,check/signed-by"}, nil, &root)
	if err != nil {
		return apt.Mirrors{}, fmt.Errorf("find a mirror of Debian: %w", err)
	}
	text, err := aptSources(&root)
	if err != nil {
		return apt.Mirrors{}, fmt.Errorf("find a mirror of Debian: %w", err)
	}
	mirrors := apt.ParseMirrors(text)
	if mirrors.Archive == "" {
		return apt.Mirrors{}, fmt.Errorf("find a mirror of Debian: mmdebstrap names none in %.300q", text)
	}
	return mirrors, nil
}

// aptSources returns the text of the files of apt's sources in a root.
func aptSources(root io.Reader) (string, error) {
	var text strings.Builder
	for files := tar.NewReader(root); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(name, "etc/apt/sources.list") {
			continue
		}
		if _, err := io.Copy(&text, files); err != nil {
			return "", err
		}
		text.WriteString("\n\n") // ends a line and a stanza
	}
}

// sources returns the lines of the root's sources.list.
func (b Builder) sources() ([]string, error) {
	keyring, err := apt.Keyring()
	if err != nil {
		return nil, err
	}
	// Ubuntu's apt does not trust Debian's keys by itself, and any host's may
	// trust others' as well. The keys have the same path in the root.
	deb := func(uri, suite string) string {
		return "deb [signed-by=" + keyring + "] " + uri + " " + suite + " main"
	}
	lines := []string{deb(b.Mirrors.Archive, b.Suite), deb(b.Mirrors.Archive, b.Suite+"-updates")}
	if b.Mirrors.Security != "" {
		lines = append(lines, deb(b.Mirrors.Security, b.Suite+"-security"))
	}
	return lines, nil
}
