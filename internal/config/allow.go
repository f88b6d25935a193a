package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/tomledit"
)

// AllowIn adds rules to network.allow of a file, whose text stays as it is otherwise. Those
// that it has already it has once. The error wraps [tomledit.ErrShape] for a file that only
// its owner can add to.
func AllowIn(f File, rules []Rule) ([]byte, error) {
	settings, errs := parse(f)
	if len(errs) > 0 {
		return nil, join(errs)
	}
	out := f.Data
	for i, r := range rules {
		has := slices.ContainsFunc(rules[:i], func(earlier Rule) bool { return reflect.DeepEqual(earlier, r) })
		for _, s := range settings {
			if s.key == "network.allow" {
				old, err := asRule(s)
				has = has || err == nil && reflect.DeepEqual(old, r)
			}
		}
		if has {
			continue
		}
		var err error
		if out, err = tomledit.AppendTo(out, "network", "allow", r.literal()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// AllowLine returns the line that allows what rules say, for a file's section [network].
func AllowLine(rules []Rule) string {
	text := "allow = ["
	for i, r := range rules {
		if i > 0 {
			text += ", "
		}
		text += r.literal()
	}
	return text + "]"
}

// literal writes a rule for one host as files have it: as a string if that says all.
func (r Rule) literal() string {
	host := r.Host
	if r.Port != 0 {
		if strings.Contains(host, ":") { // IPv6
			host = "[" + host + "]"
		}
		host += ":" + strconv.Itoa(r.Port)
	}
	if same, err := parseRule(host); err == nil && reflect.DeepEqual(same, r) {
		return literal(host)
	}
	table := map[string]any{"host": r.Host}
	if r.Port != 0 {
		table["port"] = r.Port
	}
	if r.Private {
		table["private"] = true
	}
	return literal(table)
}
