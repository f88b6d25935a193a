package mayfly

import (
	"context"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/importer/bundle"
)

// Definition is what a machine with a file of its own is to be.
type Definition struct {
	Name string
	// Settings of its file, and the Comment at the file's top.
	Settings []Setting
	Comment  string
	// Clones are repositories that are cloned into the workspace.
	Clones []Clone
}

// Clone is a repository that is to be cloned.
type Clone struct {
	URL   string // as it goes into a file: without a password
	Typed string // as it was typed
	Ref   string // empty for the default branch
}

// ParseClone reads URL[@REF].
func ParseClone(text string) (Clone, error) {
	c, err := engine.ParseClone(text)
	if err != nil {
		return Clone{}, public(engine.InputError{Err: err})
	}
	return Clone(c), nil
}

// Defined is a machine that was defined.
type Defined struct {
	Name      string   `json:"name"`
	File      string   `json:"file"`
	Workspace string   `json:"workspace"`
	Data      string   `json:"data"` // what is kept of the machine
	Mode      string   `json:"mode"`
	Network   string   `json:"network"`
	Address   string   `json:"address,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	Profiles  []string `json:"profiles"`
	Packages  []string `json:"packages"`
	Clones    []Cloned `json:"clones"`
	Agents    []string `json:"agents,omitempty"` // coding agents of its image
	HostKey   string   `json:"host_key"`         // the fingerprint of its SSH host key
}

// Cloned is a repository in a workspace.
type Cloned struct {
	URL    string `json:"url"`
	Path   string `json:"path"`
	Commit string `json:"commit"`
	Branch string `json:"branch,omitempty"`
}

// Define defines a machine and starts nothing. What it has made it removes again if it
// fails.
func (c *Client) Define(ctx context.Context, d Definition) (Defined, error) {
	clones := convert(d.Clones, func(c Clone) engine.Clone { return engine.Clone(c) })
	made, err := c.e.Define(ctx, engine.Definition{Name: d.Name, Settings: settings(d.Settings), Comment: d.Comment, Clones: clones})
	if err != nil {
		return Defined{}, public(err)
	}
	return newDefined(made), nil
}

func newDefined(d engine.Defined) Defined {
	return Defined{
		d.Name, d.File, d.Workspace, d.Data, d.Mode, d.Network, d.Address, d.MAC,
		append([]string{}, d.Profiles...), append([]string{}, d.Packages...),
		convert(d.Clones, func(c engine.Cloned) Cloned { return Cloned(c) }), d.Agents, d.HostKey,
	}
}

// File is a machine's file.
type File struct {
	Name    string // of the machine
	Content []byte
}

// DefineFiles defines machines by their files, all or none. One that is here already is
// left alone, and is an error if it is another. A dry run only finds out what is wrong.
func (c *Client) DefineFiles(ctx context.Context, files []File, dry bool) ([]Defined, error) {
	in := convert(files, func(f File) bundle.File { return bundle.File{Name: f.Name, Data: f.Content} })
	made, err := c.e.DefineFiles(ctx, in, dry)
	return convert(made, newDefined), public(err)
}

// Checked is what came of checking a machine's file.
type Checked struct {
	Name  string `json:"name"`
	File  string `json:"file"`
	Image string `json:"image,omitempty"` // its key; empty when none was to be built
	Plan  Plan   `json:"plan"`
}

// Check checks the file of the machine what, or the file of that name that is to become
// one, and with build builds its image. It starts nothing.
func (c *Client) Check(ctx context.Context, what string, build bool) (Checked, error) {
	d, err := c.e.Check(ctx, what, build)
	if err != nil {
		return Checked{}, public(err)
	}
	return Checked{d.Name, d.File, d.Image, newPlan(d.Plan)}, nil
}

// File returns the path and the content of the file of the machine name.
func (c *Client) File(name string) (path string, content []byte, err error) {
	path, content, err = c.e.File(name)
	return path, content, public(err)
}

// CheckFile finds out whether content can be the file of the machine name.
func (c *Client) CheckFile(ctx context.Context, name string, content []byte) error {
	return public(c.e.CheckFile(ctx, name, content))
}

// ReplaceFile puts the file temp, which is in the same directory, in the place of that of
// the machine name. If that is not what it was, before, temp is kept under another name.
func (c *Client) ReplaceFile(ctx context.Context, name string, before []byte, temp string) error {
	return public(c.e.ReplaceFile(ctx, name, before, temp))
}

// MachineSize is what the definition of a machine says of its size, and whether a service manager
// is to start it.
type MachineSize struct {
	MemoryMiB, VCPUs int
	Autostart        bool
}

// Size returns that of the machine name. It reads its file and nothing else.
func (c *Client) Size(name string) (MachineSize, error) {
	memory, vcpus, autostart, err := c.e.Size(name)
	return MachineSize{memory, vcpus, autostart}, public(err)
}

// StartDefined starts the machine name unless it runs, and returns when it can be used. It
// outlives this process. With fresh its workspace is copied anew: changes that were not
// applied are lost. It reports whether it was this call that has started it.
func (c *Client) StartDefined(ctx context.Context, name string, fresh bool) (started bool, err error) {
	started, err = c.e.StartNamed(ctx, name, engine.StartOptions{Fresh: fresh})
	return started, public(err)
}

// Serve starts the machine name for a service manager: it is an error if it runs already.
// The machine outlives this process.
func (c *Client) Serve(ctx context.Context, name string, fresh bool) (*Machine, error) {
	o, err := c.e.Serve(ctx, name, engine.StartOptions{Fresh: fresh})
	if err != nil {
		return nil, public(err)
	}
	return &Machine{o.Machine, o}, nil
}

// CheckStart finds out whether the machine name could be started now.
func (c *Client) CheckStart(ctx context.Context, name string) error {
	return public(c.e.CheckStart(ctx, name))
}

// Stop stops the machine name, which is defined, and reports whether it ran. What a
// machine keeps stays.
func (c *Client) Stop(name string) (ran bool, err error) {
	ran, err = c.e.Stop(name)
	return ran, public(err)
}

// Reset stops the machine name and throws away what it has written. Its definition,
// address and SSH host key stay.
func (c *Client) Reset(name string) error { return public(c.e.Reset(name)) }

// Remove ends the machine name and removes it with everything in it. With force it is
// killed in place of being asked to end. The workspace's directory stays as it is.
func (c *Client) Remove(name string, force bool) error { return public(c.e.Remove(name, force)) }

// ReadConfig reads a configuration file, of which the size is bounded.
func ReadConfig(path string) ([]byte, error) {
	data, err := engine.ReadConfig(path)
	return data, public(err)
}
