package agent

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/sshd"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// machine is what a guest has become by wire.Configure.
type machine struct {
	user       wire.User
	credential *syscall.Credential // the user's
	env        []string
	workspace  *workspace                   // nil for none
	ssh        func() (*sshd.Server, error) // nil for none
	sshDir     string                       // where a shell on a terminal begins
	systemd    bool                         // process 1 may become systemd, for which all is prepared
}

// newMachine is a machine that nothing runs in yet.
func newMachine(req *wire.Configure) *machine {
	return &machine{user: req.User, credential: credential(req.User)}
}

func credential(u wire.User) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	for _, g := range u.Groups {
		c.Groups = append(c.Groups, uint32(g.GID))
	}
	return c
}

// configure makes a machine of the guest. It runs once.
func (a *agent) configure(req *wire.Configure, came time.Time) wire.Configured {
	start := time.Now()
	<-a.modules
	a.mu.Lock()
	defer a.mu.Unlock()
	m, err := a.configureLocked(req, came)
	if err != nil {
		return wire.Configured{Error: err.Error()}
	}
	var answer wire.Configured
	if m.env, err = a.readShellInit(m); err != nil {
		answer.Notes = append(answer.Notes, fmt.Sprintf("home.shell_init: %v: commands that no shell starts do not have what it exports", err))
	}
	if req.Init == wire.InitSystemd {
		if err := prepareSystemd(handover{Configure: req, Env: m.env}); err != nil {
			return wire.Configured{Error: err.Error()}
		}
		m.systemd = true
	}
	a.machine = m
	answer.Nanos = time.Since(start).Nanoseconds()
	return answer
}

func (a *agent) configureLocked(req *wire.Configure, came time.Time) (*machine, error) {
	if a.machine != nil {
		return nil, errors.New("the machine is configured already")
	}
	if a.prepared == nil {
		return nil, errors.New("the guest is not prepared")
	}
	a.prepared.begin()
	// First what nothing of a user may run without.
	if err := addEntropy(req.Entropy); err != nil {
		return nil, err
	}
	if err := setTime(req.Time, came); err != nil {
		return nil, err
	}
	// The network card is set up while the rest goes on.
	card := make(chan error, 1)
	go func() {
		if a.prepared.card {
			card <- nil
			return
		}
		card <- setUpNetwork(req.Network)
	}()
	m, err := a.prepared.makeRoot(req)
	if err := errors.Join(err, <-card); err != nil {
		return nil, err
	}
	// Opened now, since the new root will cover them.
	disks, err := openDisks(writtenDisks(len(req.Volumes), req.Keep != "")...)
	if err != nil {
		return nil, err
	}
	if err := switchRoot(); err != nil {
		return nil, err
	}
	if err := makeRuntimeDir(req.User); err != nil {
		return nil, err
	}
	if req.Init == wire.InitSystemd {
		return m, nil // it is the service that serves
	}
	go giveBack(disks) // as long as process 1 lives
	return m, a.setUpSSH(m, req.SSH)
}

// warmUp runs a program that does nothing while the machine is configured: an
// emulated CPU has to translate all of the kernel's and the linker's way to the
// first one. It runs in the image's base as nobody, and before the machine has
// anything that it could see.
func (a *agent) warmUp(p *prepared) {
	const program = "/bin/true"
	base := p.layers[len(p.layers)-1]
	a.reaper.start(func() (int, error) {
		return syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{
			Dir: "/", Sys: &syscall.SysProcAttr{Chroot: base, Setsid: true, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
		})
	})
}

// addEntropy gives the host's random bytes to the kernel and makes it use them
// at once, random(4).
func addEntropy(seed []byte) error {
	if len(seed) < 32 {
		return fmt.Errorf("%d bytes of entropy are too few", len(seed))
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info := struct { // struct rand_pool_info
		bits, size int32
		data       [512]byte
	}{}
	n := copy(info.data[:], seed)
	info.bits, info.size = int32(n*8), int32(n)
	if err := ioctl(f, unix.RNDADDENTROPY, unsafe.Pointer(&info)); err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	if err := ioctl(f, rndReseedCRNG, nil); err != nil {
		return fmt.Errorf("reseed the random generator: %w", err)
	}
	return nil
}

// rndReseedCRNG is _IO('R', 0x07) of linux/random.h.
const rndReseedCRNG = 0x5207

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// setTime sets the clock to nanos, which it was when the request came.
func setTime(nanos int64, came time.Time) error {
	ts := unix.NsecToTimespec(nanos + time.Since(came).Nanoseconds())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// maxSkew is what a clock may be off. Less than that a request may be under way.
const maxSkew = time.Second

// keepTime puts the clock right if it is wrong by the host's, as after the host has slept
// or somebody in the guest has set it. Before the machine is configured it has no time of
// its own.
func (a *agent) keepTime(host int64) {
	if _, err := a.configured(); err != nil || host == 0 {
		return
	}
	a.clock.Lock() // else two would both add what is missing
	defer a.clock.Unlock()
	if by := skew(host, time.Now().UnixNano()); by != 0 {
		adjustClock(by) // the next request tries again
	}
}

// skew returns by how much a clock at now is to be changed, 0 if it is right.
func skew(host, now int64) int64 {
	if by := host - now; by > int64(maxSkew) || by < -int64(maxSkew) {
		return by
	}
	return 0
}

// adjustClock adds nanos to the clock, clock_adjtime(2).
func adjustClock(nanos int64) error {
	if nanos == 0 {
		return nil
	}
	tx := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	tx.Time.Sec, tx.Time.Usec = nanos/1e9, nanos%1e9 // with ADJ_NANO these are ns
	if tx.Time.Usec < 0 {
		tx.Time.Sec--
		tx.Time.Usec += 1e9
	}
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &tx); err != nil {
		return fmt.Errorf("adjust the clock: %w", err)
	}
	return nil
}
