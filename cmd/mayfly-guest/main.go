// Command mayfly-guest is PID 1 of a mayfly machine. It is started by the
// kernel from the initramfs and never by hand. Of itself it starts processes of the
// guest's user, which serve files; the hooks of coding agents start it to report.
package main

import (
	"fmt"
	"os"

	"github.com/mayfly-vm/mayfly/internal/guest/agent"
)

func main() {
	if os.Getpid() != 1 && agent.IsSFTP(os.Args) {
		if err := agent.SFTP(); err != nil {
			fmt.Fprintf(os.Stderr, "mayfly-guest: %v\n", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 && agent.IsReport(os.Args) {
		agent.Report(os.Args, os.Stdin)
		return
	}
	if os.Getpid() != 1 && agent.IsService(os.Args) {
		fmt.Fprintf(os.Stderr, "mayfly-guest: %v\n", agent.Serve())
		os.Exit(1)
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "mayfly-guest: only runs as the first process of a mayfly machine")
		os.Exit(2)
	}
	err := agent.Run()
	// PID 1 must not return: the kernel's panic would hide the reason.
	fmt.Fprintf(os.Stderr, "mayfly-guest: %v\n", err)
	agent.PowerOff()
}
