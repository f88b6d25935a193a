package fault

// Codes of machines and their definitions.
const (
	NameTaken        Code = "name-taken"
	MachineNotFound  Code = "machine-not-found"
	MachineUndefined Code = "machine-undefined"
	MachineDefined   Code = "machine-defined"
	MachineDataLeft  Code = "machine-data-left"
	VolumeShrinks    Code = "volume-shrinks"
	MachineStarting  Code = "machine-starting"
	MachineVersion   Code = "machine-version"
	MachineForbidden Code = "machine-forbidden"
	MachineApplying  Code = "machine-applying"

	MachinePaused      Code = "machine-paused"
	MachineUnreachable Code = "machine-unreachable"
	MachineSilent      Code = "machine-silent"
	MachinePanicked    Code = "machine-panicked"
	MachinePoweredOff  Code = "machine-powered-off"
	MachineKilled      Code = "machine-killed"
)

// Codes of what a machine is to be.
const (
	MachineNameInvalid    Code = "machine-name-invalid"
	QEMUMissing           Code = "qemu-missing"
	QEMUUnsafe            Code = "qemu-unsafe"
	QEMUWithoutNetwork    Code = "qemu-without-network"
	KVMMissing            Code = "kvm-missing"
	KVMForbidden          Code = "kvm-forbidden"
	KVMUntested           Code = "kvm-untested"
	KVMUnusable           Code = "kvm-unusable"
	MemoryTooLarge        Code = "memory-too-large"
	NothingToLearn        Code = "nothing-to-learn"
	AddressMissing        Code = "address-missing"
	UserNamespacesMissing Code = "user-namespaces-missing"
	AppArmorProgram       Code = "apparmor-program"
	AppArmorOld           Code = "apparmor-old"
	AppArmorForeign       Code = "apparmor-profile-foreign"
	ShareRefused          Code = "share-refused"
	SharePathInvalid      Code = "share-path-invalid"
	ShareUnguarded        Code = "share-unguarded"
	WorkspaceRefused      Code = "workspace-refused"
	PlanVersion           Code = "plan-version"
)

// Codes of configuration.
const (
	ConfigInvalid Code = "config-invalid"
)

// Codes of workspaces.
const (
	WorkspaceMissing         Code = "workspace-missing"
	WorkspaceNotADirectory   Code = "workspace-not-a-directory"
	WorkspaceUnreadable      Code = "workspace-unreadable"
	WorkspaceFilesUnreadable Code = "workspace-files-unreadable"
	WorkspaceTooDeep         Code = "workspace-too-deep"
	WorkspacePathTooLong     Code = "workspace-path-too-long"
	WorkspaceTooManyFiles    Code = "workspace-too-many-files"
	WorkspaceTooLarge        Code = "workspace-too-large"
	NoSpaceForWorkspace      Code = "no-space-for-workspace"
	ChangesTooLarge          Code = "changes-too-large"
	ChangesTooMany           Code = "changes-too-many"
	ChangesMemory            Code = "changes-memory"
	NoSpaceForChanges        Code = "no-space-for-changes"
	NoSpaceForCopy           Code = "no-space-for-copy"
)

// Codes of live shares.
const (
	VirtiofsdMissing       Code = "virtiofsd-missing"
	VirtiofsdUnusable      Code = "virtiofsd-unusable"
	ShareNamespacesRefused Code = "share-namespaces-refused"
	KernelTooOld           Code = "kernel-too-old"
)

// Codes of cloning.
const (
	GitMissing                 Code = "git-missing"
	RepositoryInvalid          Code = "repository-invalid"
	ReferenceInvalid           Code = "reference-invalid"
	ReferenceEmpty             Code = "reference-empty"
	CloneTargetExists          Code = "clone-target-exists"
	RepositoryDirectoryMissing Code = "repository-directory-missing"
	RepositoryEmpty            Code = "repository-empty"
	ReferenceMissing           Code = "reference-missing"
	RepositoryLoginRefused     Code = "repository-login-refused"
	RepositoryNotFound         Code = "repository-not-found"
	RepositoryHostUnknown      Code = "repository-host-unknown"
	RepositoryOfAnotherUser    Code = "repository-of-another-user"
	RepositoryURLRewritten     Code = "repository-url-rewritten"
	SSHHostKeyUnknown          Code = "ssh-host-key-unknown"
	SSHKeyRefused              Code = "ssh-key-refused"
)

// Codes of images.
const (
	ImageNotBuilt         Code = "image-not-built"
	ImageDamaged          Code = "image-damaged"
	ImageBusy             Code = "image-busy"
	ImageKeyUnclear       Code = "image-key-unclear"
	ImageBaseUnknown      Code = "image-base-unknown"
	ImageInitUnknown      Code = "image-init-unknown"
	NoSpaceForImage       Code = "no-space-for-image"
	PackageNameInvalid    Code = "package-name-invalid"
	PackageUnknown        Code = "package-unknown"
	MmdebstrapMissing     Code = "mmdebstrap-missing"
	UIDMapMissing         Code = "uidmap-missing"
	E2fsprogsMissing      Code = "e2fsprogs-missing"
	SubordinateIDsMissing Code = "subordinate-ids-missing"
	BuildDirectoryMounted Code = "build-directory-mounted"
	RootNotMounted        Code = "root-not-mounted"
	BuildDirectoryOpen    Code = "build-directory-open"
)

// Codes of coding agents.
const (
	AgentsLockInvalid Code = "agents-lock-invalid"
	AgentNotLocked    Code = "agent-not-locked"
	AgentArchiveWrong Code = "agent-archive-wrong"
	AgentsWithoutNPM  Code = "agents-without-npm"
	NPMMissing        Code = "npm-missing"
)

// Codes of the network.
const (
	BridgeMissing        Code = "bridge-missing"
	BridgeWithoutAddress Code = "bridge-without-address"
	BridgeWithoutRules   Code = "bridge-without-rules"
	BridgeWithoutPorts   Code = "bridge-without-ports"
	BridgeFull           Code = "bridge-full"
	BridgeNeedsRoot      Code = "bridge-needs-root"
	BridgeNameTaken      Code = "bridge-name-taken"
	BridgeNetworkTaken   Code = "bridge-network-taken"
	BridgeRecordVersion  Code = "bridge-record-version"
	TapDeviceForbidden   Code = "tap-device-forbidden"
	PortTaken            Code = "port-taken"
	QuestionNone         Code = "question-none"
	PortPrivileged       Code = "port-privileged"
	DirectoryShared      Code = "directory-shared"
	VariableUnset        Code = "variable-unset"
)

// Codes of dotfiles.
const (
	DotfilesClash        Code = "dotfiles-clash"
	DotfilesTooLarge     Code = "dotfiles-too-large"
	DotfilesTooMany      Code = "dotfiles-too-many"
	DotfilesUnscannable  Code = "dotfiles-unscannable"
	DotfileUnreadable    Code = "dotfile-unreadable"
	IgnorePatternInvalid Code = "ignore-pattern-invalid"
)

// Codes of the host's programs.
const (
	DebianKeysMissing    Code = "debian-keys-missing"
	DebianKeysOld        Code = "debian-keys-old"
	QEMUNotInstallable   Code = "qemu-not-installable"
	QEMULibrariesMissing Code = "qemu-libraries-missing"
	GuestProgramMissing  Code = "guest-program-missing"
)

// Codes of instructions for coding agents.
const (
	SkillAgentUnknown Code = "skill-agent-unknown"
	SSHConfigUnfit    Code = "ssh-config-unfit"
	SkillChanged      Code = "skill-changed"
	AgentUnknown      Code = "agent-unknown"
)

// Codes of log-ins that the host keeps.
const (
	LoginMissing  Code = "login-missing"
	LoginInvalid  Code = "login-invalid"
	LoginExposed  Code = "login-exposed"
	LoginInSecret Code = "login-in-secret"
	LoginImport   Code = "login-import"
)

// Codes of what an engine does.
const (
	NameDefined       Code = "name-defined"
	NameOfRun         Code = "name-of-run"
	MachineDiffers    Code = "machine-differs"
	MachineNotRunning Code = "machine-not-running"
	MachineStopped    Code = "machine-stopped"
	MachineForeign    Code = "machine-foreign"
	MachineUnkept     Code = "machine-unkept"
	MachineStuck      Code = "machine-stuck"
	StartTimeout      Code = "start-timeout"
	StartAbandoned    Code = "start-abandoned"
	TrustUnreadable   Code = "trust-unreadable"
	WorkspaceUnusable Code = "workspace-unusable"
	WorkspaceNone     Code = "workspace-none"
	WorkspaceLive     Code = "workspace-live"
	SyncLive          Code = "sync-live"
	SyncEmpty         Code = "sync-empty"
	SyncTooLarge      Code = "sync-too-large"
	ChangeMissing     Code = "change-missing"
	RebaseConflict    Code = "rebase-conflict"
	UndoNone          Code = "undo-none"
	UndoBusy          Code = "undo-busy"
	CloneTargetLive   Code = "clone-target-live"
	DiskFull          Code = "disk-full"
	ShareMissing      Code = "share-missing"
	DotfilesSecret    Code = "dotfiles-secret"
	CommandNotFound   Code = "command-not-found"
	CommandRefused    Code = "command-refused"
	MachineLost       Code = "machine-lost"
	SessionNone       Code = "session-none"
	SessionAmbiguous  Code = "session-ambiguous"
	AgentNone         Code = "agent-none"
	AgentAmbiguous    Code = "agent-ambiguous"
	AgentMissing      Code = "agent-missing"
	TranscriptsNone   Code = "transcripts-none"
	AuditMissing      Code = "audit-missing"
	AuditChanged      Code = "audit-changed"
	FileMissing       Code = "file-missing"
	FileChanged       Code = "file-changed"
	FileUnfit         Code = "file-unfit"
	MachineFileless   Code = "machine-fileless"
	RulePattern       Code = "rule-pattern"
	ExportNothing     Code = "export-nothing"
	SetupDirectory    Code = "setup-directory"
	SetupMissing      Code = "setup-missing"
	SetupInvalid      Code = "setup-invalid"
	CurlMissing       Code = "curl-missing"
	CopyUnnamed       Code = "copy-unnamed"
)

// Codes of importing.
const (
	NixMissing   Code = "nix-missing"
	FlakeMissing Code = "flake-missing"
)

// Codes of set-ups of others.
const (
	SourceIsAnOption      Code = "source-is-an-option"
	SourceInsecure        Code = "source-insecure"
	BundlePathForeign     Code = "bundle-path-foreign"
	BundlePathHidden      Code = "bundle-path-hidden"
	BundlePathRelative    Code = "bundle-path-relative"
	BundleSecretCommand   Code = "bundle-secret-command"
	BundleProfileReserved Code = "bundle-profile-reserved"
	BundleProfileDiffers  Code = "bundle-profile-differs"
	BundleMachineDiffers  Code = "bundle-machine-differs"
)

// Codes of a machine that starts or runs.
const (
	BootTimeout          Code = "boot-timeout"
	ShareServerFailed    Code = "share-server-failed"
	BridgeAddressForeign Code = "bridge-address-foreign"
	WorkspaceCopyDamaged Code = "workspace-copy-damaged"
	WorkspaceCopyDiffers Code = "workspace-copy-differs"
)

// Kind is a row of the table of codes.
type Kind struct {
	Code    Code
	Args    []string // the names that its arguments can have
	Meaning string   // one sentence
}

// Kinds returns the table of all codes.
func Kinds() []Kind {
	return []Kind{
		{NameTaken, []string{"name"}, "A machine has this name already."},
		{MachineNotFound, []string{"name"}, "No machine that runs, or left something, has this name."},
		{MachineUndefined, []string{"name"}, "No defined machine has this name."},
		{MachineDefined, []string{"name", "file"}, "A machine with this name is defined already, in this file."},
		{MachineDataLeft, []string{"name", "dir"}, "An earlier machine with this name has left data in this directory."},
		{VolumeShrinks, []string{"machine", "volume", "mib"}, "A volume cannot become smaller than it is."},
		{MachineStarting, nil, "The machine is being started and cannot be used yet."},
		{MachineApplying, []string{"name", "pid"}, "A process applies changes of the machine, which cannot be removed meanwhile."},
		{MachineVersion, []string{"name", "defined"}, "The machine was started by another version of mayfly. The second argument is its name, too, if it is defined."},
		{MachineForbidden, []string{"name"}, "The machine obeys only programs that may read its directory."},
		{MachinePaused, []string{"name", "dir", "free", "reason"}, "The machine stands still, because the host cannot write its disk: free is the number of free bytes of a file system that is full."},
		{MachineUnreachable, []string{"name", "reason", "defined"}, "The guest has broken off the conversation with the host. The last argument is its name, too, if it is defined."},
		{MachineSilent, []string{"name", "seconds"}, "The guest has sent nothing for so long, though it was asked."},
		{MachinePanicked, []string{"name"}, "The machine ended, because its kernel panicked."},
		{MachinePoweredOff, []string{"name"}, "The machine was powered off or rebooted from inside."},
		{MachineKilled, []string{"name"}, "The host killed the machine's VMM, probably because it had too little memory."},

		{MachineNameInvalid, []string{"name", "better"}, "This cannot be the name of a machine; a name like it can."},
		{QEMUMissing, nil, "There is no QEMU that can be used."},
		{QEMUUnsafe, []string{"path", "version"}, "This QEMU emulates a CPU wrongly."},
		{QEMUWithoutNetwork, []string{"path", "version"}, "This QEMU is too old to give a machine a network."},
		{KVMMissing, nil, "The host has no KVM."},
		{KVMForbidden, []string{"group"}, "The user may not open /dev/kvm."},
		{KVMUntested, nil, "No test guest has run on KVM yet."},
		{KVMUnusable, nil, "The test guest did not run on KVM."},
		{MemoryTooLarge, []string{"mib", "host-mib", "fits-mib"}, "The machine would have more memory than the host."},
		{NothingToLearn, []string{"mode"}, "Rules are learned in the network mode user only."},
		{AddressMissing, nil, "A machine on the bridge needs an address."},
		{AppArmorProgram, []string{"program", "reason"}, "mayfly gets no AppArmor profile where others than root can change it."},
		{AppArmorOld, nil, "AppArmor's programs are older than version 4, which has the rule that mayfly needs."},
		{AppArmorForeign, []string{"file"}, "There is an AppArmor profile in this file that mayfly has not written."},
		{UserNamespacesMissing, nil, "Live shares need user namespaces, which the host does not give."},
		{ShareRefused, []string{"dir"}, "This directory must not be live in a machine."},
		{SharePathInvalid, []string{"dir", "path", "better"}, "A live share cannot have this path in the machine."},
		{ShareUnguarded, []string{"dir"}, "What is to be hidden or protected in a live share cannot be."},
		{WorkspaceRefused, []string{"dir"}, "This directory must not be given to a machine."},
		{PlanVersion, []string{"version", "reads"}, "The machine was planned by another version of mayfly."},

		{ConfigInvalid, []string{"file", "line", "key"}, "The configuration is wrong. The arguments are those of the first error in a file."},

		{WorkspaceMissing, []string{"dir"}, "The directory that a machine is to work on does not exist."},
		{WorkspaceNotADirectory, []string{"dir"}, "What a machine is to work on is not a directory."},
		{WorkspaceUnreadable, []string{"dir"}, "The user may not read the directory that a machine is to work on."},
		{WorkspaceFilesUnreadable, []string{"path", "count", "pattern1", "pattern2", "pattern3"}, "The user may not read files of the workspace. The path is that of the first; patterns, for at most three files, leave them out."},
		{WorkspaceTooDeep, []string{"path", "limit"}, "The directories of the workspace are too deep."},
		{WorkspacePathTooLong, []string{"path"}, "A path in the workspace is too long."},
		{WorkspaceTooManyFiles, []string{"limit"}, "The workspace has too many files."},
		{WorkspaceTooLarge, []string{"bytes", "limit"}, "The workspace does not fit on a disk of a machine."},
		{NoSpaceForWorkspace, []string{"dir"}, "The disk is too full for the copy of the workspace."},
		{ChangesTooLarge, []string{"limit"}, "The changes of a machine are larger than the bytes that may be fetched."},
		{ChangesTooMany, []string{"limit"}, "A machine has more changes than can be listed."},
		{ChangesMemory, []string{"limit"}, "A machine has more changes than fit into the memory that review.max_memory gives their list."},
		{NoSpaceForChanges, []string{"dir", "bytes", "free"}, "The disk is too full for the changes of a machine."},
		{NoSpaceForCopy, []string{"free"}, "A file that is copied out of a machine does not fit on the host's disk."},

		{VirtiofsdMissing, nil, "The host has no virtiofsd."},
		{VirtiofsdUnusable, nil, "No virtiofsd of the host can be used."},
		{ShareNamespacesRefused, nil, "The host refuses the namespaces that the server of a live share needs."},
		{KernelTooOld, []string{"needed"}, "The kernel of the host is older than this."},

		{GitMissing, nil, "The host has no git."},
		{RepositoryInvalid, []string{"url"}, "This is not the URL or the path of a repository."},
		{ReferenceInvalid, []string{"ref"}, "This cannot be the name of a branch, a tag or a commit."},
		{ReferenceEmpty, []string{"url"}, "Nothing follows the @ of a repository."},
		{CloneTargetExists, []string{"url", "dir"}, "The directory to clone into exists."},
		{RepositoryDirectoryMissing, []string{"path", "better"}, "There is no such directory to clone. The better one is a URL that may be meant."},
		{RepositoryEmpty, []string{"url"}, "The repository has no commits."},
		{ReferenceMissing, []string{"url", "ref", "near"}, "The repository has no such branch, tag or commit. Near are the names like it."},
		{RepositoryLoginRefused, []string{"url"}, "The server wants another user or password for the repository."},
		{RepositoryNotFound, []string{"url"}, "The server does not have the repository, or does not show it to this user."},
		{RepositoryHostUnknown, []string{"url"}, "The host of the repository has no address."},
		{RepositoryOfAnotherUser, []string{"url"}, "The repository on this host belongs to another user."},
		{RepositoryURLRewritten, []string{"url"}, "The configuration of git turns the URL into one of another kind."},
		{SSHHostKeyUnknown, []string{"url"}, "SSH does not know the key of the host."},
		{SSHKeyRefused, []string{"url"}, "The host does not take the SSH key of the user."},

		{ImageNotBuilt, nil, "The image of the machine has not been built."},
		{ImageDamaged, []string{"image", "layer", "kernel", "file"}, "A part of an image is not there, or is not what it was."},
		{ImageBusy, nil, "Images are being built."},
		{ImageKeyUnclear, []string{"key", "found"}, "Not exactly one image has a key that begins so."},
		{ImageBaseUnknown, []string{"base"}, "There is no such base of images."},
		{ImageInitUnknown, []string{"init"}, "There is no such process 1."},
		{NoSpaceForImage, []string{"dir", "bytes", "free"}, "The disk is too full to build the image."},
		{PackageNameInvalid, []string{"name"}, "This cannot be the name of a Debian package."},
		{PackageUnknown, []string{"suite", "name"}, "The suite of Debian has no such package."},
		{MmdebstrapMissing, nil, "The host has no mmdebstrap."},
		{UIDMapMissing, nil, "The host has no newuidmap, which a user needs who is not root."},
		{E2fsprogsMissing, nil, "The host has no mkfs.ext4."},
		{SubordinateIDsMissing, []string{"user"}, "The user has no subordinate user and group IDs."},
		{RootNotMounted, nil, "The root directory is no mount point, as in a plain chroot: a build cannot have mounts of its own."},
		{BuildDirectoryOpen, []string{"dir"}, "Others could look into the directory of a build, which has a password: its file system has no access control lists."},
		{BuildDirectoryMounted, []string{"dir"}, "Something is mounted in the directory of a build."},

		{AgentsLockInvalid, []string{"file"}, "The lock file of coding agents is wrong."},
		{AgentNotLocked, []string{"agent", "known"}, "The lock file has no such coding agent."},
		{AgentArchiveWrong, []string{"agent", "package"}, "What was fetched for a coding agent is not what the lock file names."},
		{AgentsWithoutNPM, nil, "Coding agents cannot be fetched: the host has no npm."},
		{NPMMissing, nil, "The host has no npm."},

		{BridgeMissing, []string{"bridge"}, "The bridge of machines is not there."},
		{BridgeWithoutAddress, []string{"bridge"}, "The bridge of machines has lost its address."},
		{BridgeWithoutRules, []string{"bridge"}, "The rules that protect the host from machines on its bridge are gone."},
		{BridgeWithoutPorts, []string{"bridge", "user"}, "No port of the bridge is for this user."},
		{BridgeFull, []string{"bridge", "ports"}, "All ports of the bridge that are for this user are in use."},
		{BridgeNeedsRoot, []string{"bridge", "operation"}, "Only root may bring the bridge up or down."},
		{BridgeNameTaken, []string{"interface"}, "An interface that mayfly has not made has the name of the bridge."},
		{BridgeNetworkTaken, []string{"network", "interface"}, "The network for the bridge is behind another interface of the host."},
		{BridgeRecordVersion, []string{"file", "version"}, "The record of the bridge was written by another version of mayfly."},
		{TapDeviceForbidden, []string{"device"}, "The user may not open the device for taps."},
		{QuestionNone, []string{"host"}, "No connection to this host waits for an answer, so that none can be let pass once."},
		{PortTaken, []string{"address", "port", "guest-port"}, "A program on the host has the port already."},
		{PortPrivileged, []string{"address", "port", "guest-port"}, "Only root may open the port."},
		{DirectoryShared, []string{"path"}, "Another user could change a directory of mayfly's."},
		{VariableUnset, []string{"variable"}, "The variable of the environment that a secret comes from is not set."},

		{DotfilesClash, []string{"target", "first", "second"}, "Two of the dotfiles are for the same path."},
		{DotfilesTooLarge, []string{"limit"}, "The dotfiles are larger than these bytes."},
		{DotfilesTooMany, []string{"limit"}, "There are more dotfiles than these."},
		{DotfilesUnscannable, []string{"limit"}, "The directory of the dotfiles is too large to look for secrets in it."},
		{DotfileUnreadable, []string{"path"}, "The user may not read one of the dotfiles."},
		{IgnorePatternInvalid, []string{"file", "line"}, "A line of a file of patterns is not a pattern."},

		{DebianKeysMissing, nil, "The host does not have the keys of Debian's archive."},
		{DebianKeysOld, []string{"suite"}, "The keys of Debian's archive on the host are too old for this suite."},
		{QEMUNotInstallable, []string{"os", "arch", "install"}, "mayfly knows no QEMU for this system. The command installs that of the distribution."},
		{QEMULibrariesMissing, nil, "The QEMU that mayfly unpacked does not start on this host."},
		{GuestProgramMissing, nil, "This mayfly was built without the program for its machines."},

		{SkillAgentUnknown, []string{"agent", "known"}, "mayfly knows no such coding agent to instruct."},
		{SSHConfigUnfit, []string{"file"}, "The user's own SSH configuration cannot be changed, or cannot include mayfly's file."},
		{SkillChanged, []string{"file"}, "The instructions were changed after mayfly wrote them."},
		{AgentUnknown, []string{"agent", "known", "first"}, "mayfly cannot start such a coding agent."},

		{LoginMissing, []string{"agent"}, "The host keeps no log-in of this coding agent."},
		{LoginInvalid, []string{"agent"}, "What is kept, or is to be kept, is no log-in of this coding agent."},
		{LoginExposed, []string{"file"}, "Other users of the host can read the file of a log-in."},
		{LoginImport, []string{"agent"}, "The log-in that the coding agent has on the host cannot be taken over."},
		{LoginInSecret, []string{"secret"}, "A secret of the configuration names the file of a log-in, which goes to its provider only."},

		{NameDefined, []string{"name"}, "The name is that of a defined machine."},
		{NameOfRun, []string{"name"}, "The name is that of a machine that is not defined."},
		{MachineDiffers, []string{"name"}, "A machine with this name is defined already, by another file."},
		{MachineNotRunning, []string{"name"}, "The machine does not run."},
		{MachineStopped, []string{"name"}, "The machine is defined and does not run."},
		{MachineForeign, []string{"name"}, "The machine runs already, and not as a part of this service."},
		{MachineUnkept, []string{"name"}, "The machine is not defined: nothing of it would be left when it is stopped."},
		{MachineStuck, []string{"name"}, "The machine does not end."},
		{StartTimeout, []string{"name"}, "Another command has been starting the machine for too long."},
		{StartAbandoned, []string{"name"}, "The command that was starting the machine gave up."},
		{TrustUnreadable, []string{"file"}, "The file of what the user trusts cannot be read."},
		{WorkspaceUnusable, nil, "The directory that a machine is to work on cannot be found."},
		{WorkspaceNone, []string{"name"}, "The machine has no workspace."},
		{WorkspaceLive, []string{"name"}, "The workspace of the machine is live: there are no changes to list or apply."},
		{SyncLive, []string{"name"}, "The workspace of the machine is live: it has what you change at once."},
		{SyncEmpty, []string{"dir"}, "The directory of the workspace is empty now, and nothing is deleted in the machine for that."},
		{SyncTooLarge, []string{"limit"}, "What is to be sent into a machine is larger than the bytes that may be sent at once."},
		{ChangeMissing, []string{"path"}, "Nothing at this path of the workspace was changed."},
		{RebaseConflict, []string{"name", "commit"}, "A commit of the machine cannot be made anew on top of the branch that is checked out."},
		{UndoNone, []string{"name", "dir"}, "No apply of this machine, or to this directory, can be taken back."},
		{UndoBusy, []string{"name"}, "The apply that is to be taken back is still under way, or is being taken back already."},
		{CloneTargetLive, []string{"name", "dir"}, "The directory to clone into is live in a running machine."},
		{DiskFull, []string{"dir"}, "The disk of this directory has too little space."},
		{ShareMissing, []string{"path"}, "A directory that is to be live in a machine does not exist."},
		{DotfilesSecret, []string{"file"}, "Dotfiles have what looks like a secret. The argument is the file that can except it."},
		{CommandNotFound, nil, "The machine has no such program."},
		{CommandRefused, nil, "The guest could not start the program."},
		{MachineLost, nil, "The machine ended, or broke the conversation off, under a command."},
		{SessionNone, []string{"name"}, "No session is in the machine."},
		{SessionAmbiguous, []string{"name", "session"}, "The machine has several sessions. The argument is one of them."},
		{AgentNone, []string{"agent"}, "The image of the machine has no coding agent. The argument is one that an image can have."},
		{AgentAmbiguous, []string{"name", "agent"}, "The image of the machine has several coding agents. The argument is one of them."},
		{AgentMissing, []string{"agent"}, "The image of the machine lacks this coding agent."},
		{TranscriptsNone, []string{"name"}, "No conversations of coding agents were kept under this name."},
		{AuditMissing, []string{"name"}, "There is no audit log of this machine."},
		{AuditChanged, []string{"file"}, "The audit log was changed from outside."},
		{FileMissing, []string{"file"}, "This is neither a machine's name nor a file."},
		{FileChanged, []string{"file", "kept"}, "The file changed meanwhile. Its replacement is kept."},
		{FileUnfit, []string{"file", "machine", "line"}, "mayfly does not write into this file of a machine. The line is what it would have written into [network]."},
		{RulePattern, []string{"rule", "machine"}, "This rule is not for one host as a whole, and is not written into a file by an answer."},
		{MachineFileless, []string{"name", "rule"}, "The machine has no file of its own, into which the rule could be written."},
		{ExportNothing, nil, "No machine is defined that could be exported."},
		{SetupMissing, []string{"file"}, "There is no such file with a set-up."},
		{SetupInvalid, []string{"location"}, "What is at this place is no set-up, or a damaged one."},
		{SetupDirectory, []string{"file"}, "The set-up is a directory. The argument is the file in it."},
		{CurlMissing, nil, "The host has no curl, which fetches set-ups."},
		{CopyUnnamed, []string{"name", "target"}, "What is to be copied out of the machine has no name."},

		{FlakeMissing, []string{"dir"}, "There is no flake in this directory, or no such directory."},
		{NixMissing, nil, "There is no Nix, which evaluates definitions for NixOS."},

		{SourceIsAnOption, []string{"location"}, "The place of a set-up looks like an option."},
		{SourceInsecure, []string{"location", "better"}, "What comes from this place can be changed on its way."},
		{BundlePathForeign, []string{"path"}, "The set-up names a path of the computer that it is from."},
		{BundlePathHidden, []string{"path"}, "The set-up names a hidden path, where programs keep configuration and keys."},
		{BundlePathRelative, []string{"path"}, "The set-up names a path that is relative, and no base directory is given."},
		{BundleSecretCommand, []string{"secret"}, "The set-up would run a command on the host for a secret."},
		{BundleProfileReserved, []string{"profile"}, "The set-up would hide one of mayfly's own profiles."},
		{BundleProfileDiffers, []string{"profile"}, "Another profile has this name already."},
		{BundleMachineDiffers, []string{"machine"}, "Another machine has this name already."},

		{BootTimeout, []string{"seconds"}, "The guest did not answer in time."},
		{ShareServerFailed, []string{"dir"}, "The server of a live share ended."},
		{BridgeAddressForeign, []string{"address", "bridge", "network"}, "The address of the machine is not in the network of the bridge, or is the bridge's own."},
		{WorkspaceCopyDamaged, []string{"name"}, "What says where the kept copy of the workspace is cannot be read."},
		{WorkspaceCopyDiffers, []string{"name", "copy", "workspace"}, "The machine keeps a copy of another workspace."},
	}
}
