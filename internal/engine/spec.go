package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// projectFile is the configuration that a repository may carry.
const projectFile = "mayfly.toml"

// Spec is what a front end says of a machine that has no file of its own.
type Spec struct {
	// Name of the machine; made up when it is empty.
	Name string
	// Definition is the machine with a file of its own that it is to be another one of: a new
	// copy of the same workspace, with nothing that that keeps and no published ports. All
	// that follows is left alone then.
	Definition string
	// Dir is the directory that the machine works on unless Settings name another.
	Dir string
	// NoWorkspace gives the machine no directory at all.
	NoWorkspace bool
	// ConfigFile takes the place of the user's config.toml, and must exist.
	ConfigFile string
	// Settings override files. They name what the user typed.
	Settings []config.Setting
	// NoDetect chooses no profiles by the project's files and the command.
	NoDetect bool
	// Command is what the machine is for: some commands ask for profiles.
	Command []string
	// Learn lets everything public pass, for a list to be written of it.
	Learn bool
	// Trust is asked whether a project's own configuration may be used: a
	// repository can come from anyone. file is its path and content all of it.
	// Nil for no.
	Trust func(file string, content []byte) (bool, error)
	// DryRun makes, fetches and remembers nothing.
	DryRun bool
}

// InputError is an error in what a user wrote, as opposed to what came of it.
type InputError struct{ Err error }

func (e InputError) Error() string { return e.Err.Error() }

func (e InputError) Unwrap() error { return e.Err }

// Is makes errors.Is find ErrInput.
func (InputError) Is(target error) bool { return target == ErrInput }

// ErrInput is in every InputError.
var ErrInput = errors.New("wrong input")

func inputError(err error) error {
	if err == nil {
		return nil
	}
	return InputError{err}
}

// load reads and merges the configuration of a machine of s.
func (e *Engine) load(s Spec) (config.Config, error) {
	src := config.Sources{Settings: s.Settings, ProfileDir: e.profileDir()}
	user := s.ConfigFile
	if user == "" {
		user = e.userConfig()
	}
	file, err := config.ReadFile(user)
	file.Own = true
	switch {
	case err == nil:
		src.Files = append(src.Files, file)
	case s.ConfigFile != "" || !errors.Is(err, fs.ErrNotExist):
		return config.Config{}, InputError{err}
	}
	// The project's directory may itself come from the user's file or flags.
	first, err := config.Load(src)
	if err != nil {
		return config.Config{}, InputError{err}
	}
	if s.NoWorkspace {
		return e.loadDetected(src, s, nil)
	}
	project, err := userfile.OpenRoot(plan.WorkspacePath(first, e.home(), s.Dir))
	if err != nil {
		// Refused with better words when the workspace is checked.
		return e.loadDetected(src, s, nil)
	}
	defer project.Close()
	if file, ok, err := e.projectConfig(project.Name(), s); err != nil {
		return config.Config{}, InputError{err}
	} else if ok {
		src.Files = append(src.Files, file)
	}
	return e.loadDetected(src, s, project.FS())
}

// loadDetected adds the profiles that the project and the command ask for.
func (e *Engine) loadDetected(src config.Sources, s Spec, project fs.FS) (config.Config, error) {
	var found []config.Detection
	if !s.NoDetect {
		if project != nil {
			found = config.Detect(project)
		}
		if d, ok := config.DetectCommand(s.Command); ok {
			found = append(found, d)
		}
	}
	var because []string
	for _, d := range found {
		src.Detected = append(src.Detected, d.Profile)
		because = append(because, fmt.Sprintf("%s (%s)", d.Profile, d.Because))
	}
	cfg, err := config.Load(src)
	if err != nil {
		return cfg, InputError{err}
	}
	if len(because) > 0 {
		e.note(NoteProfiles, args{"profiles": strings.Join(because, ", ")})
	}
	return cfg, nil
}

// projectConfig reads the project's own configuration if its user trusts it. A
// repository can come from anyone: its file is used only after its user saw
// these very bytes and agreed.
func (e *Engine) projectConfig(dir string, s Spec) (config.File, bool, error) {
	file, err := config.ReadFile(filepath.Join(dir, projectFile))
	if errors.Is(err, fs.ErrNotExist) {
		return file, false, nil
	}
	if err != nil {
		return file, false, err
	}
	book := filepath.Join(e.dirs.State, "trusted.json")
	var trusted map[string]string // path → SHA-256 of the content
	if err := state.ReadJSON(book, &trusted); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return file, false, fault.New(fault.TrustUnreadable, args{"file": book}, "read what is trusted: %w", err)
	}
	sum := sha256.Sum256(file.Data)
	digest := hex.EncodeToString(sum[:])
	if trusted[file.Path] == digest {
		return file, true, nil
	}
	trust := false
	if s.Trust != nil {
		if trust, err = s.Trust(file.Path, file.Data); err != nil {
			return file, false, err
		}
	}
	if !trust {
		e.note(NoteUntrusted, args{"file": file.Path})
		return file, false, nil
	}
	if s.DryRun {
		return file, true, nil
	}
	if trusted == nil {
		trusted = make(map[string]string)
	}
	trusted[file.Path] = digest
	if err := os.MkdirAll(e.dirs.State, 0o700); err != nil {
		return file, false, err
	}
	return file, true, state.WriteJSON(book, trusted)
}

// loadFile merges a machine's own file with the user's configuration.
func (e *Engine) loadFile(file config.File) (config.Config, error) {
	user, err := e.userSources()
	if err != nil {
		return config.Config{}, err
	}
	return mergeFile(user, file)
}

// readUserConfig reads the user's config.toml.
func (e *Engine) readUserConfig() (config.File, error) {
	file, err := config.ReadFile(e.userConfig())
	file.Own = true
	return file, err
}

// userSources returns the user's own configuration, below every machine's file.
func (e *Engine) userSources() (config.Sources, error) {
	src := config.Sources{ProfileDir: e.profileDir()}
	switch user, err := e.readUserConfig(); {
	case err == nil:
		src.Files = append(src.Files, user)
	case !errors.Is(err, fs.ErrNotExist):
		return src, InputError{err}
	}
	return src, nil
}

// mergeFile merges a machine's own file over src.
func mergeFile(src config.Sources, file config.File) (config.Config, error) {
	file.Portable = true
	src.Files = append(slices.Clip(src.Files), file)
	cfg, err := config.Load(src)
	if err != nil {
		return cfg, InputError{err}
	}
	return cfg, nil
}
