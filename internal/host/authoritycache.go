package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A distribution brings some 150 certificates, most of them a file each. To read them
// takes longer than the rest of a probe, so what came of it is kept for as long as the
// files are the same.

// knownAuthoritiesFile is where the answer is kept, in the cache directory.
const knownAuthoritiesFile = "authorities.json"

// knownAuthorities is what the host trusts, and which files say so.
type knownAuthorities struct {
	List    []Authority `json:"list"`
	Omitted int         `json:"omitted"`
	Sources string      `json:"sources"` // authoritySources
}

// rememberedAuthorities is probeAuthorities with a memory.
func (o Options) rememberedAuthorities(now time.Time) (list []Authority, omitted int) {
	if o.Fresh || o.Dirs.Cache == "" {
		return probeAuthorities(o, now)
	}
	name := filepath.Join(o.Dirs.Cache, knownAuthoritiesFile)
	sources := authoritySources(o)
	var known knownAuthorities
	if data, err := os.ReadFile(name); err == nil && json.Unmarshal(data, &known) == nil && known.Sources == sources {
		expired := func(a Authority) bool { return now.After(a.Until) }
		if !slices.ContainsFunc(known.List, expired) {
			return known.List, known.Omitted
		}
	}
	list, omitted = probeAuthorities(o, now)
	// Who only asks what would be leaves nothing: a start makes the directory.
	if _, err := os.Stat(o.Dirs.Cache); err != nil {
		return list, omitted
	}
	if data, err := json.Marshal(knownAuthorities{list, omitted, sources}); err == nil {
		o.remember(name, data)
	}
	return list, omitted
}

// authoritySources returns what changes when a file does that probeAuthorities looks at.
// It opens none of them.
func authoritySources(o Options) string {
	h := sha256.New()
	file := func(path string) {
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			fmt.Fprintln(h, path, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
		}
	}
	for _, path := range bundleFiles {
		file(o.path(path))
	}
	// A package's files are replaced, which changes their directory: to look at each would
	// take as long as to read them.
	for _, dir := range distributionDirs {
		file(o.path(dir))
	}
	for _, dir := range anchorDirs {
		dir = o.path(dir)
		for _, name := range fileNames(dir) {
			file(filepath.Join(dir, name))
		}
	}
	for _, path := range namedAuthorities(o) {
		io.WriteString(h, path+"\n") // the name counts, too
		file(o.path(path))
	}
	return hex.EncodeToString(h.Sum(nil))
}
