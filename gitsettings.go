package mayfly

import (
	"context"

	"github.com/mayfly-vm/mayfly/internal/engine"
)

// GitConfig is the path of the change whose settings [ChangeSet.GitSettings] returns.
const GitConfig = engine.GitConfig

// MostGitSettings is how many settings GitSettings returns at most.
const MostGitSettings = engine.MostGitSettings

// GitSetting is a setting in the configuration of the workspace's repository that the
// machine changed. The file itself never comes back.
type GitSetting struct {
	Key    string   `json:"key"`
	Old    []string `json:"old"` // the host's values; none where it is not set
	New    []string `json:"new"` // and the machine's
	Class  Class    `json:"class"`
	Reason string   `json:"reason"`          // of the class, for people
	Never  string   `json:"never,omitempty"` // why it cannot be picked
}

// GitSettings returns the settings of the workspace's repository that the machine changed
// and that the host does not have so, after a review.
func (s *ChangeSet) GitSettings() ([]GitSetting, error) {
	if s.c == nil || s.c.Verdicts == nil {
		return nil, nil
	}
	list, err := s.c.GitSettings()
	return convert(list, func(g engine.GitSetting) GitSetting {
		return GitSetting{g.Key, g.Old, g.New, Class(g.Finding.Class.String()), g.Finding.Reason, g.Never}
	}), public(err)
}

// PickGitSettings makes the change of GitConfig one of these settings alone, in the host's
// file as it is now. An Apply takes it if GitConfig is approved. s.Changes is new then.
func (s *ChangeSet) PickGitSettings(ctx context.Context, keys []string) error {
	if err := s.c.PickGitSettings(ctx, keys); err != nil {
		return public(err)
	}
	s.list()
	s.judge()
	return nil
}
