package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

// Encode returns the plan as JSON, the same bytes for equal plans.
func (p Plan) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	return append(data, '\n'), nil
}

// Decode reads what Encode wrote. It is strict, because what it returns is
// acted upon: another version, an unknown field or text after the plan is an
// error.
func Decode(data []byte) (Plan, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil { // refuses text after the plan too
		return Plan{}, fmt.Errorf("decode the plan: %w", err)
	}
	if v.Version != Version {
		return Plan{}, fault.New(fault.PlanVersion, fault.Args{"version": strconv.Itoa(v.Version), "reads": strconv.Itoa(Version)},
			"decode the plan: it has version %d; this mayfly reads version %d", v.Version, Version)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var p Plan
	if err := d.Decode(&p); err != nil {
		return Plan{}, fmt.Errorf("decode the plan: %w", err)
	}
	if err := naming.Check(p.Name); err != nil { // it becomes a path
		return Plan{}, fmt.Errorf("decode the plan: %w", err)
	}
	return p, nil
}
