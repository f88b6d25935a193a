package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	inner := New(MachineNotFound, Args{"name": "m"}, "find m: %w", fs.ErrNotExist)
	tests := []struct {
		err  error
		want Code
	}{
		{nil, ""},
		{errors.New("plain"), ""},
		{inner, MachineNotFound},
		{fmt.Errorf("start: %w", inner), MachineNotFound},
		{errors.Join(errors.New("plain"), inner), MachineNotFound},
		{Wrap(inner, NameTaken, nil), NameTaken},
	}
	for _, tt := range tests {
		if got := CodeOf(tt.err); got != tt.want {
			t.Errorf("CodeOf(%v) = %q; want %q", tt.err, got, tt.want)
		}
	}
	if f, ok := Of(inner); !ok || f.Args["name"] != "m" {
		t.Errorf("Of(%v) = %+v, %v; want the name", inner, f, ok)
	}
}

func TestErrorHidesNothing(t *testing.T) {
	err := New(MachineNotFound, nil, "find m: %w", fs.ErrNotExist)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap its cause", err)
	}
	if got, want := err.Error(), "find m: file does not exist"; got != want {
		t.Errorf("New().Error() = %q; want %q", got, want)
	}
	if got := Wrap(err, NameTaken, nil).Error(); got != err.Error() {
		t.Errorf("Wrap().Error() = %q; want %q", got, err)
	}
	if err := Wrap(nil, NameTaken, nil); err != nil {
		t.Errorf("Wrap(nil) = %v; want nil", err)
	}
}

// Codes and arguments are an API, and the table is their documentation.
func TestKinds(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	seen := make(map[Code]bool)
	for _, k := range Kinds() {
		if !name.MatchString(string(k.Code)) {
			t.Errorf("the code %q is not in kebab case", k.Code)
		}
		if seen[k.Code] {
			t.Errorf("%s has several rows", k.Code)
		}
		seen[k.Code] = true
		if first, _, _ := strings.Cut(k.Meaning, " "); first == "" || !strings.HasSuffix(k.Meaning, ".") {
			t.Errorf("the meaning of %s is %q; want a sentence", k.Code, k.Meaning)
		}
		for i, arg := range k.Args {
			if !name.MatchString(arg) || slices.Contains(k.Args[:i], arg) {
				t.Errorf("%s: bad argument %q", k.Code, arg)
			}
		}
	}
}
