// Command mayfly-bench measures what SPECIFICATION.md promises in numbers.
package main

import (
	"os"

	"github.com/mayfly-vm/mayfly/internal/test/bench"
)

func main() {
	os.Exit(bench.Main(os.Args[1:], os.Stdout, os.Stderr))
}
