package wire

import "strings"

// SyncScratch begins the name of the directory at the top of a workspace in which the guest
// makes new files of a sync; so many letters and digits follow. It is no change of the guest's.
const (
	SyncScratch       = ".mayfly-sync-"
	SyncScratchRandom = 12
)

// IsSyncScratch reports whether a path in the workspace is that directory, or is in it.
func IsSyncScratch(path string) bool {
	name, _, _ := strings.Cut(path, "/")
	rest, ok := strings.CutPrefix(name, SyncScratch)
	return ok && len(rest) == SyncScratchRandom && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// Sync puts what the host's directory has become into the workspace, as the guest's user.
// The host sends items, the last with End set. Behind one that is a new file, unless it is
// only to be checked, come FrameStdin and FrameHole with its content, and FrameStdinEOF. The
// guest answers each, in their order, also the last.
type Sync struct {
	Dir string `json:"dir"` // of the workspace, absolute
	// Durable has all on the disk when the last item is answered.
	Durable bool `json:"durable,omitempty"`
}

// SyncItem is one path. It is changed only where what is there is one of Old.
type SyncItem struct {
	Path  []byte      `json:"path,omitempty"` // relative to the workspace
	Old   []SyncState `json:"old,omitempty"`
	New   SyncState   `json:"new"`
	Check bool        `json:"check,omitempty"` // only say what would be done
	End   bool        `json:"end,omitempty"`   // the last; nothing else is set
}

// SyncState is what is at a path. Of no Kind it is nothing.
type SyncState struct {
	Kind   Kind   `json:"kind,omitempty"` // KindFile, KindDir, KindSymlink or, from the guest, KindOther
	Mode   uint32 `json:"mode,omitempty"` // permission bits of a file or directory
	Size   int64  `json:"size,omitempty"` // of a file
	Sum    []byte `json:"sum,omitempty"`  // of a file, that of package sparse
	Target []byte `json:"target,omitempty"`
	// AnyMode says, in Old, that the mode does not matter.
	AnyMode bool `json:"any_mode,omitempty"`
}

// SyncResult is what became of an item.
type SyncResult string

// The results.
const (
	SyncDone     SyncResult = "done"
	SyncSame     SyncResult = "same"     // it was so already
	SyncConflict SyncResult = "conflict" // something else is there, see Now
	SyncFailed   SyncResult = "failed"   // see Error
)

// SyncAnswer answers a SyncItem.
type SyncAnswer struct {
	Result SyncResult `json:"result"`
	// Now is what is there, of a conflict. A file has its Sum only where its size is that
	// of a state in the item.
	Now SyncState `json:"now"`
	// Full says that the conflict is a directory that is not empty.
	Full  bool   `json:"full,omitempty"`
	Error string `json:"error,omitempty"`
}
