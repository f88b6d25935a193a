package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/review/gitconfig"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// GitConfig is the path of the configuration whose settings can be taken one by one.
const GitConfig = ".git/config"

// MostGitSettings is how many settings are told of.
const MostGitSettings = 100

// GitSetting is a setting of the workspace's repository that the machine changed.
type GitSetting struct {
	Key      string
	Old, New []string // values on the host and in the machine; none where it is not set
	Finding  review.Finding
	Never    string // why it cannot be taken; "" if it can
}

// Bounds of settings.
const (
	maxGitValues   = 8
	maxGitValue    = 1 << 10
	settingTimeout = 10 * time.Second
)

// ByName reports whether an edit is of git's own and yet can be applied, if somebody names
// it: a hook, or settings that were picked.
func (c *Changes) ByName(i int) bool { return commits.Own(c.Edits[i].Path) && !c.Verdicts[i].Withheld }

// namable reports whether an edit of git's own can be applied: a hook that git on the host
// runs by this name, or settings that were picked.
func (c *Changes) namable(e *workspace.Edit) bool {
	return c.isHook(e) || e.Path == GitConfig && e.Partial
}

func (c *Changes) isHook(e *workspace.Edit) bool {
	dir, name := path.Split(e.Path)
	repository, ok := strings.CutSuffix(dir, "/hooks/")
	if !ok || path.Base(repository) != ".git" || !review.IsHook(name) {
		return false
	}
	known := c.manifest.Find(repository)
	return known != nil && known.Kind == workspace.Dir && e.NewKind == workspace.File && (e.OldKind == workspace.None || e.OldKind == workspace.File)
}

// plainHooks has hooks come as files of their own, with the mode that a hook has.
func (c *Changes) plainHooks() {
	for i := range c.Edits {
		if e := &c.Edits[i]; c.isHook(e) {
			e.Link = ""
			if e.NewMode&0o111 != 0 {
				e.NewMode = 0o755
			} else {
				e.NewMode = 0o644 // git does not run it
			}
		}
	}
}

// GitSettings returns the settings of the workspace's repository that the machine changed,
// after a review. It is empty where one of the files is not as git writes it.
func (c *Changes) GitSettings() ([]GitSetting, error) {
	i := slices.IndexFunc(c.Edits, func(e workspace.Edit) bool { return e.Path == GitConfig })
	if i < 0 {
		return nil, nil
	}
	e := &c.Edits[i]
	known := c.manifest.Find(".git")
	if known == nil || known.Kind != workspace.Dir || e.OldKind != workspace.File || e.NewKind != workspace.File || !c.Staged(e) {
		return nil, nil
	}
	before, err := readSettings(func() (io.ReadCloser, error) { return c.OpenOld(e) })
	if err != nil {
		return nil, ignoreForm(err)
	}
	after, err := readSettings(func() (io.ReadCloser, error) { return c.OpenNew(e) })
	if err != nil {
		return nil, ignoreForm(err)
	}
	_, now, err := c.hostSettings()
	if err != nil {
		return nil, ignoreForm(err)
	}
	var list []GitSetting
	for _, change := range gitconfig.Diff(before, after) {
		s := GitSetting{Key: change.Key(), Old: valuesOf(now, change.Key()), New: valuesOf(after, change.Key())}
		if slices.ContainsFunc(list, func(l GitSetting) bool { return l.Key == s.Key }) || slices.Equal(s.Old, s.New) {
			continue
		}
		if len(list) == MostGitSettings {
			break
		}
		s.Never = never(change.Setting, after)
		s.Finding = review.Finding{Rule: "git-config", Class: review.Runs, Reason: "git setting that is not known to be harmless", Key: s.Key}
		if j := slices.IndexFunc(c.Verdicts[i].Findings, func(f review.Finding) bool { return f.Key == s.Key }); j >= 0 {
			s.Finding = c.Verdicts[i].Findings[j]
		}
		list = append(list, s)
	}
	return list, nil
}

// errForm is the error of a file that is not as git writes it.
var errForm = errors.New("git configuration that cannot be read")

func ignoreForm(err error) error {
	if errors.Is(err, errForm) {
		return nil
	}
	return err
}

func readSettings(open func() (io.ReadCloser, error)) ([]gitconfig.Setting, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, gitconfig.MostBytes+1))
	if err != nil {
		return nil, err
	}
	settings, err := gitconfig.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errForm, err)
	}
	return settings, nil
}

// hostSettings returns the host's configuration as it is now.
func (c *Changes) hostSettings() (file *os.File, settings []gitconfig.Setting, err error) {
	dir, err := workspace.OpenHost(c.manifest.Root)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	file, err = dir.Open(GitConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errForm, err)
	}
	settings, err = readSettings(func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(file, 0, gitconfig.MostBytes+1)), nil
	})
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, settings, nil
}

func valuesOf(settings []gitconfig.Setting, key string) (values []string) {
	for _, s := range settings {
		if s.Key() == key {
			values = append(values, s.Value)
		}
	}
	return values
}

// never says why a setting cannot be taken.
func never(s gitconfig.Setting, after []gitconfig.Setting) string {
	switch {
	case s.Section == "include" || s.Section == "includeif":
		return "it includes a file, whose later content would count unseen"
	case s.Section == "extensions" || s.Section == "core" && slices.Contains([]string{"repositoryformatversion", "bare", "worktree"}, s.Name):
		return "it says what the repository is"
	}
	n := 0
	for _, other := range after {
		if other.Key() != s.Key() {
			continue
		}
		if n++; n > maxGitValues || len(other.Value) > maxGitValue {
			return "it is too long to be shown"
		}
		if other.Bare {
			return "it has no value"
		}
		if !plain(other.Value) {
			return "it has characters that cannot be shown"
		}
	}
	if !plain(s.Key()) || len(s.Key()) > maxGitValue {
		return "it has characters that cannot be shown"
	}
	return ""
}

func plain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !termsafe.Printable(r) })
}

// PickGitSettings makes the change of the repository's configuration one of the named
// settings alone, in the host's file as it is now, and reviews it.
func (c *Changes) PickGitSettings(ctx context.Context, keys []string) error {
	list, err := c.GitSettings()
	if err != nil {
		return err
	}
	var picked []GitSetting
	for _, key := range keys {
		key = foldKey(key)
		i := slices.IndexFunc(list, func(s GitSetting) bool { return s.Key == key })
		switch {
		case i < 0:
			return fault.New(fault.ChangeMissing, args{"path": key}, "%s: the machine changed no such setting of git", termsafe.Quote(key))
		case list[i].Never != "":
			return InputError{fmt.Errorf("%s cannot be taken from a machine: %s", termsafe.Quote(key), list[i].Never)}
		}
		picked = append(picked, list[i])
	}
	file, before, err := c.hostSettings()
	if err != nil {
		return err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	old, err := io.ReadAll(io.NewSectionReader(file, 0, gitconfig.MostBytes))
	if err != nil {
		return err
	}
	text, err := c.writeSettings(ctx, string(old), before, picked)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Edits, func(e workspace.Edit) bool { return e.Path == GitConfig })
	e := c.Edits[i]
	e.Since, e.OldKind, e.OldMode, e.OldSize = true, workspace.File, uint32(fi.Mode().Perm()), int64(len(old))
	sum, err := sparse.SumOf(ctx, strings.NewReader(string(old)), e.OldSize)
	if err != nil {
		return err
	}
	e.OldSum = &sum
	e.NewMode = e.OldMode
	c.Edits[i] = e
	return c.Pick(ctx, []Part{{Edit: i, Content: text, Mode: true}})
}

// foldKey writes the name of a setting as this package does: git takes its first and its
// last part in any case.
func foldKey(key string) string {
	section, rest, ok := strings.Cut(key, ".")
	i := strings.LastIndexByte(rest, '.')
	if !ok {
		return key
	}
	return strings.ToLower(section) + "." + rest[:i+1] + strings.ToLower(rest[i+1:])
}

// writeSettings returns a file of git's configuration with other values of some settings.
// git writes it, since it quotes as git reads. What it wrote is read once more: nothing
// but these settings may differ.
func (c *Changes) writeSettings(ctx context.Context, text string, before []gitconfig.Setting, picked []GitSetting) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, settingTimeout)
	defer cancel()
	dir, err := os.MkdirTemp(c.machine.m.Dir, "gitconfig-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	name := path.Join(dir, "config")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return "", err
	}
	git := func(args ...string) error {
		return gitrun.Run(ctx, gitrun.Cmd{Dir: dir, Args: append([]string{"config", "--file", name}, args...)})
	}
	for _, s := range picked {
		if len(s.Old) > 0 {
			if err := git("--unset-all", s.Key); err != nil {
				return "", fmt.Errorf("set %s: %w", termsafe.Quote(s.Key), err)
			}
		}
		for _, value := range s.New {
			if err := git("--add", s.Key, value); err != nil {
				return "", fmt.Errorf("set %s: %w", termsafe.Quote(s.Key), err)
			}
		}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	after, err := gitconfig.Parse(data)
	if err != nil {
		return "", fmt.Errorf("git wrote what cannot be read: %w", err)
	}
	for _, s := range picked {
		if !slices.Equal(valuesOf(after, s.Key), s.New) {
			return "", fmt.Errorf("git wrote %s in another way", termsafe.Quote(s.Key))
		}
	}
	for _, change := range gitconfig.Diff(before, after) {
		if !slices.ContainsFunc(picked, func(s GitSetting) bool { return s.Key == change.Key() }) {
			return "", fmt.Errorf("git changed %s, too", termsafe.Quote(change.Key()))
		}
	}
	return string(data), nil
}
