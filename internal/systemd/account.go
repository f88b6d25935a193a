package systemd

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// Account is as whom a machine runs.
type Account struct {
	name   string // "" for who types the command
	home   string
	Getenv func(string) string // its environment
}

// Find returns the directory of a manager's units, and as whom its machines run. getenv
// reads the environment of who types the command.
func Find(scope Scope, getenv func(string) string) (Dir, Account, error) {
	if scope == User {
		dir, err := UserDir(getenv)
		return dir, Account{Getenv: getenv}, err
	}
	// The machine is that of the user who types sudo, in whose home all of it is.
	sudo := getenv("SUDO_USER")
	if sudo == "" || os.Geteuid() != 0 {
		u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
		if err != nil {
			return Dir{}, Account{}, fmt.Errorf("find whose machine it is: %w", err)
		}
		return SystemDir(), Account{u.Username, u.HomeDir, getenv}, nil
	}
	u, err := user.Lookup(sudo)
	if err != nil {
		return Dir{}, Account{}, fmt.Errorf("find whose machine it is: %w", err)
	}
	own := func(name string) string {
		if name == "HOME" {
			return u.HomeDir
		}
		return "" // root's variables are not the user's
	}
	return SystemDir(), Account{u.Username, u.HomeDir, own}, nil
}

// variables are those that change where mayfly finds its files, and that a service
// manager, which reads no shell's configuration, may not have.
var variables = [...]string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "MAYFLY_QEMU"}

// Owner returns the account as units name it.
func (a Account) Owner() Owner {
	o := Owner{Account: a.name, Home: a.home}
	if home := a.Getenv("HOME"); a.name != "" && home != a.home {
		o.Env = append(o.Env, "HOME="+home) // systemd takes it from /etc/passwd
	}
	for _, name := range variables {
		if value := a.Getenv(name); value != "" {
			o.Env = append(o.Env, name+"="+value)
		}
	}
	return o
}

// defaultTasks is how many processes and threads of the host a machine may have:
// QEMU's for virtual CPUs and disks, and those of mayfly.
const defaultTasks = 512

// LimitsFor returns what a machine of that size may use of this computer.
func LimitsFor(memoryMiB, vcpus int) Limits {
	return Limits{
		// Beside the guest's memory there are QEMU, some 100 MiB with its
		// buffers, the supervisor with the network's, and the pages of disks
		// and images in the cache, which count too and are given back first.
		MemoryMax:  uint64(memoryMiB+1024) << 20,
		CPUPercent: vcpus * 100,
		TasksMax:   defaultTasks,
	}
}
