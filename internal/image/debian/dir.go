package debian

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// MakeDir makes the directory dir for a build with the settings aptConfig of apt. Nobody
// else may look into it: the settings may have passwords, and root's builds unpack real
// setuid programs. A normal user's build runs as subordinate users, the first of which is
// root in it and must pass.
func MakeDir(dir, aptConfig string) error {
	if err := os.Mkdir(dir, 0o700); err != nil || os.Geteuid() == 0 {
		return err
	}
	u, err := user.Current()
	if err != nil {
		return err
	}
	first, err := subordinate("/etc/subuid", u)
	if err != nil {
		return nil // the build says what is missing
	}
	err = letPass(dir, first)
	if errors.Is(err, unix.ENOTSUP) {
		// Without lists of access, all must pass.
		if strings.Contains(aptConfig, "@") {
			return fault.New(fault.BuildDirectoryOpen, fault.Args{"dir": dir},
				"the file system of %s has no access control lists, so other users could read the password in the settings of apt", dir)
		}
		return os.Chmod(dir, 0o711)
	}
	if err != nil {
		return fmt.Errorf("let the build pass through %s: %w", dir, err)
	}
	return nil
}

// letPass gives a user the right to pass through the directory dir, which otherwise its
// owner alone has. See acl(5), and posix_acl_xattr_header in the kernel.
func letPass(dir string, uid int) error {
	const (
		version                           = 2
		owner, named, group               = 0x01, 0x02, 0x04
		mask, other                       = 0x10, 0x20
		read, write, pass, nothing        = 4, 2, 1, 0
		nobody                     uint32 = 1<<32 - 1
	)
	list := binary.LittleEndian.AppendUint32(nil, version)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{
		{owner, read | write | pass, nobody}, {named, pass, uint32(uid)}, {group, nothing, nobody}, {mask, pass, nobody}, {other, nothing, nobody},
	} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.perm)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	return unix.Setxattr(dir, "system.posix_acl_access", list, 0)
}

// subordinate returns the first of the ids that a file like /etc/subuid gives to u.
func subordinate(file string, u *user.User) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != u.Username && f[0] != u.Uid {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		n, err2 := strconv.Atoi(f[2])
		if errors.Join(err1, err2) == nil && n >= 65536 {
			return first, nil
		}
	}
	return 0, fmt.Errorf("%s gives %s no 65536 subordinate ids", file, u.Username)
}
