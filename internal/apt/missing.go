package apt

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Missing returns those of the names, each with an optional "=VERSION", that
// the suite has no package of. Update must have been called once.
func (r Root) Missing(ctx context.Context, names ...string) ([]string, error) {
	packages := make([]string, len(names))
	for i, n := range names {
		packages[i], _, _ = strings.Cut(n, "=")
	}
	if err := checkPackages(packages...); err != nil {
		return nil, err
	}
	out, err := r.run(ctx, r.Dir, "apt-cache", append([]string{"madison"}, packages...)...)
	if err != nil {
		return nil, fmt.Errorf("look up packages in %s: %w", r.Suite, err)
	}
	var missing []string
	known := parseMadison(string(out))
	for _, p := range packages {
		if !slices.Contains(known, p) {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// parseMadison reads the output of `apt-cache madison`:
//
//	make | 4.4.1-2 | …/debian trixie/main amd64 Packages
func parseMadison(out string) []string {
	var names []string
	for line := range strings.Lines(out) {
		if name, _, ok := strings.Cut(line, "|"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}
