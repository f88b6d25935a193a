package mayfly_test

import (
	"context"
	"os"

	"github.com/mayfly-vm/mayfly"
)

// The example in README.md. The compiler checks it; nothing calls it.
var _ = runTests

func runTests(ctx context.Context, dir string) (code int, err error) {
	client, err := mayfly.New(mayfly.Options{})
	if err != nil {
		return 0, err
	}
	m, err := client.Start(ctx, mayfly.Spec{Dir: dir, Profiles: []string{"go"}})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.Exec(ctx, mayfly.Cmd{Argv: []string{"make", "test"}, Stdout: os.Stdout, Stderr: os.Stderr})
}
