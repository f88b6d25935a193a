package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Change is one package or agent that another version took the place of.
type Change struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"` // empty for one that is new
	To   string `json:"to,omitempty"`   // empty for one that is gone
}

func (c Change) String() string {
	switch {
	case c.From == "":
		return fmt.Sprintf("%s %s (new)", c.Name, c.To)
	case c.To == "":
		return fmt.Sprintf("%s %s (gone)", c.Name, c.From)
	}
	return fmt.Sprintf("%s %s, was %s", c.Name, c.To, c.From)
}

// Update builds the parts of images anew against what Debian's archive has now, and
// returns what differs from before. A part in which no version differs stays what it
// is, so that machines which run with it are not stale. When it fails, every image is
// what it was. Agents are as the lock file has them.
func (s *Store) Update(ctx context.Context, images []plan.Image, progress Progress) ([]Change, error) {
	report := newReporter(progress)
	release, err := s.acquire(ctx, storeLock, false, report.waitingFor("store", "waiting for another mayfly that cleans up the images"))
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	defer release()
	refresh := &refresh{done: make(map[string]string)}
	var changes []Change
	for _, pi := range images {
		w, err := s.resolve(pi)
		if err != nil {
			return changes, fmt.Errorf("update: %w", err)
		}
		before, err := s.versions(w.key)
		if err != nil {
			return changes, fmt.Errorf("update: %w", err)
		}
		b := &builder{Store: s, want: w, report: report, refresh: refresh}
		m, err := b.build(ctx)
		if err == nil {
			err = s.ensureBoot(ctx, m.Kernel, report)
		}
		if err != nil {
			return changes, fmt.Errorf("update: %w", err)
		}
		after, err := s.versions(w.key)
		if err != nil {
			return changes, fmt.Errorf("update: %w", err)
		}
		if before == nil {
			continue // nothing to compare with
		}
		for _, c := range compare(before, after) {
			if !slices.Contains(changes, c) {
				changes = append(changes, c)
			}
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Name, b.Name) })
	return changes, nil
}

// refresh makes a builder build what it has already, once for each recipe.
type refresh struct {
	mu   sync.Mutex        // guards done
	done map[string]string // recipe's key → id
}

func (r *refresh) id(recipeKey string) (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok = r.done[recipeKey]
	return id, ok
}

func (r *refresh) set(recipeKey, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[recipeKey] = id
}

// versions returns the versions of everything in the image with this key, by name; nil
// if it is not built.
func (s *Store) versions(key string) (map[string]string, error) {
	m, err := s.manifest(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	versions := map[string]string{"the kernel": m.Kernel}
	for _, a := range m.Agents {
		versions["agent "+a.Name] = a.Version
	}
	for _, ref := range slices.Backward(m.Layers) {
		list, err := s.layerVersions(ref.DiffID)
		if err != nil {
			return nil, err
		}
		maps.Copy(versions, list) // the upper layer's list has the lower one's in it
	}
	return versions, nil
}

// layerVersions returns the versions of the Debian packages in a layer, none if it has no
// list of them.
func (s *Store) layerVersions(diffID string) (map[string]string, error) {
	im, closer, err := s.openLayer(diffID)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	r, err := im.Open("var/lib/dpkg/status")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseStatus(r)
}

// parseStatus reads dpkg's list of packages, deb822(5).
func parseStatus(r io.Reader) (map[string]string, error) {
	versions := make(map[string]string)
	name := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ": ")
		switch {
		case key == "": // the end of a paragraph
			name = ""
		case key == "Package" && ok:
			name = value
		case key == "Version" && ok && name != "":
			versions[name] = value
		}
	}
	return versions, lines.Err()
}

// compare lists what differs, sorted by name.
func compare(before, after map[string]string) []Change {
	var changes []Change
	for name, version := range after {
		if before[name] != version {
			changes = append(changes, Change{name, before[name], version})
		}
	}
	for name, version := range before {
		if _, ok := after[name]; !ok {
			changes = append(changes, Change{name, version, ""})
		}
	}
	return changes
}

// again builds what a recipe gives anew, once. A layer with the same versions as before
// is not taken: files that a build leaves different by chance are no news.
func (b *builder) again(ctx context.Context, r recipe, recipeKey, old string, make func() (string, error)) (string, error) {
	if id, ok := b.refresh.id(recipeKey); ok {
		return id, nil
	}
	id, err := make()
	if err != nil {
		return "", err
	}
	if old != "" && id != old && r.Role != roleKernel {
		before, err := b.layerVersions(old)
		if err != nil {
			return "", err
		}
		after, err := b.layerVersions(id)
		if err != nil {
			return "", err
		}
		if len(compare(before, after)) == 0 {
			id = old
		}
	}
	b.refresh.set(recipeKey, id)
	return id, nil
}
