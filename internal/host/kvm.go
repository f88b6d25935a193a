package host

import (
	"errors"
	"io/fs"
	"os"
)

// probeKVM looks at /dev/kvm without using it.
func probeKVM(o Options) KVM {
	f, err := os.OpenFile(o.path("/dev/kvm"), os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close()
		return KVM{Present: true, Openable: true, Reason: "not tried yet"}
	case errors.Is(err, fs.ErrNotExist):
		return KVM{Reason: "/dev/kvm does not exist"}
	case errors.Is(err, fs.ErrPermission):
		return KVM{Present: true, Reason: "/dev/kvm: permission denied; the user is not in the group kvm"}
	default:
		return KVM{Present: true, Reason: err.Error()}
	}
}

func cachedProof(f Facts) KVM { return f.KVM }
