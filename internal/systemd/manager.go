package systemd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Command returns systemctl for a service manager as a user types it.
func (s Scope) Command() string {
	if s == User {
		return "systemctl --user"
	}
	return "sudo systemctl"
}

// Runs reports whether the service manager runs.
func (s Scope) Runs(getenv func(string) string) bool {
	name := "/run/systemd/system" // sd_booted(3)
	if s == User {
		dir := getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			dir = "/run/user/" + strconv.Itoa(os.Geteuid())
		}
		name = filepath.Join(dir, "systemd/private")
	}
	_, err := os.Stat(name)
	return err == nil
}

// controlTimeout bounds a call of systemctl, which asks another process.
const controlTimeout = 90 * time.Second

// Control runs systemctl with args.
func (s Scope) Control(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	manager := "--system"
	if s == User {
		manager = "--user"
	}
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{manager, "--no-ask-password", "--no-pager"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		said := strings.TrimSpace(string(out[:min(len(out), 4<<10)]))
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, said)
	}
	return nil
}
