// Package wire is the protocol between the host and the agent in the guest.
//
// One byte stream, a virtio-serial port, connects the two. Link makes a clean
// stream of it, a multiplexer makes many streams of that one, and every stream
// is one Request: a message from the host, then what its operation says. The
// guest never opens a stream.
//
// Everything that comes from a guest is hostile. What this package reads it
// bounds first: a message by MaxMessage, a frame by MaxFrame. It holds no
// policy and touches no file.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Version is the version of the protocol. Host and guest come from one build,
// so that a difference means a stale image and nothing is negotiated.
const Version = 1

// PortName is the name of the virtio-serial port that carries the protocol.
const PortName = "mayfly.control"

// MaxMessage bounds one JSON message in bytes.
const MaxMessage = 1 << 20

// Op names the operation that a stream is for.
type Op string

// The operations, with what follows the Request on the stream.
const (
	OpHello       Op = "hello"       // Hello
	OpPrepare     Op = "prepare"     // Prepared
	OpConfigure   Op = "configure"   // Configured
	OpClock       Op = "clock"       // Clocked
	OpExec        Op = "exec"        // frames in both directions, see Exec
	OpChanges     Op = "changes"     // Change messages, the last with End set
	OpConnect     Op = "connect"     // Connected, then frames in both directions, see Connect
	OpSession     Op = "session"     // frames in both directions, see Session
	OpSessions    Op = "sessions"    // Sessions
	OpSeed        Op = "seed"        // Seeded
	OpSSH         Op = "ssh"         // Connected, then a connection to the SSH server
	OpFetch       Op = "fetch"       // for each path FrameFile, FrameStdout…, FrameEnd or FrameError
	OpCopy        Op = "copy"        // frames in one direction, see Copy
	OpSync        Op = "sync"        // SyncItem messages and SyncAnswer messages, see Sync
	OpTranscripts Op = "transcripts" // FrameStdout…, FrameEnd or FrameError; see Transcripts
	OpRestore     Op = "restore"     // FrameStdin…, FrameStdinEOF; Restored from the guest at any time
	OpShareLost   Op = "share-lost"  // Done; see ShareLost
	OpPorts       Op = "ports"       // Listening messages until the host closes the stream, see Ports; each answered by a byte
	OpNews        Op = "news"        // News messages, until the host closes the stream
	OpInit        Op = "init"        // Done; with the end of the conversation it happens, see Configure.Init
	OpBooted      Op = "booted"      // Booted
	OpPowerOff    Op = "poweroff"    // Done, then the machine is off
)

// Request is the first message on every stream, from the host.
type Request struct {
	Op          Op           `json:"op"`
	Time        int64        `json:"time,omitempty"` // the host's, ns since 1970, when it was sent
	Prepare     *Prepare     `json:"prepare,omitempty"`
	Configure   *Configure   `json:"configure,omitempty"`
	Clock       *Clock       `json:"clock,omitempty"`
	Exec        *Exec        `json:"exec,omitempty"`
	Session     *Session     `json:"session,omitempty"`
	Seed        *Seed        `json:"seed,omitempty"`
	Connect     *Connect     `json:"connect,omitempty"`
	Ports       *Ports       `json:"ports,omitempty"`
	SSH         *SSHClient   `json:"ssh,omitempty"`
	Changes     *Changes     `json:"changes,omitempty"`
	Fetch       *Fetch       `json:"fetch,omitempty"`
	Copy        *Copy        `json:"copy,omitempty"`
	Sync        *Sync        `json:"sync,omitempty"`
	Transcripts *Transcripts `json:"transcripts,omitempty"`
	Restore     *Restore     `json:"restore,omitempty"`
	ShareLost   *ShareLost   `json:"share_lost,omitempty"`
}

// Hello is what the agent says of itself once its modules are loaded. Nothing
// in it depends on the machine, since a saved boot serves many.
type Hello struct {
	Version int    `json:"version"`
	Kernel  string `json:"kernel"` // uname -r
	Uptime  int64  `json:"uptime"` // ns since the kernel's start
}

// Prepare readies a booted guest for one image. It is sent once, and its effect
// may be saved and reused: nothing in it is of one machine or user.
type Prepare struct {
	Layers []string `json:"layers"` // serials of the EROFS disks, top layer first
	// Scratch is the serial of the ext4 disk that each machine has of its
	// own. It is not mounted before there is one.
	Scratch string `json:"scratch"`
	// Warm are shell commands that are run before the state is saved, so
	// that what they read stays in memory. Each may take WarmSeconds.
	Warm        []string `json:"warm,omitempty"`
	WarmSeconds int      `json:"warm_seconds,omitempty"`
	// Network is how the card is set up where it is the same for all machines,
	// after Warm; nil where Configure does it.
	Network *Network `json:"network,omitempty"`
}

// Prepared answers Prepare.
type Prepared struct {
	Error string   `json:"error,omitempty"`
	Nanos int64    `json:"nanos"`           // time spent
	Notes []string `json:"notes,omitempty"` // of Warm, what did not work
}

// Configure makes a prepared guest into one machine. It is sent once.
type Configure struct {
	Hostname  string     `json:"hostname"`
	MachineID string     `json:"machine_id"` // 32 hexadecimal digits
	Time      int64      `json:"time"`       // ns since 1970, when the stream was opened
	Entropy   []byte     `json:"entropy"`    // at least 32 bytes from the host's random source
	Workspace *Workspace `json:"workspace,omitempty"`
	Shares    []Share    `json:"shares,omitempty"`
	User      User       `json:"user"`
	Timezone  string     `json:"timezone,omitempty"` // name; the data is looked up in the image, else Zoneinfo is used
	Zoneinfo  []byte     `json:"zoneinfo,omitempty"` // RFC 8536
	Env       []string   `json:"env,omitempty"`      // KEY=VALUE, for every command
	Network   *Network   `json:"network,omitempty"`
	SSH       *SSH       `json:"ssh,omitempty"` // nil for no SSH server

	// Keep is the serial of the disk of what a machine with a name keeps:
	// changes of the workspace, and what belongs to agents. Without it those are
	// on the scratch disk.
	Keep     string    `json:"keep,omitempty"`
	KeepDirs []KeepDir `json:"keep_dirs,omitempty"`
	Volumes  []Volume  `json:"volumes,omitempty"` // parents before what is mounted below them
	// ShellInit is shell text that shells begin with, after the user's own
	// files. What it exports every command gets.
	ShellInit string `json:"shell_init,omitempty"`
	// History is the directory of the histories of shells, absolute, one of KeepDirs;
	// "" leaves them where they are by themselves.
	History string `json:"history,omitempty"`
	// Link is a symbolic link to a directory that the user knows by that name, too.
	Link *Link `json:"link,omitempty"`
	// Git are settings of git's for all users: who commits.
	Git map[string]string `json:"git,omitempty"`
	// Dotfiles are shown in the home.
	Dotfiles *Dotfiles `json:"dotfiles,omitempty"`
	// Init is what process 1 is to be: InitSystemd, or "" for the agent. For the
	// former OpInit follows: the agent makes room and comes back as a service of
	// systemd's, with which the host begins a new conversation.
	Init string `json:"init,omitempty"`
}

// InitSystemd is the Init of a machine whose process 1 is systemd.
const InitSystemd = "systemd"

// Booted says how systemd's start went. It is the answer once that is over.
type Booted struct {
	State  string   `json:"state"`            // as of systemctl is-system-running
	Failed []string `json:"failed,omitempty"` // units
}

// Link is a symbolic link. It hides nothing that is there.
type Link struct {
	Path   string `json:"path"`   // absolute
	Target string `json:"target"` // absolute
}

// Dotfiles are the user's own files for a home, on a disk of their own.
type Dotfiles struct {
	Serial  string   `json:"serial"`  // of the EROFS disk
	Targets []string `json:"targets"` // what of it is shown, relative to the home and to the disk
}

// DotfilesDir is where the disk of Dotfiles is mounted. What is in the home are links
// there.
const DotfilesDir = "/opt/mayfly/dotfiles"

// KeepDir is a directory on the disk of what is kept, the user's.
type KeepDir struct {
	Name string `json:"name"` // on the disk
	Path string `json:"path"` // absolute, where it appears
}

// Volume is a disk with a file system of the machine's that outlives it.
type Volume struct {
	Serial string `json:"serial"`
	Mount  string `json:"mount"`  // absolute
	Blocks uint64 `json:"blocks"` // of 4 KiB: the size that the file system is to have at least
}

// SSH is who may log in to a machine.
type SSH struct {
	HostKey        []byte `json:"host_key"`         // an OpenSSH private key, ed25519
	AuthorizedKeys []byte `json:"authorized_keys"`  // as authorized_keys(5), without options
	Listen         bool   `json:"listen,omitempty"` // on port 22, too
	// Dir is where a shell on a terminal begins. All else begins in the home
	// directory, as programs that work through SSH expect.
	Dir string `json:"dir,omitempty"`
}

// SSHClient is what the host knows of who connects to the SSH server.
type SSHClient struct {
	// Terminfo describes the terminal if the image may not know it.
	Terminfo *Terminfo `json:"terminfo,omitempty"`
}

// Network is how a machine's network card is set up. Without it there is none, or it
// stays as it is.
type Network struct {
	MAC     string `json:"mac,omitempty"` // "" for the card's own
	Address string `json:"address"`       // "192.168.127.2/24"
	Gateway string `json:"gateway"`       // IPv4
	DNS     string `json:"dns"`           // IPv4
	// Authority is a certificate, in PEM, that the machine is to trust beside
	// the image's.
	Authority     []byte `json:"authority,omitempty"`
	AuthorityHash string `json:"authority_hash,omitempty"` // of its subject, as OpenSSL writes it
	// HostAuthorities are those of the host that it is to trust, too.
	HostAuthorities []Authority `json:"host_authorities,omitempty"`
}

// Authority is a certificate that a machine is to trust.
type Authority struct {
	Certificate []byte `json:"certificate"` // DER
	Hash        string `json:"hash"`        // of its subject, as OpenSSL writes it
}

// Where a machine finds the certificates that it trusts: those of the image with those of
// wire.Network, the latter alone, and the machine's own authority alone.
const (
	TrustedFile   = "/etc/ssl/certs/ca-certificates.crt"
	AddedFile     = "/etc/ssl/mayfly.pem"
	AuthorityFile = AuthorityDir + "/mayfly.crt"
	AuthorityDir  = "/usr/local/share/ca-certificates"
)

// Workspace is the private copy of a host directory.
type Workspace struct {
	Serial string `json:"serial"` // of its EROFS disk
	Path   string `json:"path"`   // absolute
	// Copy names the copy, where its changes are kept: those of another copy are
	// of no use, and are removed.
	Copy string `json:"copy,omitempty"`
}

// Share is a host directory that is live in the guest.
type Share struct {
	Tag      string `json:"tag"`                 // of its virtio-fs device
	Path     string `json:"path"`                // absolute
	ReadOnly bool   `json:"read_only,omitempty"` // for good errors: the host enforces it
}

// ShareLost says that the host's server of a share has ended: who uses it from now
// on is to get an error.
type ShareLost struct {
	Tag string `json:"tag"`
}

// User is the guest's user; see plan.User.
type User struct {
	Name   string  `json:"name"`
	UID    int     `json:"uid"`
	GID    int     `json:"gid"`
	Groups []Group `json:"groups,omitempty"`
	Home   string  `json:"home"`
	Shell  string  `json:"shell"`
}

// Group is a supplementary group of the user.
type Group struct {
	Name string `json:"name"`
	GID  int    `json:"gid"`
}

// Terminfo is one compiled terminfo entry, term(5).
type Terminfo struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Configured answers Configure.
type Configured struct {
	Error string   `json:"error,omitempty"`
	Nanos int64    `json:"nanos"`           // time spent
	Notes []string `json:"notes,omitempty"` // what did not work, for the user
}

// Clock corrects the guest's clock, and asks for it.
type Clock struct {
	Adjust int64 `json:"adjust"` // ns to add
}

// Clocked answers Clock.
type Clocked struct {
	Now int64 `json:"now"` // ns since 1970
}

// Exec starts a program as the guest's user. After it the host sends
// FrameStdin, FrameStdinEOF, FrameResize and FrameSignal; the guest sends
// FrameStdout and FrameStderr and ends with FrameExit or FrameError.
type Exec struct {
	Argv []string `json:"argv"`          // Argv[0] is looked up in PATH
	Dir  string   `json:"dir"`           // absolute
	Env  []string `json:"env,omitempty"` // on top of the machine's
	TTY  *Winsize `json:"tty,omitempty"` // nil: three pipes
	// Terminfo describes the terminal if the image may not know it.
	Terminfo *Terminfo `json:"terminfo,omitempty"`
}

// Connect makes a connection to a port of the guest, its loopback interface
// first. The host's bytes come in FrameStdin, and FrameStdinEOF is their end. The
// guest's come in FrameStdout, with FrameEnd behind the last: both directions may go
// on for as long as they like. FrameError says that the connection is broken, and so
// does the end of the stream in a direction that had none.
type Connect struct {
	Port int `json:"port"`
}

// Ports asks on which ports of the guest somebody listens.
type Ports struct {
	Ports []int `json:"ports"`
	// All asks about all ports instead that the guest's loopback interface reaches. The
	// guest looks while programs of its user's run. No answer is answered.
	All bool `json:"all,omitempty"`
}

// Listening answers Ports, at once and whenever it changes; with All not before there is
// somebody.
type Listening struct {
	Ports []int `json:"ports"` // of those that were asked for; with All sorted, at most MaxListening
}

// MaxListening bounds the ports that a guest tells of by itself.
const MaxListening = 64

// Connected answers Connect and SSHClient. Without an error the connection follows.
type Connected struct {
	Error string `json:"error,omitempty"`
}

// Winsize is the size of a terminal in characters.
type Winsize struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Changes asks for what differs from the workspace that was packed.
type Changes struct {
	// Quiesce kills every process of the guest first, so that nothing
	// changes between the list and a later Fetch.
	Quiesce bool `json:"quiesce"`
}

// Kind is the kind of a changed file.
type Kind string

// The kinds. A whiteout says that the name is gone.
const (
	KindFile     Kind = "file"
	KindDir      Kind = "dir"
	KindSymlink  Kind = "symlink"
	KindWhiteout Kind = "whiteout"
	KindOther    Kind = "other" // device, fifo, socket: never applied
)

// Change is one entry of the workspace's overlay upper. Names are bytes, not
// text: Linux allows all but '/' and NUL.
type Change struct {
	Path   []byte `json:"path,omitempty"` // relative to the workspace, slash-separated
	Kind   Kind   `json:"kind,omitempty"`
	Mode   uint32 `json:"mode,omitempty"` // permission bits, 07777
	Size   int64  `json:"size,omitempty"`
	MTime  int64  `json:"mtime,omitempty"` // ns since 1970
	Target []byte `json:"target,omitempty"`
	Opaque bool   `json:"opaque,omitempty"` // dir: hides what the packed one held
	// Redirect is, of a directory, the packed one whose entries it shows in place of
	// those at Path: an absolute path in the workspace, or a name beside its own.
	Redirect []byte `json:"redirect,omitempty"`
	// Sum is, of a file, that of package sparse.
	Sum []byte `json:"sum,omitempty"`
	// Link is, of a file, the path of one that came before it and is the same file by
	// another name. Size and Sum are not set then.
	Link []byte `json:"link,omitempty"`
	// Attributes says that a file has extended attributes of its user's, which stay in
	// the guest.
	Attributes bool `json:"attributes,omitempty"`

	// Progress says how far the guest is. Nothing else is set with it.
	Progress *Progress `json:"progress,omitempty"`
	End      bool      `json:"end,omitempty"` // the last message; nothing else is set but Error
	Error    string    `json:"error,omitempty"`
}

// Progress comes before the first entry, and then at least every few seconds. The guest
// counts all entries before it sends the first.
type Progress struct {
	Counted int64 `json:"counted"` // entries that there are, so far
	Names   int64 `json:"names"`   // bytes of their paths
	Listed  int64 `json:"listed"`  // entries that were sent
	Read    int64 `json:"read"`    // bytes of the contents that were summed
}

// Fetch asks for the content of regular files that Changes listed.
type Fetch struct {
	Paths [][]byte `json:"paths"`
}

// Copy copies a file or directory as a tar stream, as the guest's user. Out of the guest it
// is FrameStdout from the guest, and FrameEnd or FrameError last. Into it, it is FrameStdin
// from the host and FrameStdinEOF last; the guest answers with FrameEnd, or with FrameError
// at any time.
type Copy struct {
	Path []byte `json:"path"`           // what is copied, or the target; in Dir unless it is absolute
	Dir  string `json:"dir"`            // absolute
	Name []byte `json:"name,omitempty"` // into the guest: what is copied; a target that is a directory gets it
}

// Rehearse encodes one message of each kind. What package json finds out about a type it
// keeps, so that a guest that is saved afterwards need not find it out in every machine
// that is restored.
func Rehearse() error {
	for _, message := range []any{Request{}, Configured{}, Clocked{}, Change{}, Sessions{}, Seeded{}, Connected{}, Restored{}} {
		if err := WriteMessage(io.Discard, message); err != nil {
			return err
		}
	}
	return nil
}

// WriteRequest writes the first message of a stream, with the time.
func WriteRequest(w io.Writer, req Request) error {
	req.Time = time.Now().UnixNano()
	return WriteMessage(w, req)
}

// WriteMessage writes v as one message: a length of 4 bytes, little endian,
// and JSON.
func WriteMessage(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(body) > MaxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(body), MaxMessage)
	}
	buf := make([]byte, 4, 4+len(body))
	binary.LittleEndian.PutUint32(buf, uint32(len(body)))
	_, err = w.Write(append(buf, body...))
	return err
}

// ReadMessage reads one message into v. It reads no byte beyond it.
func ReadMessage(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > MaxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", n, MaxMessage)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return noEOF(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	return nil
}

// noEOF makes an end inside a value visible as such.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
