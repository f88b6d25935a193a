package control

import (
	"context"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Health is what becomes of a machine that is ready.
type Health string

// How a machine does.
const (
	Well        Health = "running"
	Paused      Health = "paused"      // its VMM stands still, as when the host's disk is full
	Unreachable Health = "unreachable" // it runs, but its guest has broken off the conversation
)

// Condition is how a machine does, and why. Code and Args say for a program what Reason
// says in English.
type Condition struct {
	Health Health     `json:"health"`
	Reason string     `json:"reason,omitempty"`
	Code   fault.Code `json:"code,omitempty"`
	Args   fault.Args `json:"args,omitempty"`
}

// Err returns the condition as the error of a machine that is not well, or nil.
func (c Condition) Err() error {
	if c.Code == "" {
		return nil
	}
	return fault.New(c.Code, c.Args, "%s", c.Reason)
}

// ConditionOf asks how the machine m does, and waits for timeout at most. One that does not
// say so is well, as far as is known.
func ConditionOf(ctx context.Context, m state.Machine, timeout time.Duration) Condition {
	answers := make(chan Condition, 1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	go func() {
		conn, answer, err := dial(ctx, m, Request{Op: OpCondition})
		if err != nil || answer.Condition == nil {
			answers <- Condition{Health: Well}
			return
		}
		conn.Close()
		answers <- *answer.Condition
	}()
	select {
	case c := <-answers:
		return c
	case <-ctx.Done():
		return Condition{Health: Well}
	}
}
