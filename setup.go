package mayfly

import (
	"context"
	"fmt"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/importer/bundle"
)

// SetupChange is something that a set-up would bring.
type SetupChange struct {
	Kind string `json:"kind"`          // SetupRefused, …
	In   string `json:"in"`            // "machine web", "profile go-work"
	Key  string `json:"key,omitempty"` // as in the file: "network.allow"
	Text string `json:"text"`          // words of the set-up are quoted in it
	// Of what is refused: what kind of failure it is, as in an Error.
	Code string            `json:"code,omitempty"`
	Args map[string]string `json:"args,omitempty"`
}

// SetupRefused is the kind of what nobody should agree to.
const SetupRefused = string(bundle.Refuse)

func newSetupChange(c bundle.Change) SetupChange {
	return SetupChange{string(c.Kind), c.In, c.Key, c.Text, string(c.Code), c.Args}
}

// Setup is a set-up of machines that was reviewed and not made yet.
type Setup struct {
	From   string
	SHA256 string
	// Changes are all that it would bring.
	Changes []SetupChange

	s *engine.Setup
}

// Export returns the machines with these names, all that are defined without any, and the
// user's own profiles that they use, as one file; and what a review of it says. No secret
// is in it.
func (c *Client) Export(names ...string) (data []byte, sha256 string, changes []SetupChange, err error) {
	data, review, err := c.e.Export(names)
	if err != nil {
		return nil, "", nil, public(err)
	}
	return data, bundle.Sum(data), convert(review, newSetupChange), nil
}

// ReviewSetup fetches a set-up that Export wrote, from a file, a URL or a git repository,
// and reviews it. base is what relative paths of it are relative to, and maps are
// FROM=TO: where a path of the set-up is on this computer. Nothing that comes with it runs.
func (c *Client) ReviewSetup(ctx context.Context, from, base string, maps []string) (*Setup, error) {
	src, err := bundle.ParseSource(from)
	if err != nil {
		return nil, public(engine.InputError{Err: err})
	}
	where, err := placement(base, maps)
	if err != nil {
		return nil, public(engine.InputError{Err: err})
	}
	s, err := c.e.ReviewSetup(ctx, src, where)
	if err != nil {
		return nil, public(err)
	}
	return &Setup{s.From, s.SHA256, convert(s.Changes, newSetupChange), s}, nil
}

// Empty reports whether there is nothing to make.
func (s *Setup) Empty() bool { return s.s.Empty() }

// Refused is the error of a review that refuses something, nil for none.
func (s *Setup) Refused() error { return public(s.s.Refused()) }

// Try finds out what is wrong with the files, and makes nothing.
func (s *Setup) Try() error { return public(s.s.Try()) }

// Make makes all that the review has, or nothing.
func (s *Setup) Make(ctx context.Context) ([]Defined, error) {
	made, err := s.s.Make(ctx)
	return convert(made, newDefined), public(err)
}

func placement(base string, maps []string) (bundle.Placement, error) {
	where := bundle.Placement{Base: base}
	if base != "" {
		if err := bundle.CheckBase(base); err != nil {
			return where, fmt.Errorf("base %w", err)
		}
	}
	for _, text := range maps {
		m, err := bundle.ParseMap(text)
		if err != nil {
			return where, fmt.Errorf("map %w", err)
		}
		where.Maps = append(where.Maps, m)
	}
	return where, nil
}
