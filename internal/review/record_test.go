package review

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestRecordSessions makes testdata/sessions anew with the workloads of
// testdata/sessions.sh, in machines of bin/mayfly: MAYFLY_RECORD_SESSIONS=all, or names of
// sessions or of projects, such as "go".
func TestRecordSessions(t *testing.T) {
	wanted := strings.Fields(os.Getenv("MAYFLY_RECORD_SESSIONS"))
	if len(wanted) == 0 {
		t.Skip("MAYFLY_RECORD_SESSIONS is not set")
	}
	out, err := exec.Command("bash", "testdata/sessions.sh", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	projects := map[string][]string{}
	for name := range strings.FieldsSeq(string(out)) {
		project, _, _ := strings.Cut(name, "_")
		if slices.ContainsFunc(wanted, func(w string) bool { return w == "all" || w == name || w == project }) {
			projects[project] = append(projects[project], name)
		}
	}
	for project, names := range projects {
		t.Run(project, func(t *testing.T) { newRecorder(t, project, names).record(names) })
	}
}

// recorder records the sessions of one project in one machine, whose workspace is put back
// after each.
type recorder struct {
	t                    *testing.T
	dir                  string // of the project
	script, mayfly, name string
	before               map[string]*sessionNode
}

// inMachine finds the tools that the host shares, and puts the workspace back.
const inMachine = `export PATH=$HOME/bin:/usr/local/go/bin:/opt/rust/bin:$PATH GOFLAGS=-mod=mod GOTOOLCHAIN=local CGO_ENABLED=0
case $1 in
prepare)
	mkdir -p ~/bin ~/.cache
	ln -s /opt/npm/bin/npm-cli.js ~/bin/npm
	[ ! -d /opt/compiled ] || cp -r /opt/compiled ~/.cache/go-build ;;
reset)
	git checkout -qf main && git reset -q --hard "$(git rev-list --max-parents=0 HEAD)" && git clean -qfdx ;;
*)
	exec bash /opt/sessions/sessions.sh work "$1" ;;
esac`

// newRecorder starts the machine. It uses the host's Go, Rust and npm, and what that Go has
// compiled already: with an emulated CPU it takes minutes to compile its library again.
func newRecorder(t *testing.T, project string, names []string) *recorder {
	r := &recorder{t: t, dir: t.TempDir(), name: "sessions-" + project}
	scripts, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	r.script, r.mayfly = filepath.Join(scripts, "sessions.sh"), filepath.Join(scripts, "../../../bin/mayfly")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOTOOLCHAIN", "local")
	t.Setenv("CGO_ENABLED", "0")
	r.run(r.dir, "bash", r.script, "base", names[0])
	r.before = treeOf(t, r.dir)

	args := []string{"run", "--keep", "--no-detect", "--name", r.name, "--share", scripts + ":/opt/sessions:ro"}
	if project == "agent" {
		args = append(args, "--profile", "claude")
	} else {
		args = append(args, "--package", "nodejs", "--package", "python3")
	}
	share := func(tool, at string) { args = append(args, "--share", strings.TrimSpace(tool)+":"+at+":ro") }
	switch project {
	case "go":
		share(r.run(r.dir, "go", "env", "GOROOT"), "/usr/local/go")
		compiled := t.TempDir()
		t.Setenv("GOCACHE", compiled)
		for _, name := range names {
			dir := t.TempDir()
			r.run(dir, "bash", r.script, "base", name)
			r.run(dir, "bash", r.script, "work", name)
		}
		share(compiled, "/opt/compiled")
		args = append(args, "--preset", "go")
	case "agent":
		api := httptest.NewServer(agentAPI{
			{"Write", map[string]any{"file_path": filepath.Join(r.dir, "docs/wind.md"), "content": "# Wind\n\nFly from 3 to 6 Beaufort.\n"}},
			{"Read", map[string]any{"file_path": filepath.Join(r.dir, "docs/guide.md")}},
			{"Edit", map[string]any{"file_path": filepath.Join(r.dir, "docs/guide.md"), "old_string": "2. Fly.", "new_string": "2. Look at [the wind](wind.md).\n3. Fly."}},
			{"Bash", map[string]any{"command": "make -s kite && ./kite && rm kite", "description": "Build and run it"}},
			{"Bash", map[string]any{"command": "git add -A && git commit -qm 'Write about the wind'", "description": "Commit"}},
		})
		t.Cleanup(api.Close)
		host := strings.Replace(api.Listener.Addr().String(), "127.0.0.1", "host.mayfly.internal", 1)
		args = append(args, "--allow", host, "--env", "ANTHROPIC_BASE_URL=http://"+host, "--env", "ANTHROPIC_API_KEY=none")
	case "rust":
		share(r.run(r.dir, "rustc", "--print", "sysroot"), "/opt/rust")
		args = append(args, "--preset", "crates")
	case "node":
		share(filepath.Join(strings.TrimSpace(r.run(r.dir, "npm", "root", "-g")), "npm"), "/opt/npm")
		args = append(args, "--preset", "npm")
	}
	r.run(r.dir, r.mayfly, append(args, "--", "sh", "-ec", inMachine, "sh", "prepare")...)
	t.Cleanup(func() { r.run(r.dir, r.mayfly, "rm", "--force", r.name) })
	return r
}

// run returns the standard output of a program.
func (r *recorder) run(dir, program string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = exit.Stderr
		}
		r.t.Fatalf("%s %.80q: %v\n%s\n%s", program, args, err, out, stderr)
	}
	return string(out)
}

func (r *recorder) record(names []string) {
	for _, name := range names {
		r.run(r.dir, r.mayfly, "exec", "-n", "-T", r.name, "--", "sh", "-ec", inMachine, "sh", name)
		data, err := json.MarshalIndent(r.session(), "", " ")
		if err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile("testdata/sessions/"+name+".json", append(anonymous(data), '\n'), 0o644); err != nil {
			r.t.Fatal(err)
		}
		r.run(r.dir, r.mayfly, "exec", "-n", "-T", r.name, "--", "sh", "-ec", inMachine, "sh", "reset")
		if left := r.listed(); len(left) > 0 {
			r.t.Fatalf("%s: the workspace was not put back: %+v", name, left)
		}
	}
}

// listedChange is what mayfly diff says of a change.
type listedChange struct {
	Op, Path, From, Kind, Target string
	Mode                         uint32
	Ignored                      bool
}

// listed returns what mayfly diff lists, but for commits and git's own files, which never
// come back as files.
func (r *recorder) listed() []listedChange {
	var list []listedChange
	if err := json.Unmarshal([]byte(r.run(r.dir, r.mayfly, "diff", "--json", r.name)), &list); err != nil {
		r.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(c listedChange) bool {
		first, _, _ := strings.Cut(c.Path, "/")
		return c.Op == "C" || first == ".git"
	})
}

// mostLeft bounds the paths of produced trees that a session names.
const mostLeft = 60

// session returns the change set of now: what mayfly diff lists, with the contents that
// mayfly cp gets.
func (r *recorder) session() *session {
	copied := r.t.TempDir()
	r.run(r.dir, r.mayfly, "cp", r.name+":"+r.dir, copied)
	after := treeOf(r.t, filepath.Join(copied, filepath.Base(r.dir)))

	ignored := map[string]bool{}
	for _, c := range r.listed() {
		if c.Kind == "symbolic link" && c.Op != "D" { // cp leaves out those that lead out
			after[c.Path] = &sessionNode{Kind: "link", Mode: c.Mode, Target: c.Target}
		}
		ignored[c.Path] = c.Ignored
		for _, tree := range []map[string]*sessionNode{r.before, after} {
			for p := range tree { // a directory that was renamed is one change
				if rest, ok := strings.CutPrefix(p, c.From); ok && c.From != "" && (rest == "" || rest[0] == '/') {
					ignored[p], ignored[c.Path+rest] = c.Ignored, c.Ignored
				}
			}
		}
	}
	s := &session{Made: "machine", Names: map[string][]string{".": {".git"}}}
	for p, n := range r.before {
		s.Names[path.Dir(p)] = append(s.Names[path.Dir(p)], path.Base(p))
		if n.Kind == "file" {
			s.Files++
		}
	}
	for _, names := range s.Names {
		slices.Sort(names)
	}
	left := 0
	for _, p := range differing(r.before, after) {
		if _, ok := ignored[p]; !ok {
			if n := cmp.Or(after[p], r.before[p]); n.Kind != "dir" { // it is obvious from what is in it
				r.t.Errorf("%s differs, and is not listed", p)
			}
			continue
		}
		c := sessionChange{Path: p, Ignored: ignored[p], Old: r.before[p], New: after[p]}
		if c.Ignored || strings.Contains(p, "node_modules") {
			if left++; left > mostLeft {
				continue
			}
			if c.New != nil && c.New.Kind == "file" {
				c.New = &sessionNode{Kind: "file", Mode: c.New.Mode, Left: true}
			}
		}
		s.Changes = append(s.Changes, c)
	}
	return s
}

// differing returns the paths at which two trees differ, sorted.
func differing(before, after map[string]*sessionNode) []string {
	var paths []string
	for p := range before {
		if after[p] == nil {
			paths = append(paths, p)
		}
	}
	for p, n := range after {
		if old := before[p]; old == nil || fmt.Sprint(*old) != fmt.Sprint(*n) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

func treeOf(t *testing.T, root string) map[string]*sessionNode {
	tree := map[string]*sessionNode{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		switch {
		case err != nil || rel == ".":
			return err
		case rel == ".git":
			return fs.SkipDir // it comes back as commits
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := &sessionNode{Kind: "dir", Mode: uint32(info.Mode().Perm())}
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			n.Kind = "file"
			if utf8.Valid(data) {
				n.Text = string(data)
			} else {
				n.Bytes = data
			}
		case info.Mode()&fs.ModeSymlink != 0:
			n.Kind = "link"
			n.Target, err = os.Readlink(p)
			if path.IsAbs(n.Target) { // where the host has its interpreters says nothing
				n.Target = "/usr/bin/" + path.Base(n.Target)
			}
		}
		tree[rel] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

var server = regexp.MustCompile(`(https?://|sparse\+https://)([a-z0-9.-]+\.[a-z0-9.-]+)(:[0-9]+)?/`)

// anonymous names the servers that the host installs from by numbers.
func anonymous(data []byte) []byte {
	var known []string
	return server.ReplaceAllFunc(data, func(m []byte) []byte {
		part := server.FindSubmatch(m)
		host := string(part[2])
		if strings.HasSuffix(host, ".example") || host == "www.w3.org" {
			return m
		}
		i := slices.Index(known, host)
		if i < 0 {
			i = len(known)
			known = append(known, host)
		}
		return []byte(string(part[1]) + "server" + strconv.Itoa(i) + ".example/")
	})
}
