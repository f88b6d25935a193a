package wire

// Transcripts asks for the conversations of coding agents as a tar stream: regular files,
// the newest first, as many as fit. There is no stream if there are none.
type Transcripts struct {
	Places []TranscriptPlace `json:"places"`
	Bytes  int64             `json:"bytes"` // how long the stream may be
	Nanos  int64             `json:"nanos"` // after so long no other file is begun
}

// TranscriptPlace is where one agent keeps them.
type TranscriptPlace struct {
	Name string `json:"name"` // of the agent: the first directory in the archive
	// Variable is the machine's for the directory that has Below. Without it Dirs are
	// taken, for each of Files the first that has it.
	Variable string   `json:"variable"`
	Below    string   `json:"below,omitempty"`
	Dirs     []string `json:"dirs"` // absolute
	Files    []string `json:"files"`
	Without  []string `json:"without,omitempty"` // directories below Files that are left out
}

// Restore puts conversations of coding agents back, from a stream as that of Transcripts.
// A file that is there already stays, and so do all of Files that are no directories if one
// of them is there: they are one database.
type Restore struct {
	Places []TranscriptPlace `json:"places"` // each has one of Dirs
}

// Restored answers Restore.
type Restored struct {
	Files int    `json:"files"` // that were written
	Kept  int    `json:"kept"`  // that were there already
	Error string `json:"error,omitempty"`
}
