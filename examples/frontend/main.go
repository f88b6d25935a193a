// Command frontend is a complete front end of mayfly. It runs a command in a machine on a private
// copy of the current directory, prints what the command changed, and applies one path:
//
//	frontend PATH COMMAND [ARGUMENT…]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/mayfly-vm/mayfly"
)

func main() {
	// The supervisor of the machine is this program, executed again.
	if done, err := mayfly.Internal(context.Background(), os.Args[1:], os.Stderr); done {
		if err != nil {
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "frontend:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: frontend PATH COMMAND [ARGUMENT…]")
	}
	path, command := args[0], args[1:]
	client, err := mayfly.New(mayfly.Options{})
	if err != nil {
		return err
	}
	m, err := client.Start(ctx, mayfly.Spec{Command: command})
	if err != nil {
		return err
	}
	defer m.Close() // discards the machine
	code, err := m.Exec(ctx, mayfly.Cmd{Argv: command, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	fmt.Println("exit code", code)

	set, err := m.Changes(ctx, true)
	if err != nil {
		return err
	}
	defer set.Close()
	for _, change := range set.Changes {
		fmt.Println(change)
	}
	applied, err := set.Apply(ctx, mayfly.Selection{Paths: []string{path}})
	fmt.Printf("applied %d of %d\n", applied.Applied, applied.Of)
	for _, conflict := range applied.Conflicts {
		fmt.Println("not applied:", conflict)
	}
	return err
}
