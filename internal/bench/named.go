package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// owner is a user of machines with names, apart from the one who measures.
type owner struct {
	b   *bench
	env []string
	dir string
}

// newOwner returns an owner who has no machine yet. Images and templates are shared.
func (b *bench) newOwner() (owner, error) {
	dir, err := os.MkdirTemp(b.dir, "owner-")
	if err != nil {
		return owner{}, err
	}
	env := append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
	home, err := os.UserHomeDir()
	if err != nil {
		return owner{}, err
	}
	for name, fallback := range map[string]string{"XDG_DATA_HOME": ".local/share", "XDG_CACHE_HOME": ".cache"} {
		if os.Getenv(name) == "" {
			env = append(env, name+"="+filepath.Join(home, fallback))
		}
	}
	return owner{b, append(env, "HOME="+dir), dir}, nil
}

// mayfly returns a call of mayfly.
func (o owner) mayfly(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, o.b.mayfly, args...)
	cmd.Env, cmd.Dir = o.env, o.dir
	return cmd
}

// measureNamed measures what many machines with names cost who lists them.
func (b *bench) measureNamed(ctx context.Context) error {
	o, err := b.newOwner()
	if err != nil {
		return err
	}
	const machines = 50
	for i := range machines {
		if _, err := timed(o.mayfly(ctx, "new", fmt.Sprintf("m%d", i), "--profile", "go,claude", "--volume", "var:/var")); err != nil {
			return err
		}
	}
	var list []float64
	for range b.runs(20) {
		took, err := timed(o.mayfly(ctx, "ls"))
		if err != nil {
			return err
		}
		list = append(list, milliseconds(took))
	}
	b.add(newRow("ls", "ms", list, nil, "mayfly ls with 50 machines that are defined, the whole process").atMost(100))
	return nil
}
