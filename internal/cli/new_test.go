package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
)

// Twenty processes define twenty machines at once, each with an address of its own.
func TestNewAtOnce(t *testing.T) {
	home := t.TempDir()
	const machines = 20
	var wg sync.WaitGroup
	for i := range machines {
		wg.Go(func() {
			cmd := exec.Command("mayfly", "new", fmt.Sprintf("m%d", i), "--network", "bridge")
			cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("mayfly new: %v: %s", err, out)
			}
		})
	}
	wg.Wait()
	seen := make(map[string]string)
	for i := range machines {
		name := filepath.Join(home, ".config/mayfly/machines", fmt.Sprintf("m%d.toml", i))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile(`(?m)^(address|mac) = .*$`).FindAllString(string(data), -1) {
			if other, ok := seen[line]; ok {
				t.Errorf("%s and %s have %s", other, name, line)
			}
			seen[line] = name
		}
	}
	if len(seen) != 2*machines {
		t.Errorf("%d addresses; want two for each machine", len(seen))
	}
}
