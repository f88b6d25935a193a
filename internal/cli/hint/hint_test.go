package hint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestOf(t *testing.T) {
	inner := hint.Errorf("run this", "open: %w", fs.ErrNotExist)
	tests := []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("plain"), ""},
		{inner, "run this"},
		{fmt.Errorf("start: %w", inner), "run this"},
		{hint.Wrap(inner, "rather this"), "rather this"},
		{errors.Join(errors.New("plain"), inner), "run this"},
		{fault.New(fault.MachineDataLeft, fault.Args{"name": "m"}, "left"), "mayfly rm m removes it"},
		{fault.New(fault.MachineDataLeft, nil, "of no name"), ""},
		{fault.New("no-such-code", nil, "start: %w", inner), "run this"},
		{hint.Wrap(fault.New(fault.MachineNotFound, nil, "find"), "rather this"), "rather this"},
	}
	for _, tt := range tests {
		if got := hint.Of(tt.err); got != tt.want {
			t.Errorf("Of(%v) = %q; want %q", tt.err, got, tt.want)
		}
	}
	if !errors.Is(inner, fs.ErrNotExist) {
		t.Error("a hinted error hides the error it wraps")
	}
	if hint.Wrap(nil, "x") != nil {
		t.Error("Wrap(nil) != nil")
	}
}
