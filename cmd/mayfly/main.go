// Command mayfly runs coding agents in disposable micro-VMs.
package main

import (
	"os"

	"github.com/mayfly-vm/mayfly/internal/cli"
)

// version is set by the build.
var version = "devel"

func main() {
	os.Exit(cli.Main(version, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
