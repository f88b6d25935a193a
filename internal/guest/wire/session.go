package wire

import "encoding/json"

// Session opens a session: a program on a terminal that goes on when nobody looks
// on. After it come the frames of Exec, with FrameSession before all that the
// guest sends. The end of the stream only ends the looking on.
type Session struct {
	Name string `json:"name"` // lower-case letters, digits and hyphens
	// Exec is the program to start if no session of that name runs. Without
	// it there must be one. Exec.TTY is the size of the viewer's terminal, nil
	// if it has none.
	Exec *Exec `json:"exec,omitempty"`
	// New starts the program in any case. If the name is taken, the session's
	// is Name-2 or so.
	New bool `json:"new,omitempty"`
	// Detached starts the program and looks not on: FrameEnd follows
	// FrameSession.
	Detached bool `json:"detached,omitempty"`
	// End ends the program of the session, which is not started for that. Who asks
	// looks on until then.
	End bool `json:"end,omitempty"`
	// Paste is typed at the program, which is not started for that, with spaces between:
	// each text as one that is pasted, if the program wants to know. Who asks looks not
	// on: FrameEnd follows FrameSession, which says so by Pasted.
	Paste []string `json:"paste,omitempty"`
	// ReadOnly looks on and sends no input.
	ReadOnly bool     `json:"read_only,omitempty"`
	TTY      *Winsize `json:"tty,omitempty"` // of the viewer, where Exec is nil
}

// SessionInfo is what the guest tells of a session.
type SessionInfo struct {
	Name    string   `json:"name"`
	Argv    []string `json:"argv"`              // may be cut short
	Started int64    `json:"started"`           // ns since 1970
	New     bool     `json:"new,omitempty"`     // in FrameSession: it was started for this request
	Pasted  bool     `json:"pasted,omitempty"`  // in FrameSession: what the request has was typed
	Viewers int      `json:"viewers,omitempty"` // who look on now
	Exited  bool     `json:"exited,omitempty"`  // the program has ended
	Code    int      `json:"code,omitempty"`    // its exit code, or 128 and the signal
	Output  int64    `json:"output,omitempty"`  // ns since 1970 of its last output; 0 for none
	Input   int64    `json:"input,omitempty"`   // of the last input by a viewer
	Title   string   `json:"title,omitempty"`   // of its window, as the program says

	// Waiting says that the program seems to wait for an answer, and Why how
	// that is known; see package session.
	Waiting bool `json:"waiting,omitempty"`
	// Stopped says that the program, or a part of it, is stopped and has the terminal:
	// it goes on when somebody types.
	Stopped bool       `json:"stopped,omitempty"`
	Why     WaitReason `json:"why,omitempty"`
	Notice  string     `json:"notice,omitempty"` // what the program notified

	// State is what the program does, since when, and what it said last about that. An
	// agent of an older mayfly tells none.
	State SessionState `json:"state,omitempty"`
	Since int64        `json:"since,omitempty"` // ns since 1970
	Last  string       `json:"last,omitempty"`  // at most MaxLast bytes, on one line
}

// MaxLast bounds what is told of the last that a program said.
const MaxLast = 256

// SessionState is what the program of a session does.
type SessionState string

// The states of a session.
const (
	StateAnswer     SessionState = "needs answer"
	StatePermission SessionState = "needs permission"
	StateWorks      SessionState = "works"
	StateIdle       SessionState = "idle"    // nobody has asked it for anything, or it was interrupted
	StateDone       SessionState = "done"    // with what it was asked for; or it has ended well, or as it was told to
	StateStopped    SessionState = "stopped" // by itself; it goes on when something is typed
	StateMemory     SessionState = "out of memory"
	StateCrashed    SessionState = "crashed" // ended by a signal
	StateFailed     SessionState = "failed"  // ended with an exit code that is not 0
)

// SessionStates returns all states.
func SessionStates() []SessionState {
	return []SessionState{
		StateAnswer, StatePermission, StateWorks, StateIdle, StateDone, StateStopped, StateMemory, StateCrashed, StateFailed,
	}
}

// Waits reports whether a program in this state waits for its user.
func (s SessionState) Waits() bool {
	return s == StateAnswer || s == StatePermission || s == StateDone
}

// WaitReason is why a session's program seems to wait.
type WaitReason string

// The reasons, the surest first.
const (
	WaitHook   WaitReason = "hook"   // it said so by its own hooks
	WaitNotice WaitReason = "notice" // it notified since the last input
	WaitBell   WaitReason = "bell"   // it rang since the last input
	WaitQuiet  WaitReason = "quiet"  // it is silent and does nothing
)

// Sessions answers OpSessions.
type Sessions struct {
	Error    string        `json:"error,omitempty"`
	Sessions []SessionInfo `json:"sessions,omitempty"` // by start
}

// MaxSessions bounds what a guest tells of its sessions.
const MaxSessions = 16

// Seed writes settings into files of the guest's user, for programs that would
// else ask for them first. It is the user who writes.
type Seed struct {
	Dirs  []string   `json:"dirs,omitempty"` // absolute; made with mode 0700
	Files []SeedFile `json:"files,omitempty"`
	Links []SeedLink `json:"links,omitempty"`
	// Transcripts are where a conversation may be that Seeded tells of.
	Transcripts []TranscriptPlace `json:"transcripts,omitempty"`
}

// SeedLink makes Path a symbolic link to the directory Target, unless something of the
// user's is there, and shows in Target what the user's dotfiles have at Below: as links,
// and as copies what are Files. What Target has stays.
type SeedLink struct {
	Path   string   `json:"path"`   // absolute
	Target string   `json:"target"` // absolute
	Below  []string `json:"below"`  // relative to the home, and to the dotfiles
}

// SeedFile is a file to have settings. Either it holds a JSON object, in which
// Must and Default are merged, or it is a Text.
type SeedFile struct {
	Path string `json:"path"` // absolute
	// Must holds in the file, whatever stands there.
	Must json.RawMessage `json:"must,omitempty"`
	// Default holds where the file says nothing.
	Default json.RawMessage `json:"default,omitempty"`
	// Tails and Items are put into lists of the object, which keep what they have.
	Tails []SeedTail `json:"tails,omitempty"`
	Items []SeedItem `json:"items,omitempty"`
	// Text is the content of a file that is not there yet.
	Text string `json:"text,omitempty"`
	// Block makes Text a marked block in a text that is the user's, in the place of
	// an earlier one, which an empty Text takes out.
	Block bool `json:"block,omitempty"`
	// Variable is one of the machine's, without which the file is left alone. Its
	// value, as a string of JSON, takes the place of SeedValue in Text.
	Variable string `json:"variable,omitempty"`
}

// SeedValue stands in a text for the value of a variable, which only the guest has.
const SeedValue = "@VALUE@"

// SeedTail is the end of a variable of the machine's, whose value only the guest
// has. Without the variable there is none.
type SeedTail struct {
	Keys     []string `json:"keys"` // that lead to the list
	Variable string   `json:"variable"`
	Length   int      `json:"length"` // in bytes, at most
}

// SeedItem is a value for a list.
type SeedItem struct {
	Keys  []string        `json:"keys"` // that lead to the list
	Value json.RawMessage `json:"value"`
}

// Seeded answers Seed.
type Seeded struct {
	Error string   `json:"error,omitempty"`
	Aside []string `json:"aside,omitempty"` // files that could not be read and were renamed, as they are called now
	// Earlier says that there is a conversation.
	Earlier bool `json:"earlier,omitempty"`
}
