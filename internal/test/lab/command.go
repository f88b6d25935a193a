package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Wrap returns the command line that runs argv on the host's side of the lab, in
// the directory in which it is started. It is started by root; the process that
// it starts becomes argv's.
func (l *Lab) Wrap(argv []string) []string {
	return enter(l.host, l.mounts, argv)
}

// enter returns the command line that runs argv in two namespaces. They are this
// process's open files: it has to live until the command has begun.
func enter(network *namespace, mounts *os.File, argv []string) []string {
	file := func(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }
	// To enter a mount namespace is to be in its root directory.
	script := fmt.Sprintf(`exec /usr/bin/nsenter --net=%s --mount=%s --wdns="$(pwd)" -- "$@"`, file(network.file), file(mounts))
	return append([]string{"/bin/sh", "-c", script, "lab"}, argv...)
}

// Command changes cmd so that it runs on the host's side of the lab, and returns
// it. Its SysProcAttr holds as before; only its Credential moves, since no other
// user may enter a namespace. It is for the caller to end, and at the end of the
// lab it is killed.
func (l *Lab) Command(cmd *exec.Cmd) *exec.Cmd {
	argv := append([]string{cmd.Path}, cmd.Args[1:]...)
	if attr := cmd.SysProcAttr; attr != nil && attr.Credential != nil {
		argv = append(asUser(attr.Credential), argv...)
		rootAttr := *attr
		rootAttr.Credential = nil
		cmd.SysProcAttr = &rootAttr
	}
	cmd.Args = l.Wrap(argv)
	cmd.Path = cmd.Args[0]
	return cmd
}

// asUser returns the beginning of a command line that changes to a user as
// os/exec does.
func asUser(c *syscall.Credential) []string {
	groups := "--clear-groups"
	switch {
	case c.NoSetGroups:
		groups = "--keep-groups"
	case len(c.Groups) > 0:
		groups = "--groups=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(c.Groups), " ", ","), "[]")
	}
	return []string{"/usr/bin/setpriv", fmt.Sprintf("--reuid=%d", c.Uid), fmt.Sprintf("--regid=%d", c.Gid), groups, "--"}
}

// Run runs argv on the host's side of the lab and returns what it printed. It
// fails the test unless argv succeeds.
func (l *Lab) Run(argv ...string) string {
	l.t.Helper()
	out, err := l.Command(exec.CommandContext(l.ctx, argv[0], argv[1:]...)).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
