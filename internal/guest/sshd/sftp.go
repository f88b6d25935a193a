package sshd

import (
	"errors"
	"io"

	"github.com/pkg/sftp"
)

// ServeSFTP serves files until in ends. It does so with the rights of the process,
// which therefore is one of the user's, and where names that are not absolute begin
// at its working directory. (The library has an option for another one, which makes
// the targets of symbolic links absolute.)
func ServeSFTP(in io.Reader, out io.WriteCloser) error {
	s, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{in, out})
	if err != nil {
		return err
	}
	if err := s.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
