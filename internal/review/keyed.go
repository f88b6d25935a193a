package review

import (
	"errors"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// changed returns what differs between the old and the new content, by key. After an error
// the rule takes the worst for granted.
func (s *subject) changed(f settings.Format) ([]settings.Change, error) {
	before, err := parsed(f, s.old)
	if err != nil {
		return nil, err
	}
	after, err := parsed(f, s.new)
	if err != nil {
		return nil, err
	}
	changes := settings.Diff(before, after)
	for _, c := range changes {
		if len(c.Path) == 0 {
			return nil, errors.New("a value without a key")
		}
	}
	return changes, nil
}

func parsed(f settings.Format, content func() ([]byte, error)) (*settings.File, error) {
	data, err := content()
	if err != nil {
		return nil, err
	}
	return settings.Parse(f, data)
}

// mostFindings bounds what one rule says of one change.
const mostFindings = 16

// judged returns a when that has each changed key judged. A file that cannot be read by key
// is found as a whole, with the rule's own class, which is therefore its gravest.
func judged(f settings.Format, judge func(*subject, settings.Change) (Finding, bool)) func(*subject) []Finding {
	return func(s *subject) []Finding {
		changes, err := s.changed(f)
		if err != nil {
			return []Finding{{Detail: "its settings cannot be read: " + bounded(err.Error())}}
		}
		var found []Finding
		for _, c := range changes {
			if len(c.Path) == 0 { // the file is one value
				return []Finding{{Detail: "its settings are " + bounded(c.New)}}
			}
			f, ok := judge(s, c)
			if !ok || len(found) >= mostFindings && f.Class < Suspicious {
				continue
			}
			f.Key, f.Line = bounded(c.Key()), c.Line
			if f.Detail == "" {
				f.Detail = bounded(c.New)
			}
			found = append(found, f)
			if len(found) >= 2*mostFindings {
				break
			}
		}
		return found
	}
}
