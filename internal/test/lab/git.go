package lab

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// maxPush bounds a request of git in bytes.
const maxPush = 64 << 20

// firstCommit makes a branch main with a README, for git-fast-import(1).
const firstCommit = `commit refs/heads/main
committer Lab <lab@example> 0 +0000
data 5
first
M 100644 inline README
data 6
hello

`

// Repository makes the bare git repository name.git, with one commit on main and
// README in it, and returns where it is. All hosts serve it, for reading and
// writing: https://HOST/name.git, the same below /private for whoever has a
// password, any, and by ssh as git@HOST:name.git.
func (l *Lab) Repository(name string) string {
	l.t.Helper()
	dir := filepath.Join(l.repositories(), name+".git")
	l.git("", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	l.git(firstCommit, "-C", dir, "fast-import", "--quiet")
	return dir
}

func (l *Lab) repositories() string { return filepath.Join(l.dir, "git") }

// git runs git with args outside the lab and nobody's configuration.
func (l *Lab) git(stdin string, args ...string) {
	l.t.Helper()
	cmd := exec.CommandContext(l.ctx, "git", args...)
	cmd.Env = append(cmd.Environ(), gitEnv...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

var gitEnv = []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}

// gitHandler serves the repositories, git-http-backend(1).
func (l *Lab) gitHandler() http.Handler {
	backend := &cgi.Handler{
		Path: "/bin/sh",
		Args: []string{"-c", "exec git http-backend"}, // which is not in PATH
		Env: append([]string{
			"GIT_PROJECT_ROOT=" + l.repositories(),
			"GIT_HTTP_EXPORT_ALL=1",
			"REMOTE_USER=lab", // who is known may push
		}, gitEnv...),
		InheritEnv: []string{"PATH"},
		Stderr:     io.Discard,
	}
	open := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, ".git/") {
			http.NotFound(w, r)
			return
		}
		// CGI wants to know how long a body is, RFC 3875 4.1.2.
		if r.ContentLength < 0 {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
			if err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
				return
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		}
		backend.ServeHTTP(w, r)
	})
	private := http.StripPrefix("/private", open)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/private/") {
			open.ServeHTTP(w, r)
			return
		}
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		private.ServeHTTP(w, r)
	})
}
