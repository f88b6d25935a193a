package mayfly

import "context"

// Drop puts data into a new file of the machine's user that nobody else can read, and
// returns its path there. Its name is random; extension, without a dot, ends it.
func (m *Machine) Drop(ctx context.Context, data []byte, extension string) (path string, err error) {
	path, err = m.m.Drop(ctx, data, extension)
	return path, public(err)
}

// Paste types paths of the machine at the program of a session, with spaces between, and
// presses no Enter. The program gets each as one that is pasted, if it wants to know.
func (m *Machine) Paste(ctx context.Context, session string, paths ...string) error {
	return public(m.m.Paste(ctx, session, paths))
}

// PastePictures reports whether a front end is to put a picture, whose path is pasted at a
// terminal, into the machine that is shown there, as the user's config.toml says.
func (c *Client) PastePictures() (bool, error) {
	on, err := c.e.PastePictures()
	return on, public(err)
}
