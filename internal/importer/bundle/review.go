package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Kind says what a change asks of who is to agree to it.
type Kind string

// The kinds of changes, the gravest last.
const (
	Same   Kind = "same"   // is here already, as it is in the bundle
	Add    Kind = "add"    // a new machine or profile
	Set    Kind = "set"    // a property that gives no more reach
	Widen  Kind = "widen"  // what a machine can reach, have or see
	Run    Kind = "run"    // what is fetched, or runs in a machine
	Refuse Kind = "refuse" // is not done
)

// Change is one thing that making the set-up would do.
type Change struct {
	Kind Kind   `json:"kind"`
	In   string `json:"in"`            // "machine web", "profile go-work"
	Key  string `json:"key,omitempty"` // as in the file: "network.allow"
	Text string `json:"text"`          // words of the bundle are quoted in it

	// Of a refusal: what kind of failure it is, where a front end can help.
	Code fault.Code `json:"code,omitempty"`
	Args fault.Args `json:"args,omitempty"`
}

// Have is what is on this computer, by name.
type Have struct {
	Machines map[string][]byte // the files of the machines
	Profiles map[string][]byte // the files of the user's own profiles
}

// Plan is a bundle that has been reviewed for this computer.
type Plan struct {
	Changes []Change
	// What is to be written: the files that are not here already, with the paths
	// that Placement gave them. It means nothing if a change is refused.
	Machines []File
	Profiles []File
}

// Err returns an error for each change that is refused, or nil.
func (p Plan) Err() error {
	var errs []error
	for _, c := range p.Changes {
		errs = append(errs, c.Err())
	}
	return errors.Join(errs...)
}

// Err returns the error of a change that is refused, or nil.
func (c Change) Err() error {
	if c.Kind != Refuse {
		return nil
	}
	err := fmt.Errorf("%s: %s", c.In, c.Text)
	if c.Key != "" {
		err = fmt.Errorf("%s: %s: %s", c.In, c.Key, c.Text)
	}
	if c.Code != "" {
		err = fault.Wrap(err, c.Code, c.Args)
	}
	return err
}

// Review says what making the bundle's machines on this computer would do.
func Review(b Bundle, have Have, where Placement) Plan {
	r := &reviewer{bundle: b, have: have, where: where}
	for _, f := range b.Profiles {
		r.in = "profile " + f.Name
		r.profile(f)
	}
	for _, f := range b.Machines {
		r.in = "machine " + f.Name
		r.machine(f)
	}
	return r.plan
}

// reviewer is a review in the making.
type reviewer struct {
	bundle Bundle
	have   Have
	where  Placement
	plan   Plan

	in     string            // what is looked at
	doc    map[string]any    // its file
	placed map[string]string // paths in it → paths here
}

func (r *reviewer) add(kind Kind, key, format string, args ...any) {
	r.plan.Changes = append(r.plan.Changes, Change{Kind: kind, In: r.in, Key: termsafe.Line(key), Text: fmt.Sprintf(format, args...)})
}

func (r *reviewer) refuse(key, format string, args ...any) { r.add(Refuse, key, format, args...) }

// refuseAs refuses with a code.
func (r *reviewer) refuseAs(code fault.Code, about fault.Args, key, format string, args ...any) {
	r.refuse(key, format, args...)
	last := &r.plan.Changes[len(r.plan.Changes)-1]
	last.Code, last.Args = code, about
}

func (r *reviewer) profile(f File) {
	if isBuiltin(f.Name) {
		r.refuseAs(fault.BundleProfileReserved, fault.Args{"profile": f.Name}, "", "it would hide mayfly's own profile %s, for all machines", f.Name)
		return
	}
	placed, ok := r.file(f, "a profile of your own, %d bytes", len(f.Data))
	if !ok {
		return
	}
	switch old, exists := r.have.Profiles[f.Name]; {
	case !exists:
		r.plan.Profiles = append(r.plan.Profiles, placed)
	case !bytes.Equal(old, placed.Data):
		r.refuseAs(fault.BundleProfileDiffers, fault.Args{"profile": f.Name}, "", "there is another profile of that name, which your machines may use")
	default:
		r.same()
	}
}

func (r *reviewer) machine(f File) {
	placed, ok := r.file(f, "a machine, %d bytes", len(f.Data))
	if !ok {
		return
	}
	r.reachUnsaid()
	switch old, exists := r.have.Machines[f.Name]; {
	case !exists:
		r.plan.Machines = append(r.plan.Machines, placed)
	case !bytes.Equal(old, placed.Data):
		r.refuseAs(fault.BundleMachineDiffers, fault.Args{"machine": f.Name}, "", "there is another machine of that name")
	default:
		r.same()
	}
}

// same takes back what was said about the file that is looked at, but for refusals.
func (r *reviewer) same() {
	r.plan.Changes = slices.DeleteFunc(r.plan.Changes, func(c Change) bool { return c.In == r.in && c.Kind != Refuse })
	r.add(Same, "", "is here already")
}

// file reviews the keys of one file, and returns it with its paths placed.
func (r *reviewer) file(f File, format string, args ...any) (File, bool) {
	r.doc, r.placed = nil, make(map[string]string)
	if err := toml.Unmarshal(f.Data, &r.doc); err != nil {
		r.refuse("", "%s", termsafe.Line(strings.TrimPrefix(err.Error(), "toml: ")))
		return File{}, false
	}
	if version := r.doc["version"]; version != int64(config.Version) {
		r.refuse("version", "is %s; this mayfly reads version %d", render(version), config.Version)
		return File{}, false
	}
	r.add(Add, "", format, args...)
	r.keys()
	data, err := replace(f.Data, r.placed)
	if err == nil {
		err = r.checkPlaced(data)
	}
	if err != nil {
		r.refuse("", "%v", err)
		return File{}, false
	}
	return File{f.Name, data}, true
}

// checkPlaced compares the file with replaced paths with what they were to be.
func (r *reviewer) checkPlaced(data []byte) error {
	var got map[string]any
	if err := toml.Unmarshal(data, &got); err != nil {
		return fmt.Errorf("paths could not be replaced: %s", termsafe.Line(err.Error()))
	}
	want := r.relocate("", r.doc)
	if render(got) != render(want) {
		return errors.New("paths could not be replaced")
	}
	return nil
}

// relocate returns v, a value of key, with its paths placed.
func (r *reviewer) relocate(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, inner := range v {
			out[name] = r.relocate(strings.TrimPrefix(key+"."+name, "."), inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = r.relocate(key, inner)
		}
		return out
	case string:
		if to, ok := r.placed[v]; ok && isPathKey(key) {
			return to
		}
	}
	return v
}

func isBuiltin(name string) bool {
	return slices.ContainsFunc(config.Profiles(), func(p config.Profile) bool { return p.Name == name })
}

// addressOf returns the address on the bridge that a machine's file gives it.
func addressOf(file []byte) string {
	var doc struct {
		Network struct{ Address any }
	}
	if err := toml.Unmarshal(file, &doc); err != nil {
		return ""
	}
	text, _ := doc.Network.Address.(string)
	return text
}
