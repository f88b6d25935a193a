package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/agents"
	"github.com/mayfly-vm/mayfly/internal/image/debian"
	"github.com/mayfly-vm/mayfly/internal/image/kernel"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// The roles of layers.
const (
	RoleBase     = "base"
	RolePackages = "packages"
	RoleAgents   = "agents"
)

// baseSuite returns what Debian calls a plan.Image.Base.
func baseSuite(base string) (string, error) {
	suite, ok := strings.CutPrefix(base, "debian:")
	if !ok || suite != "trixie" {
		return "", fault.New(fault.ImageBaseUnknown, fault.Args{"base": base}, "no image base is called %q", base)
	}
	return suite, nil
}

// basePackages are what every machine has, beside apt and the essential
// packages: a shell to work in, an editor, the compiler and the tools that agents call
// without asking, and what loads the kernel's modules. Each further one costs every image its time and space.
func basePackages() []string {
	return []string{
		"bzip2", "ca-certificates", "curl", "file", "gcc", "git", "iproute2", "kmod", "less", "libc6-dev", "make", "mount", "nano",
		"ncurses-base", "openssh-client", "passwd", "patch", "procps", "python3", "ripgrep", "sensible-utils", "sudo", "tmux", "tzdata",
		"unzip", "xz-utils", "zsh",
	}
}

// systemdPackages are what a machine has whose process 1 is systemd: it, the message
// bus that its clients reach it by.
func systemdPackages() []string { return []string{"dbus", "systemd", "systemd-sysv"} }

// kernelPackage follows Debian's newest kernel for virtual machines.
const kernelPackage = "linux-image-cloud-amd64"

// A recipe is all that decides what a build gives, as far as we decide it: the
// archive's own state is not in it, so an image stays as it is until it is
// built anew. Its hash is the artifact's name in dirRecipes.
type recipe struct {
	Format   int            `json:"format"`
	Role     string         `json:"role"`
	Suite    string         `json:"suite,omitempty"`
	Parent   string         `json:"parent,omitempty"` // diff_id of the layer below
	Packages []string       `json:"packages,omitempty"`
	Agents   []agents.Named `json:"agents,omitempty"`
	Modules  []string       `json:"modules,omitempty"`
	// AllModules says of a kernel that it has its other modules as well, and
	// Kernel of a base whose it has.
	AllModules bool   `json:"all_modules,omitempty"`
	Kernel     string `json:"kernel,omitempty"` // id
}

// baseRecipe is for what all machines with a kernel have, "" for any.
func baseRecipe(suite, kernel string) recipe {
	return recipe{Format: baseVersion, Role: RoleBase, Suite: suite, Packages: basePackages(), AllModules: true, Kernel: kernel}
}

func packagesRecipe(suite, parent string, packages []string) recipe {
	return recipe{Format: formatVersion, Role: RolePackages, Suite: suite, Parent: parent, Packages: packages}
}

func agentsRecipe(list []agents.Named) recipe {
	return recipe{Format: formatVersion, Role: RoleAgents, Agents: list}
}

func kernelRecipe(suite string) recipe {
	return recipe{Format: formatVersion, Role: roleKernel, Suite: suite, Packages: []string{kernelPackage}, Modules: kernel.Wanted(), AllModules: true}
}

const roleKernel = "kernel"

// key returns the hash of any of our JSON values.
func key(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// wanted is a plan.Image with everything that it implies.
type wanted struct {
	key    string
	suite  string
	image  plan.Image // sorted, without duplicates
	agents []agents.Named
}

// packages returns the packages of the image's own layer, sorted.
func (w wanted) packages() []string {
	if w.image.Init != plan.InitSystemd {
		return w.image.Packages
	}
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(w.image.Packages, systemdPackages()))))
}

// resolve checks what needs no network and finds the image's key.
func (s *Store) resolve(pi plan.Image) (wanted, error) {
	suite, err := baseSuite(pi.Base)
	if err != nil {
		return wanted{}, err
	}
	if err := debian.CheckNames(pi.Packages); err != nil {
		return wanted{}, err
	}
	if pi.Init != "" && pi.Init != plan.InitSystemd {
		return wanted{}, fault.New(fault.ImageInitUnknown, fault.Args{"init": pi.Init}, "no process 1 is called %q", pi.Init)
	}
	list, err := s.lock.Select(pi.Agents)
	if err != nil {
		return wanted{}, err
	}
	w := wanted{
		suite:  suite,
		agents: list,
		image: plan.Image{
			Base:     pi.Base,
			Init:     pi.Init,
			Packages: slices.Compact(slices.Sorted(slices.Values(pi.Packages))),
		},
	}
	for _, a := range list {
		w.image.Agents = append(w.image.Agents, a.Name)
	}
	w.key, err = key(struct {
		Base     recipe
		Kernel   recipe
		Init     string `json:",omitempty"`
		Packages []string
		Agents   recipe
	}{baseRecipe(suite, ""), kernelRecipe(suite), pi.Init, w.packages(), agentsRecipe(list)})
	return w, err
}

// result is what a recipe gave: the file at dirRecipes.
type result struct {
	Recipe  recipe    `json:"recipe"`
	ID      string    `json:"id"` // diff_id of a layer, or id of a kernel
	Created time.Time `json:"created"`
}

// known returns the result of a recipe if it was made before and is still
// there.
func (s *Store) known(r recipe) (id, recipeKey string, err error) {
	recipeKey, err = key(r)
	if err != nil {
		return "", "", err
	}
	var res result
	err = readJSON(s.path(dirRecipes, recipeKey+".json"), &res)
	if errors.Is(err, fs.ErrNotExist) {
		return "", recipeKey, nil
	}
	if err != nil {
		return "", "", err
	}
	there := s.sidecarPath(res.ID)
	if r.Role == roleKernel {
		there = s.path(dirKernels, res.ID, kernelFile)
	}
	if _, err := os.Stat(there); err != nil {
		return "", recipeKey, nil
	}
	return res.ID, recipeKey, nil
}

func (s *Store) remember(recipeKey string, r recipe, id string) error {
	return s.writeJSON(s.path(dirRecipes, recipeKey+".json"), result{r, id, now()})
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fault.New(fault.ImageDamaged, fault.Args{"file": path}, "%s: %w", path, err)
	}
	return nil
}

// writeJSON publishes a small file.
func (s *Store) writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	dir, release, err := s.temp()
	if err != nil {
		return err
	}
	defer release()
	temp := dir + "/json"
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return err
	}
	if err := atomicfile.Publish(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
