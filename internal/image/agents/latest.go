package agents

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// Latest returns the agent in the newest version that the host's npm knows, with the
// hash that the registry gives for it: whoever pins it trusts the registry once.
func Latest(ctx context.Context, a Named) (Named, error) {
	at := strings.LastIndexByte(a.NPM, '@')
	name, pinned := a.NPM[:at], a.NPM[at+1:]
	var version string
	if err := npmView(ctx, &version, name, "version"); err != nil {
		return a, fmt.Errorf("agent %s: %w", a.Name, err)
	}
	// Some have a version for each platform: 0.169.0-linux-x64.
	suffix, ok := strings.CutPrefix(pinned, a.Version)
	if !ok {
		return a, fmt.Errorf("agent %s: %s is not version %s", a.Name, a.NPM, a.Version)
	}
	if version = strings.TrimSuffix(version, suffix); !versionPattern().MatchString(version) {
		// Before npm is asked for what it could take for something else.
		return a, fmt.Errorf("agent %s: what the registry says of %s: version = %q; want one such as 2.1.330", a.Name, name, version)
	}
	if version == a.Version {
		return a, nil
	}
	a.Version, a.NPM = version, name+"@"+version+suffix
	var dist struct {
		Integrity string `json:"integrity"`
		Size      int64  `json:"unpackedSize"`
	}
	if err := npmView(ctx, &dist, a.NPM, "dist"); err != nil {
		return a, fmt.Errorf("agent %s: %w", a.Name, err)
	}
	a.Integrity, a.Size = dist.Integrity, dist.Size
	if err := a.check(a.Name); err != nil {
		return a, fmt.Errorf("agent %s: what the registry says of %s: %w", a.Name, a.NPM, err)
	}
	if _, err := a.sum(); err != nil {
		return a, fmt.Errorf("agent %s: what the registry says of %s: %w", a.Name, a.NPM, err)
	}
	return a, nil
}

// npmView reads one field of a package's entry in the registry.
func npmView(ctx context.Context, v any, pkg, field string) error {
	dir, err := os.MkdirTemp("", "mayfly-npm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var out bytes.Buffer
	err = tool.Run(ctx, tool.Cmd{Name: "npm", Args: []string{"view", "--json", pkg, field}, Dir: dir, Stdout: &out})
	if errors.Is(err, exec.ErrNotFound) {
		return fault.New(fault.NPMMissing, nil, "look for a newer version: %w", err)
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), v)
	}
	if err != nil {
		return fmt.Errorf("npm view %s %s: %w", pkg, field, err)
	}
	return nil
}

// Pin writes agents into the lock file at path, in the place of those of the same name.
func Pin(path string, list []Named) error {
	lock := Lock{Version: 1, Agents: make(map[string]Agent)}
	data, err := os.ReadFile(path)
	if err == nil {
		lock, err = parse(data)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.AgentsLockInvalid, fault.Args{"file": path}, "%s: %w", path, err)
	}
	lock.Agents = maps.Clone(lock.Agents)
	for _, a := range list {
		lock.Agents[a.Name] = a.Agent
	}
	if data, err = json.MarshalIndent(lock, "", "  "); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o644)
}
