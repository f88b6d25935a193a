package commits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// Repository is a view of a repository of the user's.
type Repository struct {
	// Record, if not nil, hears what is about to be done to references.
	Record func([]Moved) error

	place    repository.Place
	dir      string // of what this package makes; Close removes it
	lock     *os.File
	view     string // what git takes for the directory of the repository
	format   string // of the names of objects
	settings map[string]string
}

// maxAnswer bounds what git may print about a repository.
const maxAnswer = 64 << 20

// Open makes a view of the repository whose working tree dir is in. It is made in a new
// directory in temp.
func Open(ctx context.Context, dir, temp string) (_ *Repository, err error) {
	place, ok := repository.Locate(dir)
	if !ok {
		return nil, unfit("%s is in no repository", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(place.Common, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: place.Common, Err: err}
	}
	if int(st.Uid) != os.Geteuid() {
		return nil, unfit("it belongs to another user")
	}
	if strings.ContainsAny(place.Common, "\n\r") {
		return nil, unfit("its path has a line break")
	}
	made, lock, err := makeDir(temp)
	if err != nil {
		return nil, err
	}
	r := &Repository{place: place, dir: made, lock: lock, view: filepath.Join(made, "view")}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := r.readSettings(ctx); err != nil {
		return nil, err
	}
	return r, r.makeView()
}

// Close removes what was made.
func (r *Repository) Close() error {
	defer r.lock.Close()
	return os.RemoveAll(r.dir)
}

// dirPrefix begins the names of directories that this package makes.
const dirPrefix = "commits-"

// makeDir makes a directory in temp, with a lock by which the next one knows that its maker
// lives. It removes those of makers that were killed.
func makeDir(temp string) (dir string, lock *os.File, err error) {
	if left, err := filepath.Glob(filepath.Join(globQuote(temp), dirPrefix+"*")); err == nil {
		for _, dir := range left {
			if lock, err := filelock.Try(dir, true); err == nil {
				os.RemoveAll(dir)
				lock.Close()
			}
		}
	}
	// It has its name when it has its lock.
	made, err := os.MkdirTemp(temp, "."+dirPrefix)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(temp, strings.TrimPrefix(filepath.Base(made), "."))
	if lock, err = filelock.Try(made, true); err == nil {
		err = os.Rename(made, dir)
	}
	if err != nil {
		os.Remove(made)
		return "", nil, err
	}
	return dir, lock, nil
}

// Top is the directory of the working tree.
func (r *Repository) Top() string { return r.place.Top }

// readSettings reads the repository's own configuration, without what that includes.
func (r *Repository) readSettings(ctx context.Context) error {
	r.settings = make(map[string]string)
	read := func(path string) error {
		if fi, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil || !fi.Mode().IsRegular() { // which git would wait for
			return unfit("its configuration is no file")
		}
		text, err := gitrun.Output(ctx, gitrun.Cmd{Dir: r.dir, Args: []string{"config", "--file", path, "--no-includes", "--null", "--list"}}, 4<<20)
		if err != nil {
			return unfit("%s", gitrun.Reason(err))
		}
		for entry := range strings.SplitSeq(text, "\x00") {
			key, value, ok := strings.Cut(entry, "\n")
			if !ok {
				value = "true"
			}
			r.settings[key] = value
		}
		return nil
	}
	if err := read(filepath.Join(r.place.Common, "config")); err != nil {
		return err
	}
	if isTrue(r.settings["extensions.worktreeconfig"]) {
		if err := read(filepath.Join(r.place.Dir, "config.worktree")); err != nil {
			return err
		}
	}
	r.format = "sha1"
	for key, value := range r.settings {
		name, ok := strings.CutPrefix(key, "extensions.")
		switch {
		case strings.HasPrefix(key, "remote.") && strings.HasSuffix(key, ".promisor") && isTrue(value), ok && name == "partialclone":
			return unfit("it is a partial clone: git fetch --refetch makes it whole")
		case !ok:
		case name == "objectformat":
			if value != "sha1" && value != "sha256" {
				return unfit("git's extension %s = %s", name, value)
			}
			r.format = value
		case name == "refstorage":
			if value != "files" && value != "reftable" {
				return unfit("git's extension %s = %s", name, value)
			}
		case slices.Contains([]string{"noop", "noop-v1", "preciousobjects", "worktreeconfig", "relativeworktrees"}, name):
		default:
			return unfit("git's extension %s is not known", name)
		}
	}
	return nil
}

func isTrue(v string) bool {
	return slices.Contains([]string{"true", "yes", "on", "1"}, strings.ToLower(v))
}

// copied are the settings that say what the files of a repository are like, and start
// nothing.
var copied = []string{
	"core.repositoryformatversion", "core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode",
	"core.sharedrepository", "core.logallrefupdates", "extensions.objectformat", "extensions.refstorage",
}

var plainValue = regexp.MustCompile(`^[A-Za-z0-9-]*$`)

// makeView links what git needs of the repository into a directory with a configuration
// of its own, as git-new-workdir does.
func (r *Repository) makeView() error {
	var config strings.Builder
	for _, key := range copied {
		if value, ok := r.settings[key]; ok && plainValue.MatchString(value) {
			section, name, _ := strings.Cut(key, ".")
			fmt.Fprintf(&config, "[%s]\n\t%s = %s\n", section, name, value)
		}
	}
	fmt.Fprint(&config, "[core]\n\tbare = false\n")
	if err := os.MkdirAll(filepath.Join(r.view, "logs"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.view, "config"), []byte(config.String()), 0o600); err != nil {
		return err
	}
	for _, name := range []string{"objects", "refs", "packed-refs", "logs/refs", "shallow", "reftable"} {
		target := filepath.Join(r.place.Common, name)
		if _, err := os.Stat(target); err != nil && name != "packed-refs" && name != "logs/refs" {
			continue
		}
		if err := os.Symlink(target, filepath.Join(r.view, name)); err != nil {
			return err
		}
	}
	if err := os.Symlink(filepath.Join(r.place.Dir, "logs/HEAD"), filepath.Join(r.view, "logs/HEAD")); err != nil {
		return err
	}
	return r.copyHead()
}

// copyHead makes HEAD what it is now. git takes no link to it.
func (r *Repository) copyHead() error {
	text, ok := repository.ReadHead(r.place.Dir)
	if !ok {
		return unfit("its HEAD cannot be read")
	}
	return os.WriteFile(filepath.Join(r.view, "HEAD"), []byte(text), 0o600)
}

// committer is who is in the reflog.
var committer = []string{"GIT_COMMITTER_NAME=mayfly", "GIT_COMMITTER_EMAIL=mayfly@localhost"}

func (r *Repository) cmd(args ...string) gitrun.Cmd {
	return gitrun.Cmd{Dir: r.dir, GitDir: r.view, Args: args, Env: committer}
}

// git returns what git prints about the repository.
func (r *Repository) git(ctx context.Context, args ...string) (string, error) {
	out, err := gitrun.Output(ctx, r.cmd(args...), maxAnswer)
	if err != nil && ctx.Err() == nil {
		return "", unfit("git %s: %s", args[0], gitrun.Reason(err))
	}
	return out, err
}

// maxTips bounds the references that are told to a machine.
const maxTips = 2000

// Tips returns the commits that references of the repository name, the latest ones, and
// that of HEAD. What is reachable from them need not be sent. References of but that name what
// it says do not count.
func (r *Repository) Tips(ctx context.Context, but map[string]string) ([]string, error) {
	var out, head string
	if err := both(ctx, func(ctx context.Context) (err error) {
		out, err = r.git(ctx, "for-each-ref", "--sort=-creatordate", fmt.Sprintf("--count=%d", maxTips),
			"--format=%(refname) %(objecttype) %(objectname) %(*objecttype) %(*objectname)", "refs/heads", "refs/remotes", "refs/tags")
		return err
	}, func(ctx context.Context) error {
		head, _ = gitrun.Output(ctx, r.cmd("rev-parse", "--verify", "--quiet", "HEAD^{commit}"), 1000)
		return nil
	}); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	var ids []string
	add := func(id string) {
		if isID(id, r.format) && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	add(head)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) > 2 && but[fields[0]] == fields[2] {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			if fields[i] == "commit" {
				add(fields[i+1])
			}
		}
	}
	return ids, nil
}

// Lacks returns those of the references whose commits the repository does not have.
// Those of again are wanted although their objects may still be there, unless one of tips
// reaches them.
func (r *Repository) Lacks(ctx context.Context, refs []Ref, again map[string]bool, tips []string) ([]Ref, error) {
	ids := make([]string, len(refs))
	for i, ref := range refs {
		if !isID(ref.ID, r.format) || checkRef(ref.Name) != nil {
			return nil, refused("the reference %q", ref.Name)
		}
		ids[i] = ref.ID
	}
	has, err := r.hasCommits(ctx, r.cmd(), ids)
	if err != nil {
		return nil, err
	}
	var lacks []Ref
	for i, ref := range refs {
		wanted := !has[i]
		if has[i] && again[ref.ID] {
			if wanted, err = r.unreached(ctx, ref.ID, tips); err != nil {
				return nil, err
			}
		}
		if wanted {
			lacks = append(lacks, ref)
		}
	}
	return lacks, nil
}

// unreached reports whether none of tips reaches a commit.
func (r *Repository) unreached(ctx context.Context, id string, tips []string) (bool, error) {
	var in strings.Builder
	fmt.Fprintln(&in, id)
	for _, tip := range tips {
		fmt.Fprintln(&in, "^"+tip)
	}
	c := r.cmd("rev-list", "--max-count=1", "--ignore-missing", "--stdin")
	c.Stdin = strings.NewReader(in.String())
	out, err := gitrun.Output(ctx, c, 1000)
	return out != "", err
}

// hasCommits says of each id whether it is a commit there.
func (r *Repository) hasCommits(ctx context.Context, in gitrun.Cmd, ids []string) ([]bool, error) {
	in.Args = []string{"cat-file", "--batch-check=%(objecttype)"}
	in.Stdin = strings.NewReader(strings.Join(ids, "\n") + "\n")
	out, err := gitrun.Output(ctx, in, maxAnswer)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(out, "\n")
	has := make([]bool, len(ids))
	for i := range ids {
		has[i] = i < len(lines) && lines[i] == "commit"
	}
	return has, nil
}
