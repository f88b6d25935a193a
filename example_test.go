package mayfly_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/mayfly-vm/mayfly"
)

// Run a command on a copy of the current directory, and bring back what it made.
func ExampleClient_Start() {
	ctx := context.Background()
	client, err := mayfly.New(mayfly.Options{Program: "/usr/bin/mayfly"})
	if err != nil {
		log.Fatal(err)
	}
	m, err := client.Start(ctx, mayfly.Spec{
		Profiles: []string{"go"},
		Settings: []mayfly.Setting{{From: "memory", Key: "machine.memory", Value: "4GiB"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	code, err := m.Exec(ctx, mayfly.Cmd{Argv: []string{"go", "generate", "./..."}, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil || code != 0 {
		log.Fatal(code, err)
	}
	set, err := m.Changes(ctx, true)
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()
	if _, err := set.Apply(ctx, mayfly.Selection{}); err != nil {
		log.Fatal(err)
	}
}

// Apply one directory of what a machine changed.
func ExampleChangeSet_Apply() {
	ctx := context.Background()
	client, err := mayfly.New(mayfly.Options{})
	if err != nil {
		log.Fatal(err)
	}
	m, err := client.Machine(ctx, "run-3f9a2c")
	if err != nil {
		log.Fatal(err)
	}
	set, err := m.Changes(ctx, false)
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()
	applied, err := set.Apply(ctx, mayfly.Selection{Paths: []string{"docs"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, conflict := range applied.Conflicts {
		fmt.Println("not applied:", conflict)
	}
}

// Print what happens to all machines that run.
func ExampleClient_Watch() {
	client, err := mayfly.New(mayfly.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Watch(context.Background(), nil, func(e mayfly.MachineEvent) error {
		fmt.Println(e.Machine, e.Phase, e.Ready, e.Ended)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A program whose own file is the supervisor of its machines calls Internal first.
func ExampleInternal() {
	if done, err := mayfly.Internal(context.Background(), os.Args[1:], os.Stderr); done {
		if err != nil {
			os.Exit(1)
		}
		return
	}
	// The program itself begins here.
}

func ExampleParseRule() {
	rule, err := mayfly.ParseRule("GET proxy.example.org/mod/")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rule.Host, rule.Methods, rule.Paths)
	_, err = mayfly.ParseRule("*")
	fmt.Println(errors.Is(err, mayfly.ErrInput))
	// Output:
	// proxy.example.org [GET] [/mod/]
	// true
}

func ExampleParsePort() {
	port, err := mayfly.ParsePort("8080:80")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(port.Address, port.HostPort, port.GuestPort)
	// Output: 127.0.0.1 8080 80
}

// Codes tell failures apart; their texts are for people.
func ExampleError() {
	home, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(home)
	client, err := mayfly.New(mayfly.Options{Getenv: func(name string) string {
		if name == "HOME" {
			return home
		}
		return ""
	}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Machine(context.Background(), "web")
	if failure, ok := errors.AsType[*mayfly.Error](err); ok && failure.Code == "machine-not-found" {
		fmt.Println("there is no machine", failure.Args["name"])
	}
	// Output: there is no machine web
}
