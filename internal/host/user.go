package host

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
)

// CurrentUser describes the user of this process, and nothing else of the host.
func CurrentUser(getenv func(string) string) User { return probeUser(Options{Getenv: getenv}) }

// probeUser describes the user of this process from /etc/passwd and /etc/group.
// For one that is not there, as with a directory service, the environment is
// asked, as the login program set it.
func probeUser(o Options) User {
	u := User{UID: os.Geteuid(), GID: os.Getegid()}
	if e, ok := findEntry(o.read("/etc/passwd"), 2, u.UID); ok && len(e) >= 7 {
		u.Name, u.Home, u.Shell = e[0], e[5], e[6]
	}
	u.Name = cmp.Or(u.Name, o.env("USER"), o.env("LOGNAME"), "user")
	// HOME is where the user's files are for every other program too.
	u.Home = cmp.Or(o.env("HOME"), u.Home, "/")
	u.Shell = cmp.Or(u.Shell, o.env("SHELL"), "/bin/sh")

	gids := []int{u.GID}
	if more, err := os.Getgroups(); err == nil {
		gids = append(gids, more...)
	}
	slices.Sort(gids[1:]) // the primary group stays first
	group := o.read("/etc/group")
	seen := make(map[int]bool)
	for _, gid := range gids {
		if seen[gid] {
			continue
		}
		seen[gid] = true
		g := Group{GID: gid}
		if e, ok := findEntry(group, 2, gid); ok {
			g.Name = e[0]
		}
		u.Groups = append(u.Groups, g)
	}
	return u
}

// findEntry returns the fields of the line of a colon-separated table whose
// field has the numeric value id.
func findEntry(table string, field, id int) ([]string, bool) {
	for line := range strings.Lines(table) {
		e := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(e) > field && e[field] == strconv.Itoa(id) {
			return e, true
		}
	}
	return nil, false
}
