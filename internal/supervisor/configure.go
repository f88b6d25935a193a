package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// prepare readies the booted guest for the image, and runs the warming commands.
// It returns what the guest notes of them.
func (s *supervisor) prepare(ctx context.Context, g *guest, warm []string) (notes []string, err error) {
	each := control.WarmTimeout(s.plan.Machine)
	req := &wire.Prepare{Scratch: machine.Serial(plan.SlotScratch), Warm: warm, WarmSeconds: int(each / time.Second)}
	if s.plan.Network.Mode == plan.NetworkUser {
		req.Network = userNetwork()
	}
	for i := range s.image.Layers {
		req.Layers = append(req.Layers, machine.Serial(plan.SlotFirstLayer+i))
	}
	timeout := control.BootTimeout(s.plan.Machine) + time.Duration(len(warm))*each
	err = g.call(ctx, timeout, func(stream guestStream) error {
		answer, err := client.Prepare(stream, req)
		notes = answer.Notes
		if err == nil {
			s.log.Info("guest prepared", "took", time.Duration(answer.Nanos))
		}
		return err
	})
	if err != nil {
		return nil, g.vm.withConsole(err)
	}
	return notes, nil
}

// configure makes the prepared guest this machine. workspaceCopy is the name of its copy
// of the workspace, where that is kept.
func (s *supervisor) configure(ctx context.Context, guest *guest, timeout time.Duration, workspaceCopy string, g ground) error {
	req := newConfigure(s.plan)
	if req.Workspace != nil {
		req.Workspace.Copy = workspaceCopy
	}
	if s.plan.Guest.HasDotfiles() {
		shown, hidden := shownDotfiles(s.plan, g.disks.dotfiles)
		req.Dotfiles = &wire.Dotfiles{Serial: machine.Serial(plan.SlotDotfiles), Targets: shown}
		for _, name := range hidden[:min(len(hidden), maxNotes)] {
			s.noteGuest(fmt.Sprintf("home.dotfiles: ~/%s is not in the machine: something else is mounted there", name))
		}
	}
	var err error
	if req.SSH, err = newSSH(s.machine, s.plan); err != nil {
		return err
	}
	req.Network = g.network.setUp()
	req.Env = append(req.Env, networkEnv(req.Network, g.network.secrets)...)
	req.Time = time.Now().UnixNano()
	err = guest.call(ctx, timeout, func(stream guestStream) error {
		answer, err := client.Configure(stream, req)
		if err == nil {
			s.log.Info("guest configured", "took", time.Duration(answer.Nanos))
		}
		for _, note := range answer.Notes[:min(len(answer.Notes), maxNotes)] {
			s.noteGuest(note)
		}
		return err
	})
	if err == nil {
		err = s.correctClock(ctx, guest, timeout)
	}
	if err != nil {
		return guest.vm.withConsole(err)
	}
	return nil
}

// maxNotes bounds what a guest can say to the user at its start.
const maxNotes = 16

// goodRoundTrip is one that is worth no better. Half of it is the most by which the
// clock of a guest is wrong then.
const goodRoundTrip = 20 * time.Millisecond

// correctClock puts the guest's clock right. The request that set it was under way
// for a while, in a guest that had all to do for the first time.
func (s *supervisor) correctClock(ctx context.Context, g *guest, timeout time.Duration) error {
	clock := func(adjust time.Duration) (now time.Time, err error) {
		err = g.call(ctx, timeout, func(stream guestStream) error {
			now, err = client.Clock(stream, adjust)
			return err
		})
		return now, err
	}
	var behind time.Duration
	best := time.Duration(math.MaxInt64)
	for range 4 {
		asked := time.Now()
		now, err := clock(0)
		if err != nil {
			return err
		}
		// As if the way there took as long as the way back.
		if took := time.Since(asked); took < best {
			best, behind = took, asked.Add(took/2).Sub(now)
		}
		if best <= goodRoundTrip {
			break
		}
	}
	s.log.Info("clock corrected", "behind", behind, "within", best/2)
	_, err := clock(behind)
	return err
}

// newConfigure is the one place where a machine gets its identity, however it
// was started.
func newConfigure(p plan.Plan) *wire.Configure {
	id := make([]byte, 16)
	rand.Read(id)
	entropy := make([]byte, 256)
	rand.Read(entropy)
	u := p.Guest.User
	c := &wire.Configure{
		Hostname:  p.Guest.Hostname,
		MachineID: hex.EncodeToString(id),
		Entropy:   entropy,
		Init:      p.Image.Init,
		User:      wire.User{Name: u.Name, UID: u.UID, GID: u.GID, Home: u.Home, Shell: u.Shell},
		Env:       environment(p.Guest),
	}
	for _, g := range u.Groups {
		c.User.Groups = append(c.User.Groups, wire.Group(g))
	}
	for _, sh := range p.Shares {
		c.Shares = append(c.Shares, wire.Share{Tag: sh.Tag, Path: sh.Path, ReadOnly: sh.ReadOnly})
	}
	if p.Workspace.Copied() {
		c.Workspace = &wire.Workspace{Serial: machine.Serial(plan.SlotWorkspace), Path: p.Workspace.Path}
	}
	if link := p.Workspace.Link; link != "" {
		c.Link = &wire.Link{Path: link, Target: p.Workspace.Path}
	}
	if p.Keep != nil {
		c.Keep, c.Volumes = machine.KeptSerial(0), keptVolumes(p)
		c.KeepDirs = []wire.KeepDir{{Name: "agents", Path: p.Keep.Agents}}
		if c.History = p.Keep.History; c.History != "" {
			c.KeepDirs = append(c.KeepDirs, wire.KeepDir{Name: "history", Path: c.History})
		}
	}
	c.ShellInit, c.Git = p.Guest.ShellInit, p.Guest.Git
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
