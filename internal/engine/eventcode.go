package engine

import (
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
)

// The codes of events.
const (
	NoteKVMUntested       = "kvm-untested"
	NoteKVMUnusable       = "kvm-unusable"
	NoteProfiles          = "profiles-detected"
	NoteUntrusted         = "config-untrusted"
	NotePlan              = "plan"
	NoteCodingAgent       = "coding-agent"
	NoteAgentSettings     = "agent-settings"
	NoteSettingsAside     = "settings-aside"
	NoteLoginNone         = "login-none"
	NoteLoginLater        = "login-later"
	NoteLoginUnreadable   = "login-unreadable"
	NoteLoginEnded        = "login-ended"
	NoteDotfilesNotCloned = "dotfiles-not-cloned"
	NoteImageMissing      = "image-not-built"
	NoteBuildAsRoot       = "build-as-root"
	NoteRunsAlready       = "machine-runs"
	NoteHere              = "machine-here"
	NoteMachine           = "machine"
	NoteTranscripts       = "transcripts-kept"
	NoteTranscriptsLost   = "transcripts-lost"
	NoteReleaseName       = "name-not-released"
	NoteClone             = "clone-note"
	NoteQEMUByPackage     = "qemu-by-package"
	NoteInstall           = "install"
	NoteProfile           = "apparmor-profile"
	NoteAttackThrough     = "attack-through"
	NoteGuestSays         = "guest-says"
	NoteGitWorktree       = "git-worktree"
	NoteGitSubmodule      = "git-submodule"
	NoteGitSubdirectory   = "git-subdirectory"
	NoteGitElsewhere      = "git-elsewhere"
	NoteGitAlternates     = "git-alternates"
	NoteGitUnsigned       = "git-unsigned"
	NoteIgnoredUnknown    = "ignored-unknown"
	NoteGitUnknown        = "git-unknown"
	NoteSyncPolls         = "sync-polls"
	NoteLiveChanged       = "live-changed"
	NoteLiveChange        = "live-change"
	NoteLiveMore          = "live-more"
	NoteLiveKept          = "live-kept"
	NoteLivePartly        = "live-partly"
	NoteLiveUnknown       = "live-unknown"

	DetailAccelerator = "accelerator"
	DetailClone       = "clone-progress"
	DetailAttempt     = "attack-attempt"

	StepImage      = "build-image"
	StepClone      = "clone"
	StepFetch      = "fetch"
	StepAwaitStart = "await-start"
	StepAwaitEnd   = "await-end"
	StepAwaitApply = "await-apply"

	ProgressCounted = "changes-counted"
	ProgressListed  = "changes-listed"

	PhasePlan       = "plan"
	PhaseImage      = "find-image"
	PhaseSupervisor = "start-supervisor"
)

// EventCode is a row of the table of events.
type EventCode struct {
	Kind    Kind
	Code    string
	Args    []string
	Meaning string
}

// EventCodes returns the table of all codes. Phases are in the order of a start.
func EventCodes() []EventCode {
	return []EventCode{
		{Note, NoteKVMUntested, []string{"reason"}, "mayfly could not test KVM."},
		{Note, NoteKVMUnusable, []string{"reason"}, "KVM does not work on the host. Machines run emulated."},
		{Note, NoteProfiles, []string{"profiles"}, "Files of the project or the command chose these profiles."},
		{Note, NoteUntrusted, []string{"file"}, "The project's configuration is not used, because the user does not trust it yet."},
		{Note, NotePlan, []string{"text"}, "A remark about the plan of the machine, in English."},
		{Note, NoteCodingAgent, []string{"agent"}, "The image has this coding agent, of this version."},
		{Note, NoteAgentSettings, []string{"reason"}, "The settings of coding agents were not written. The agents may ask for them."},
		{Note, NoteSettingsAside, []string{"file"}, "Settings in the machine could not be read. They are in this file now."},
		{Note, NoteLoginNone, []string{"agent", "title", "name"}, "The coding agent has no log-in in the machine, and the host keeps none for it."},
		{Note, NoteLoginLater, []string{"agent", "title", "name"}, "The host keeps a log-in of the coding agent, which the machine gets when it is started again."},
		{Note, NoteLoginUnreadable, []string{"reason"}, "A log-in that the host keeps cannot be read. Machines start without it."},
		{Note, NoteLoginEnded, []string{"agent"}, "The provider does not renew a log-in that the host keeps. Machines start without it."},
		{Note, NoteDotfilesNotCloned, []string{"url"}, "The next start clones these dotfiles."},
		{Note, NoteImageMissing, nil, "The image is not built. The paths of its files in the plan are made up."},
		{Note, NoteBuildAsRoot, []string{"reason"}, "The scripts of packages run as root of the host, because no other users can be had."},
		{Note, NoteRunsAlready, []string{"name"}, "The machine to start runs already."},
		{Note, NoteHere, []string{"name"}, "The host has this machine of the set-up already."},
		{Note, NoteMachine, []string{"text"}, "A remark of the machine's supervisor, in English."},
		{Note, NoteTranscripts, []string{"path"}, "The transcripts of the machine's coding agents are kept in this file."},
		{Note, NoteTranscriptsLost, []string{"reason"}, "The transcripts of the machine's coding agents were not kept."},
		{Note, NoteReleaseName, []string{"reason"}, "The name that was reserved for the command could not be released."},
		{Note, NoteClone, []string{"text"}, "A remark about a clone, in English."},
		{Note, NoteQEMUByPackage, nil, "The distribution's packages are the way to a newer QEMU."},
		{Note, NoteInstall, []string{"text"}, "A step of installing a private QEMU, in English."},
		{Note, NoteProfile, []string{"file"}, "mayfly has an AppArmor profile in this file now, by which it may make user namespaces."},
		{Note, NoteAttackThrough, []string{"host"}, "Some attempts of the attack go through this host, which is allowed."},
		{Note, NoteGuestSays, []string{"text"}, "A line that the attack printed in the machine."},
		{Note, NoteGitWorktree, []string{"dir", "path"}, "The live workspace is a linked worktree of the repository in path. git does not find that in the machine."},
		{Note, NoteGitSubmodule, []string{"dir", "path"}, "The live workspace is a submodule of path, which has its repository. git does not find that in the machine."},
		{Note, NoteGitSubdirectory, []string{"dir", "path"}, "The live workspace is a part of the repository in path. git does not find that in the machine."},
		{Note, NoteGitElsewhere, []string{"dir", "path"}, "The repository of the live workspace is in path. git does not find that in the machine."},
		{Note, NoteGitAlternates, []string{"dir", "path"}, "The repository of the live workspace borrows objects from path. git does not find them in the machine."},
		{Note, NoteGitUnsigned, []string{"settings"}, "git signs on the host by these settings, and not in the machine, which has no keys."},
		{Note, NoteGitUnknown, []string{"dir", "reason"}, "git does not say how it is set up in the workspace: a review knows nothing of the hooks, filters and includes that it has there."},
		{Note, NoteIgnoredUnknown, []string{"dir", "reason"}, "git does not work in the workspace, so no changed file counts as ignored."},
		{Note, NoteSyncPolls, []string{"dir", "reason"}, "The kernel does not tell of all changes in the workspace, so a sync looks at all of it every two seconds."},
		{Note, NoteLiveChanged, []string{"name", "dir", "count"}, "So many files that the host runs by itself changed in a live share while the machine had it. Events live-change follow."},
		{Note, NoteLiveChange, []string{"name", "dir", "path", "op", "class", "rule", "reason"}, "Such a file was added (A), modified (M) or deleted (D)."},
		{Note, NoteLiveMore, []string{"name", "dir", "count"}, "So many more such files changed."},
		{Note, NoteLiveKept, []string{"name", "dir", "kept"}, "Such files as they were before are in the directory kept."},
		{Note, NoteLivePartly, []string{"name", "dir"}, "Not all of the live share was watched: it has too many files, of which the deepest are left out, or a directory that cannot be listed any more."},
		{Note, NoteLiveUnknown, []string{"name", "reason"}, "It is not known what the machine changed in its live shares of what the host runs by itself."},

		{Note, string(control.NoteTemplateDamaged), []string{"text", "reason"}, "A template is damaged and is made anew."},
		{Note, string(control.NoteTemplateNotMade), []string{"text", "reason"}, "The machine boots, because no template could be made."},
		{Note, string(control.NoteTemplateNotRestored), []string{"text", "reason"}, "The machine boots, because the template could not be restored."},
		{Note, string(control.NoteNoMemory), []string{"text", "reason"}, "The machine boots, because the memory of the template could not be copied."},
		{Note, string(control.NoteVMMCrashed), []string{"text", "reason"}, "The machine boots once more, because the virtual machine monitor crashed before the machine was ready."},
		{Note, string(control.NoteSystemdSlow), []string{"text", "name", "timeout"}, "systemd in the machine has not started everything in time."},
		{Note, string(control.NoteSystemdDegraded), []string{"text", "name", "units"}, "These units of systemd in the machine failed."},
		{Note, string(control.NoteSystemdState), []string{"text", "name", "state"}, "systemd in the machine is in this state."},
		{Note, string(control.NoteShareOwner), []string{"text", "source", "owner", "uid", "gid"}, "The directory of a live share belongs to a user whom the machine cannot act as."},
		{Note, string(control.NoteShareLost), []string{"text", "source"}, "The server of a live share ended. Programs in the machine get errors from it."},
		{Note, string(control.NoteShareUnmatched), []string{"text", "source", "pattern"}, "A pattern of hide or protect matches nothing in the live share."},
		{Note, string(control.NoteShareUnguarded), []string{"text", "source", "path"}, "A hidden or protected path of a live share was replaced or removed on the host. The machine can reach what is there now."},
		{Note, string(fault.MachinePaused), []string{"text", "name", "dir", "free", "reason"}, "The machine stands still, because the host cannot write its disk."},
		{Note, string(fault.MachineUnreachable), []string{"text", "name", "reason", "defined"}, "The guest has broken off the conversation with the host."},
		{Note, string(control.NoteGoesOn), []string{"text", "name"}, "A machine that was paused goes on."},
		{Note, string(control.NoteOutOfMemory), []string{"text", "name", "memory", "program"}, "The machine ran out of memory, and its kernel killed this program."},
		{Note, string(control.NotePortHalf), []string{"text", "port"}, "Another program of the host has a published port on ::1."},
		{Note, string(control.NoteListening), []string{"text", "name", "port", "why"}, "A program of the machine listens on this port, and no port of the host leads there. With automatic ports, why says the reason: low, well-known, taken, closed, many or failed."},
		{Note, string(control.NoteForwarded), []string{"text", "name", "port"}, "A program of the machine listens on this port, and the same one of the host's 127.0.0.1 and ::1 leads there until it ends."},
		{Note, string(control.NoteQuestion), []string{"text", "name", "host", "port"}, "Connections of the machine to this host wait for an answer, as no rule covers it: allow or deny it by a change of the policy."},
		{Note, string(control.NoteAnswered), []string{"text", "name", "host", "port", "answer"}, "That question is settled: allow, once, deny, or none when nobody answered."},
		{Note, string(control.NoteDiskLess), []string{"text", "bytes", "dir", "free"}, "The machine can write less to its disk than asked for, because the host has too little space."},
		{Note, string(control.NoteLoginRefused), []string{"text", "name", "agent"}, "The provider of a log-in that the machine is lent does not renew it any more."},
		{Note, string(control.NoteLoginsUnrenewed), []string{"text", "name"}, "The process that renews the log-ins of the machine has ended before the machine."},
		{Note, string(control.NoteMemoryFailure), []string{"text", "name"}, "The host's memory has a fault in what the machine uses."},
		{Note, string(control.NoteGit), []string{"text", "reason"}, "git misses something in the copy of the workspace, whose repository lies elsewhere."},
		{Note, string(control.NoteWorkspace), []string{"text", "reason"}, "A file of the workspace was left out of the copy or changed in it."},

		{Detail, DetailAccelerator, []string{"accelerator", "reason"}, "The accelerator that was chosen."},
		{Detail, DetailClone, []string{"line"}, "A line that git printed."},
		{Detail, DetailAttempt, []string{"name", "outcome"}, "An attempt of the attack."},

		{Step, StepImage, []string{"artifact", "phase", "text"}, "A part of the image is being built."},
		{Step, StepClone, []string{"url"}, "A repository is being cloned."},
		{Step, StepFetch, []string{"url"}, "A set-up is being fetched."},
		{Step, StepAwaitStart, []string{"name"}, "Another command starts the machine. This one waits for it."},
		{Step, StepAwaitEnd, []string{"name"}, "The machine is ending. This command waits for it."},
		{Step, StepAwaitApply, []string{"name", "pid"}, "This process applies changes of the machine. This command waits for it."},

		{Progress, ProgressCounted, []string{"name", "count"}, "The changes of the machine are being counted."},
		{Progress, ProgressListed, []string{"name", "listed", "count", "mib"}, "The changes of the machine are being listed. So many MiB of their contents were read."},

		{Phase, PhasePlan, nil, "Read the configuration and make the plan."},
		{Phase, PhaseImage, nil, "Find the image, or build it."},
		{Phase, PhaseSupervisor, nil, "Start the supervisor."},
		{Phase, string(control.PhaseFindTemplate), nil, "Find the template."},
		{Phase, string(control.PhaseAwaitTemplate), nil, "Wait for a template that another supervisor makes."},
		{Phase, string(control.PhaseMakeTemplate), nil, "Boot a guest to make a template of it."},
		{Phase, string(control.PhasePrewarm), nil, "Run the warming commands in it."},
		{Phase, string(control.PhaseSave), nil, "Save it."},
		{Phase, string(control.PhaseRestore), nil, "Restore the template."},
		{Phase, string(control.PhaseBoot), nil, "Boot the guest."},
		{Phase, string(control.PhasePrepare), nil, "Prepare the guest: what depends on the image."},
		{Phase, string(control.PhaseConfigure), nil, "Configure the guest: what depends on the machine."},
		{Phase, string(control.PhaseSystemd), nil, "Start systemd in the guest."},
		{Phase, string(control.PhaseStop), nil, "End the machine."},
	}
}
