package supervisor

import "slices"

// closers end what was begun, the last first.
type closers []func()

func (c *closers) add(end func()) { *c = append(*c, end) }

// Close may be called again.
func (c *closers) Close() {
	for _, end := range slices.Backward(*c) {
		end()
	}
	*c = nil
}
