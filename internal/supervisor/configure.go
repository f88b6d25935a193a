package supervisor

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// configure makes the booted guest this machine.
func (s *supervisor) configure() error {
	stream, err := s.session.Open()
	if err != nil {
		return fmt.Errorf("configure the machine: %w", err)
	}
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(bootTimeout(s.plan.Machine)))
	answer, err := client.Configure(stream, newConfigure(s.plan, len(s.image.Layers)))
	if err != nil {
		return err
	}
	s.log.Info("guest configured", "took", time.Duration(answer.Nanos))
	return nil
}

// newConfigure is the one place where a machine gets its identity, however it
// was started.
func newConfigure(p plan.Plan, layers int) *wire.Configure {
	id := make([]byte, 16)
	rand.Read(id)
	entropy := make([]byte, 256)
	rand.Read(entropy)
	u := p.Guest.User
	c := &wire.Configure{
		Hostname:  p.Guest.Hostname,
		MachineID: hex.EncodeToString(id),
		Time:      time.Now().UnixNano(),
		Entropy:   entropy,
		Scratch:   machine.Serial(plan.SlotScratch),
		User:      wire.User{Name: u.Name, UID: u.UID, GID: u.GID, Home: u.Home, Shell: u.Shell},
		Env:       environment(p.Guest),
	}
	for _, g := range u.Groups {
		c.User.Groups = append(c.User.Groups, wire.Group(g))
	}
	for i := range layers {
		c.Layers = append(c.Layers, machine.Serial(plan.SlotFirstLayer+i))
	}
	if p.Workspace.Path != "" {
		c.Workspace = &wire.Workspace{Serial: machine.Serial(plan.SlotWorkspace), Path: p.Workspace.Path}
	}
	if p.Guest.Timezone != "" {
		// By content: the image need not know any time zone.
		if data, err := readSmall("/etc/localtime", 64<<10); err == nil {
			c.Timezone, c.Zoneinfo = p.Guest.Timezone, data
		}
	}
	return c
}

func environment(g plan.Guest) []string {
	var env []string
	for k, v := range g.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return append([]string{"LANG=" + g.Locale}, env...)
}

func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
