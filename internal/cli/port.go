package cli

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

func (a *app) portCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port NAME [ls | add [ADDRESS:]PORT:GUEST-PORT | rm PORT | auto [on|off]]",
		Short: "Publish ports of a running machine on the host",
		Long: `Publish ports of a running machine on the host. The default address is
127.0.0.1, and with it ::1, which only the host reaches. With port 0, mayfly
chooses a free port and prints it. Services that listen only on the machine's
loopback interface are reached, too. While no program listens in the machine,
connections are refused, so that scripts can wait for a service.

With auto, each port on which a program of the machine listens is the same port
on 127.0.0.1 and ::1 of the host, until it listens no more. Ports below 1024,
ports that another program of the host has or had, well-known ports such as
those of databases, and more than 16 at once are left alone; add publishes them.`,
		Example: `  mayfly port run-3f9a2c add 8080:80
  mayfly port run-3f9a2c rm 8080
  mayfly port run-3f9a2c auto`,
		Args:              takes(1, 3),
		ValidArgsFunction: a.completeMachines,
		RunE: func(_ *cobra.Command, args []string) error {
			change, err := portChange(args[1:])
			if err != nil {
				return usageError{err}
			}
			return a.port(args[0], change)
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func portChange(words []string) (mayfly.NetworkChange, error) {
	var c mayfly.NetworkChange
	switch {
	case len(words) == 0, len(words) == 1 && words[0] == "ls":
	case len(words) == 2 && words[0] == "add":
		port, err := mayfly.ParsePort(words[1])
		if err != nil {
			return c, fmt.Errorf("the port %w", err)
		}
		c.Open = &port
	case len(words) == 2 && words[0] == "rm":
		n, err := strconv.ParseUint(words[1], 10, 16)
		if err != nil || n == 0 {
			return c, fmt.Errorf("%q is no port of the host", words[1])
		}
		c.Close = int(n)
	case words[0] == "auto" && (len(words) == 1 || len(words) == 2 && (words[1] == "on" || words[1] == "off")):
		on := len(words) == 1 || words[1] == "on"
		c.AutoPorts = &on
	default:
		return c, fmt.Errorf("%q: it is ls, add [ADDRESS:]PORT:GUEST-PORT, rm PORT or auto [on|off]", words)
	}
	return c, nil
}

func (a *app) port(name string, change mayfly.NetworkChange) error {
	st, err := a.client.ChangeNetwork(name, change)
	if err != nil {
		return err
	}
	if change.Open != nil {
		if note := words.OpenToOthers(*st.Opened); note != "" {
			a.note("%s", note)
		}
		if !a.json {
			fmt.Fprintln(a.Out, netip.AddrPortFrom(netip.MustParseAddr(st.Opened.Address), uint16(st.Opened.HostPort)))
			return nil
		}
	}
	if a.json {
		return a.printJSON(st.Ports)
	}
	if change.Close != 0 || change.AutoPorts != nil {
		return nil
	}
	switch {
	case len(st.Ports) > 0:
		t := newTable(a.Out, "ADDRESS", "PORT", "GUEST PORT")
		for _, p := range st.Ports {
			t.row(p.Address, p.HostPort, p.GuestPort)
		}
		if err := t.flush(); err != nil {
			return err
		}
	case len(st.Listening) == 0:
		a.note("no port of %s is published; mayfly port %s add 8080:80 publishes one", name, name)
	}
	for _, l := range st.Listening {
		if text := words.Listening(name, l); text != "" && !l.Published {
			a.note("%s", text)
		}
	}
	return nil
}
