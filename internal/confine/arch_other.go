//go:build !amd64

package confine

// No filter is written for this architecture.
const (
	auditArch  = 0
	foreignBit = 1<<32 - 1
)
