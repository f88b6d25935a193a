package control

import "github.com/mayfly-vm/mayfly/internal/fault"

// The codes of remarks, with the names of their arguments. A front end that has words of
// its own for one needs no more than these; what a guest says of itself has no code.
const (
	NoteTemplateDamaged     fault.Code = "template-damaged"      // reason
	NoteTemplateNotMade     fault.Code = "template-not-made"     // reason
	NoteTemplateNotRestored fault.Code = "template-not-restored" // reason
	NoteNoMemory            fault.Code = "memory-not-copied"     // reason
	NoteVMMCrashed          fault.Code = "vmm-crashed"           // reason
	NoteSystemdSlow         fault.Code = "systemd-slow"          // name, timeout
	NoteSystemdDegraded     fault.Code = "systemd-degraded"      // name, units
	NoteSystemdState        fault.Code = "systemd-state"         // name, state
	NoteShareOwner          fault.Code = "share-owner"           // source, owner, uid, gid
	NoteShareLost           fault.Code = "share-lost"            // source
	NoteShareUnmatched      fault.Code = "share-unmatched"       // source, pattern
	NoteShareUnguarded      fault.Code = "share-guard-lost"      // source, path
	NoteGoesOn              fault.Code = "machine-goes-on"       // name: it was paused
	NoteOutOfMemory         fault.Code = "guest-out-of-memory"   // name, memory, program: the kernel of the guest killed that
	NoteDiskLess            fault.Code = "disk-less"             // bytes, dir, free
	NotePortHalf            fault.Code = "port-half"             // port: another program has it on ::1
	NoteQuestion            fault.Code = "egress-question"       // name, host, port: connections to it wait for an answer
	NoteAnswered            fault.Code = "egress-answered"       // name, host, port, answer: allow, once, deny or none
	NoteListening           fault.Code = "port-listening"        // name, port, why: a program of the guest listens on it, and nothing leads there
	NoteForwarded           fault.Code = "port-forwarded"        // name, port: the same port of the host leads to it by itself
	NoteMemoryFailure       fault.Code = "memory-failure"        // name: of the host's hardware
	NoteGit                 fault.Code = "git"                   // reason: what git misses in the copy of the workspace
	NoteWorkspace           fault.Code = "workspace"             // reason: what was not packed as it is
	NoteLoginRefused        fault.Code = "login-refused"         // name, agent: its provider does not renew it
	NoteLoginsUnrenewed     fault.Code = "logins-unrenewed"      // name: what renews log-ins for it has ended
)
