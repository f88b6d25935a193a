package agents

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// Prefix is the directory below which each agent has one of its own name.
const Prefix = "/opt/mayfly/agents"

// maxFile bounds one unpacked file; the largest agent has 400 MB.
const maxFile = 4 << 30

// epoch is the time of all files: npm's own fixed time, which is also in the
// archives.
func epoch() time.Time { return time.Date(1985, 10, 26, 8, 15, 0, 0, time.UTC) }

// Fetch downloads the agents' archives into dir and checks them. Its result is
// for WriteLayer.
func Fetch(ctx context.Context, list []Named, dir string) (archives []string, err error) {
	args := []string{"pack", "--json", "--ignore-scripts", "--pack-destination", dir}
	for _, a := range list {
		args = append(args, a.NPM)
	}
	var out bytes.Buffer
	// dir is the working directory also to keep npm from the configuration
	// file of whatever project the user is in.
	err = tool.Run(ctx, tool.Cmd{Name: "npm", Args: args, Dir: dir, Stdout: &out})
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fault.New(fault.AgentsWithoutNPM, nil, "fetch agents: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch agents: %w", err)
	}
	var packed []struct {
		ID       string `json:"id"`
		Filename string `json:"filename"`
	}
	if err := json.Unmarshal(out.Bytes(), &packed); err != nil {
		return nil, fmt.Errorf("fetch agents: output of npm pack: %w", err)
	}
	if len(packed) != len(list) {
		return nil, fmt.Errorf("fetch agents: npm packed %d packages; want %d", len(packed), len(list))
	}
	for i, a := range list {
		// Old versions of npm print "@scope/name.tgz" and write
		// "scope-name.tgz".
		name := strings.ReplaceAll(strings.TrimPrefix(packed[i].Filename, "@"), "/", "-")
		file := filepath.Join(dir, name)
		if err := a.verify(file); err != nil {
			return nil, err
		}
		archives = append(archives, file)
	}
	return archives, nil
}

// verify checks the archive's hash. npm has checked it against what the
// registry says; this is against what the lock file says.
func (n Named) verify(file string) error {
	want, err := n.sum()
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("agent %s: %w", n.Name, err)
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("agent %s: %w", n.Name, err)
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return fault.New(fault.AgentArchiveWrong, fault.Args{"agent": n.Name, "package": n.NPM},
			"agent %s: %s is not the archive that the lock file names", n.Name, n.NPM)
	}
	return nil
}

// WriteLayer writes a tar stream with the agents and a symbolic link in
// /usr/local/bin to each. It is determined by the lock file alone.
func WriteLayer(ctx context.Context, list []Named, archives []string, w io.Writer) error {
	tw := tar.NewWriter(w)
	made := make(map[string]bool)
	for i, a := range list {
		if err := a.unpack(ctx, tw, archives[i], made); err != nil {
			return fmt.Errorf("agent %s: %w", a.Name, err)
		}
	}
	for _, a := range list {
		link := "usr/local/bin/" + a.Name
		if err := mkdirs(tw, made, path.Dir(link)); err != nil {
			return err
		}
		err := tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeSymlink,
			Name:     link,
			Linkname: path.Join(Prefix, a.Name, a.Bin),
			Mode:     0o777,
			ModTime:  epoch(),
		})
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

// unpack copies the wanted files of an npm archive. Everything is in one top
// directory of it, "package" by custom.
func (n Named) unpack(ctx context.Context, tw *tar.Writer, archive string, made map[string]bool) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	tr := tar.NewReader(gz)
	found := false
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		_, name, _ := strings.Cut(path.Clean(h.Name), "/")
		if h.Typeflag != tar.TypeReg || !n.wants(name) {
			continue
		}
		if h.Size > maxFile {
			return fmt.Errorf("%s has %d bytes", name, h.Size)
		}
		found = found || name == n.Bin
		mode := int64(0o644)
		if h.Mode&0o100 != 0 || name == n.Bin {
			mode = 0o755
		}
		to := path.Join(strings.TrimPrefix(Prefix, "/"), n.Name, name)
		if err := mkdirs(tw, made, path.Dir(to)); err != nil {
			return err
		}
		out := &tar.Header{Typeflag: tar.TypeReg, Name: to, Size: h.Size, Mode: mode, ModTime: epoch()}
		if err := tw.WriteHeader(out); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("the package %s has no file %s", n.NPM, n.Bin)
	}
	return nil
}

// mkdirs writes the directories on the way to dir that are not written yet.
func mkdirs(tw *tar.Writer, made map[string]bool, dir string) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := mkdirs(tw, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch()})
}
