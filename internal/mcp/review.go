package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	mostChanges = 300
	mostPatch   = 48 << 10
	mostHosts   = 50
)

// diffInput are the arguments of diff.
type diffInput struct {
	Path  string `json:"path,omitempty" jsonschema:"only what is there or below, relative to the workspace"`
	Patch bool   `json:"patch,omitempty" jsonschema:"also the lines that differ"`
}

// diffOutput is the result of diff.
type diffOutput struct {
	Changes   []change `json:"changes,omitempty"`
	Commits   []string `json:"commits,omitempty" jsonschema:"branches with commits that the user does not have"`
	Ignored   int      `json:"ignored,omitempty" jsonschema:"how many files differ that the user's git ignores"`
	Patch     string   `json:"patch,omitempty"`
	Truncated bool     `json:"truncated,omitempty"`
	Review    string   `json:"review" jsonschema:"what the user can type to review and apply the changes"`
}

// change is a path that differs.
type change struct {
	Op    string   `json:"op" jsonschema:"A added, M modified, D deleted, R renamed"`
	Path  string   `json:"path"`
	From  string   `json:"from,omitempty"`
	Class string   `json:"class,omitempty" jsonschema:"ordinary; builds or runs: executed on the user's computer when building, or by itself; suspicious"`
	Why   []string `json:"why,omitempty"`
}

func (s *Server) diff(ctx context.Context, c *call, in diffInput) (diffOutput, error) {
	m, err := s.machine(ctx, c)
	if err != nil {
		return diffOutput{}, err
	}
	switch p := m.Plan(); {
	case p.Workspace == "":
		return diffOutput{}, errors.New("the machine has no workspace")
	case p.Mode == "share":
		return diffOutput{}, errors.New("the workspace is a live share: what the machine writes is in the user's directory already")
	}
	set, err := m.ChangesToApply(ctx, false)
	if err != nil {
		return diffOutput{}, err
	}
	defer set.Close()
	if err := set.Review(ctx, mayfly.ReviewOptions{}); err != nil {
		return diffOutput{}, err
	}
	var sel mayfly.Selection
	if in.Path != "" {
		sel.Paths = []string{set.Path(guestPath(m, in.Path))}
	}
	list, err := set.Selected(sel)
	if err != nil {
		return diffOutput{}, err
	}
	out := diffOutput{Ignored: set.IgnoredFiles, Review: fmt.Sprintf("mayfly diff %s; mayfly apply %s", m.Name(), m.Name())}
	var patch strings.Builder
	for _, one := range list {
		if one.LeftOut {
			out.Ignored++
			continue
		}
		if len(out.Changes) == mostChanges {
			out.Truncated = true
			break
		}
		item := change{Op: one.Op, Path: oneLine(one.Path), From: oneLine(one.From), Class: string(one.Class)}
		for _, f := range one.Rules {
			item.Why = append(item.Why, oneLine(strings.TrimSpace(f.Reason+" "+f.Detail)))
		}
		out.Changes = append(out.Changes, item)
		if in.Patch && patch.Len() < mostPatch {
			if err := writePatch(&patch, set, one); err != nil {
				return diffOutput{}, err
			}
		}
	}
	out.Patch = termsafe.Clip(patch.String(), mostPatch)
	out.Truncated = out.Truncated || patch.Len() >= mostPatch
	for _, r := range set.Repositories {
		for _, b := range r.Branches {
			out.Commits = append(out.Commits, oneLine(fmt.Sprintf("%s: %s, %d commits", r.Dir, b.Name, b.Count)))
		}
	}
	return out, nil
}

// writePatch writes the lines of a change that differ.
func writePatch(b *strings.Builder, set *mayfly.ChangeSet, c mayfly.Change) error {
	p, err := set.Patch(c)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "--- %s\n+++ %s\n", oneLine(cmp.Or(c.From, c.Path)), oneLine(c.Path))
	if p.Opaque != "" {
		fmt.Fprintf(b, "(%s)\n", p.Opaque)
	}
	for _, h := range p.Hunks {
		fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", h.Old[0], h.Old[1], h.New[0], h.New[1])
		for _, line := range h.Lines {
			if b.Len() >= mostPatch {
				return nil
			}
			visible(b, strings.ToValidUTF8(strings.TrimRight(termsafe.Clip(line, mostPatch), "\r\n"), "\ufffd"))
			b.WriteByte('\n')
		}
	}
	return nil
}

// networkInput are the arguments of network.
type networkInput struct{}

// networkOutput is the result of network.
type networkOutput struct {
	Mode    string        `json:"mode" jsonschema:"user, bridge or none"`
	Egress  string        `json:"egress" jsonschema:"what of hosts without a rule may be reached: public, allowlist (nothing) or none"`
	Allowed []string      `json:"allowed,omitempty"`
	Refused []refusedHost `json:"refused,omitempty" jsonschema:"what was refused most often first; names are the guest's words"`
	User    []string      `json:"user,omitempty" jsonschema:"what the user, and only the user, can type to allow the last refused hosts"`
}

// refusedHost is a host that was refused.
type refusedHost struct {
	Host  string `json:"host"`
	Port  int    `json:"port,omitempty"`
	Count int    `json:"count"`
	Note  string `json:"note,omitempty"`
}

func (s *Server) network(ctx context.Context, c *call, _ networkInput) (networkOutput, error) {
	m, err := s.machine(ctx, c)
	if err != nil {
		return networkOutput{}, err
	}
	if p := m.Plan(); p.Network.Mode == "none" {
		return networkOutput{Mode: p.Network.Mode, Egress: "none"}, nil
	}
	st, err := s.o.Network(m.Name())
	if err != nil {
		return networkOutput{}, err
	}
	out := networkOutput{Mode: st.Mode, Egress: st.Egress}
	for _, r := range st.Allow[:min(len(st.Allow), mostHosts)] {
		out.Allowed = append(out.Allowed, oneLine(r.String()))
	}
	for _, d := range st.Denied[:min(len(st.Denied), mostHosts)] {
		refused := refusedHost{Host: oneLine(d.Host), Port: d.Port, Count: d.Count}
		if d.Needless != "" {
			refused.Note = d.Needless + " tries this and needs nothing of it"
		}
		out.Refused = append(out.Refused, refused)
		if text, ok := allow(m.Name(), d); ok && d.Needless == "" && !slices.Contains(out.User, text) {
			out.User = append(out.User, text)
		}
	}
	return out, nil
}

// allow returns the command with which the user allows a host.
func allow(machine string, d mayfly.Denied) (string, bool) {
	rule := d.Host
	if d.Port != 0 && d.Port != 80 && d.Port != 443 {
		rule = fmt.Sprintf("%s:%d", rule, d.Port)
	}
	// The name is the guest's, and the user may type what is returned.
	r, err := mayfly.ParseRule(rule)
	if err != nil || strings.ContainsFunc(rule, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-:[]", r) }) {
		return "", false
	}
	return fmt.Sprintf("mayfly policy %s allow %s", machine, r), true
}

// newlyDenied returns the hosts that were refused since the last call.
func (s *Server) newlyDenied(m Machine) []string {
	if m.Plan().Network.Mode == "none" {
		return nil
	}
	st, err := s.o.Network(m.Name())
	if err != nil {
		return nil // the command was run, and how it ended is what counts
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var hosts []string
	for _, d := range st.Denied[:min(len(st.Denied), mostHosts)] {
		name := oneLine(d.Host)
		place := fmt.Sprintf("%s:%d", d.Host, d.Port)
		if d.Count > s.denied[place] && d.Needless == "" && !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
		s.denied[place] = d.Count
	}
	return hosts
}
