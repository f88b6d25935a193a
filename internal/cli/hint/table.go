package hint

import (
	"iter"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
)

// next is the next command to type after a failure: the first template whose
// arguments the failure has. {name} stands for the argument of that name,
// {name|sh} for it as one word of a shell command.
var next = map[fault.Code][]string{
	fault.NameTaken:        {"mayfly ls, or mayfly rm {name}"},
	fault.MachineNotFound:  {"mayfly ls"},
	fault.MachineUndefined: {"mayfly ls, or mayfly new NAME"},
	fault.MachineDefined:   {"mayfly inspect {name}, or another name"},
	fault.MachineDataLeft:  {"mayfly rm {name} removes it"},
	fault.MachineApplying:  {"wait for process {pid} to end, then mayfly rm {name}"},
	fault.MachineVersion:   {"mayfly restart {defined}", "mayfly rm {name}, or use the mayfly that started it"},
	fault.MachineForbidden: {"mayfly rm {name}, or use the mayfly that started it, outside of a sandbox"},
	fault.MachineStarting:  {"mayfly ls"},
	fault.VolumeShrinks:    {`size = "{mib}MiB" in [[volume]], or mayfly reset {machine}, which wipes it`},

	fault.MachinePaused:      {"mayfly gc makes room; mayfly rm {name} ends the machine"},
	fault.MachineSilent:      {"mayfly ls says how it does; try again"},
	fault.MachineUnreachable: {"mayfly restart {defined}", "mayfly rm {name}"},
	fault.MachineKilled:      {"give the machine less with --memory, or run fewer machines at once"},

	fault.MachineNameInvalid:    {"--name {better}"},
	fault.QEMUMissing:           {"mayfly doctor --fix"},
	fault.QEMUUnsafe:            {"mayfly doctor --fix, or --allow-old-qemu if wrong results do not matter"},
	fault.QEMUWithoutNetwork:    {"mayfly doctor --fix, or --network none"},
	fault.KVMMissing:            {"--accel tcg (slower)"},
	fault.KVMForbidden:          {"sudo usermod -aG {group} $USER, then log in again; or --accel tcg (slower)", "sudo chmod 666 /dev/kvm; or --accel tcg (slower)"},
	fault.KVMUntested:           {"mayfly doctor --refresh"},
	fault.KVMUnusable:           {"--accel tcg (slower), or mayfly doctor --refresh to try it again"},
	fault.MemoryTooLarge:        {"--memory {fits-mib}MiB"},
	fault.NothingToLearn:        {"--network user"},
	fault.AddressMissing:        {`mayfly new NAME --network bridge takes a free one; or address = "192.168.83.6/24" in [network] of the machine's file`},
	fault.AppArmorProgram:       {"sudo install -m 755 {program} /usr/local/bin/mayfly && sudo /usr/local/bin/mayfly doctor --fix", "install mayfly as root in /usr/local/bin, and run that with doctor --fix"},
	fault.AppArmorOld:           {"update the package apparmor"},
	fault.AppArmorForeign:       {"look at {file}, and move it away if nothing needs it"},
	fault.UserNamespacesMissing: {"mayfly doctor says what is in the way"},
	fault.ShareRefused:          {"share a directory that is for machines only"},
	fault.SharePathInvalid:      {"another path in the machine, such as {better}"},
	fault.WorkspaceRefused:      {"cd to the project's own directory, or --workspace DIR"},
	fault.PlanVersion:           {"mayfly restart the machine, or use the mayfly that started it"},

	fault.ConfigInvalid: {"$EDITOR +{line} {file|sh}"},

	fault.RebaseConflict:         {"mayfly apply {name} --branch, then rebase that with git"},
	fault.UndoNone:               {"mayfly undo --list"},
	fault.UndoBusy:               {"wait for the other mayfly to end"},
	fault.WorkspaceMissing:       {"mkdir -p {dir|sh}"},
	fault.WorkspaceNotADirectory: {"give the directory that holds it"},
	fault.WorkspaceUnreadable:    {"ls -ld {dir|sh}"},
	fault.WorkspaceFilesUnreadable: {
		"--exclude {pattern1|sh} --exclude {pattern2|sh} --exclude {pattern3|sh}", "--exclude {pattern1|sh} --exclude {pattern2|sh}",
		"--exclude {pattern1|sh}", "leave them out with --exclude PATTERN",
	},
	fault.WorkspaceTooDeep:      {"leave them out with --exclude PATTERN"},
	fault.WorkspacePathTooLong:  {"leave it out with --exclude PATTERN"},
	fault.WorkspaceTooManyFiles: {"leave large directories out with --exclude PATTERN"},
	fault.WorkspaceTooLarge:     {"leave large directories out with --exclude"},
	fault.NoSpaceForWorkspace:   {"mayfly gc, or leave large directories out with --exclude"},
	fault.ChangesTooLarge:       {"delete in the machine what is not wanted, and try again"},
	fault.ChangesMemory:         {"set review.max_memory in config.toml, such as \"1GiB\"; or delete in the machine what is not wanted, or take what is: mayfly cp NAME:DIRECTORY ."},
	fault.ChangesTooMany:        {"delete in the machine what is not wanted, or take what is: mayfly cp NAME:DIRECTORY ."},
	fault.NoSpaceForChanges:     {"mayfly gc, or free some disk space"},
	fault.NoSpaceForCopy:        {"free some disk space, or copy less"},

	fault.VirtiofsdMissing:       {"sudo apt install virtiofsd (Debian 13, Ubuntu 24.04), or qemu-system-common (Debian 12, Ubuntu 22.04)"},
	fault.VirtiofsdUnusable:      {"sudo apt install virtiofsd (Debian 13, Ubuntu 24.04), or qemu-system-common (Debian 12, Ubuntu 22.04)"},
	fault.ShareNamespacesRefused: {`mayfly doctor, or workspace.mode = "copy"`},
	fault.KernelTooOld:           {`use Linux {needed} or newer, or workspace.mode = "copy"`},

	fault.GitMissing:                 {"install git: sudo apt install git"},
	fault.RepositoryInvalid:          {"https://HOST/PATH, ssh://HOST/PATH, USER@HOST:PATH or a directory, and @REF behind it"},
	fault.ReferenceInvalid:           {"git ls-remote URL lists the names that there are"},
	fault.ReferenceEmpty:             {"leave the @ out for the default branch"},
	fault.CloneTargetExists:          {"choose another directory, or remove that one"},
	fault.RepositoryDirectoryMissing: {"{better}", "a directory, or a URL such as https://HOST/PATH"},
	fault.RepositoryEmpty:            {"push a commit to it first"},
	fault.ReferenceMissing:           {"there is {near}", "git ls-remote URL lists the names that there are"},
	fault.RepositoryLoginRefused:     {"set up a credential helper (git help credentials), or use git@HOST:PATH"},
	fault.RepositoryNotFound:         {"check the URL; ssh -T git@HOST says who you are there"},
	fault.RepositoryHostUnknown:      {"check the name of the host, and the network"},
	fault.RepositoryOfAnotherUser:    {"clone it as that user, or git config --global --add safe.directory PATH"},
	fault.RepositoryURLRewritten:     {"git config --get-regexp insteadof"},
	fault.FlakeMissing:               {"mayfly import nix DIRECTORY, which has a flake.nix"},
	fault.NixMissing:                 {"install Nix: sudo apt install nix-bin"},
	fault.SSHHostKeyUnknown:          {"ssh HOST, to see its key and to accept it"},
	fault.SSHKeyRefused:              {"ssh-add, or use a key that the host knows"},

	fault.ImageNotBuilt:         {"mayfly image build"},
	fault.ImageDamaged:          {"mayfly image check --repair"},
	fault.ImageBusy:             {"try again when it is built"},
	fault.ImageKeyUnclear:       {"mayfly image ls"},
	fault.ImageBaseUnknown:      {`base = "debian:trixie"`},
	fault.ImageInitUnknown:      {`write init = "systemd", or nothing, in [image]`},
	fault.NoSpaceForImage:       {"mayfly image prune, or free some space in another way"},
	fault.PackageNameInvalid:    {"package names consist of lower-case letters, digits and + - ."},
	fault.PackageUnknown:        {"look for the right name with: apt-cache search {name}"},
	fault.MmdebstrapMissing:     {"sudo apt install mmdebstrap"},
	fault.UIDMapMissing:         {"sudo apt install uidmap"},
	fault.E2fsprogsMissing:      {"sudo apt install e2fsprogs"},
	fault.SubordinateIDsMissing: {"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"},
	fault.RootNotMounted:        {"outside of the chroot: mount --bind DIRECTORY DIRECTORY, then chroot DIRECTORY"},
	fault.BuildDirectoryOpen:    {"give that file system access control lists, or build as root, or use a proxy without a password"},
	fault.BuildDirectoryMounted: {"sudo umount --recursive {dir}"},

	fault.AgentsLockInvalid: {"correct or remove {file}"},
	fault.AgentNotLocked:    {"one of: {known}"},
	fault.AgentArchiveWrong: {"do not use it; compare with: npm view {package} dist.integrity"},
	fault.AgentsWithoutNPM:  {"install npm (sudo apt install npm), or leave the agents out of the image"},
	fault.NPMMissing:        {"install npm (sudo apt install npm)"},

	fault.BridgeMissing:        {"sudo mayfly net up"},
	fault.BridgeWithoutAddress: {"sudo mayfly net up"},
	fault.BridgeWithoutRules:   {"sudo mayfly net up"},
	fault.BridgeWithoutPorts:   {"sudo mayfly net up --user {user}"},
	fault.BridgeFull:           {"mayfly ls, and mayfly rm NAME"},
	fault.BridgeNeedsRoot:      {"sudo mayfly net {operation}"},
	fault.BridgeNameTaken:      {"ip link show {interface}"},
	fault.BridgeNetworkTaken:   {"sudo mayfly net up --address 10.83.0.1/24, or another network that is free"},
	fault.BridgeRecordVersion:  {"use the mayfly that made it"},
	fault.TapDeviceForbidden:   {"sudo chmod 0666 {device}"},
	fault.QuestionNone:         {"mayfly policy NAME allow {host} lets later ones pass, too"},
	fault.PortTaken:            {"choose another: {address}:0:{guest-port} takes any that is free"},
	fault.PortPrivileged:       {"ports below 1024 are root's; choose a higher one"},
	fault.DirectoryShared:      {"chmod go-w {path}, if it is yours; else set the XDG_ variables to directories of your own"},
	fault.VariableUnset:        {"export {variable}=…"},

	fault.DotfilesClash:        {"name one of them in .mayflyignore"},
	fault.DotfilesTooLarge:     {"name what is large in .mayflyignore"},
	fault.DotfilesTooMany:      {"use a directory that holds only dotfiles"},
	fault.DotfilesUnscannable:  {"use a directory that holds only dotfiles"},
	fault.DotfileUnreadable:    {"chmod u+r, or move it elsewhere"},
	fault.IgnorePatternInvalid: {"use names and paths, with *, ? and [a-z]"},

	fault.DebianKeysMissing:    {"sudo apt-get install debian-archive-keyring"},
	fault.DebianKeysOld:        {"the package debian-archive-keyring is too old for {suite}; install that of a newer release of the distribution"},
	fault.QEMUNotInstallable:   {"{install}"},
	fault.QEMULibrariesMissing: {"sudo apt-get install --no-install-recommends qemu-system-x86"},
	fault.GuestProgramMissing:  {"make build"},

	fault.SkillAgentUnknown: {"one of {known}"},
	fault.SSHConfigUnfit:    {"mayfly ssh-config prints what belongs into ~/.ssh/config"},
	fault.SkillChanged:      {"mayfly skill install --force replaces it"},
	fault.AgentUnknown:      {"mayfly agent NAME {first}"},

	fault.LoginMissing:  {"mayfly login {agent}"},
	fault.LoginInvalid:  {"mayfly login {agent} keeps it anew"},
	fault.LoginExposed:  {"chmod 600 {file|sh}"},
	fault.LoginImport:   {"log in with the agent on this computer first, or keep a key: mayfly login {agent}"},
	fault.LoginInSecret: {"mayfly login ls says which log-ins machines get by themselves"},

	fault.NameDefined:       {"mayfly start {name}, or another --name"},
	fault.NameOfRun:         {"mayfly rm {name}, or another name"},
	fault.MachineDiffers:    {"mayfly inspect {name}"},
	fault.MachineNotRunning: {"mayfly ls"},
	fault.MachineStopped:    {"mayfly start {name}"},
	fault.MachineForeign:    {"mayfly stop {name}"},
	fault.MachineUnkept:     {"mayfly rm {name}"},
	fault.MachineStuck:      {"mayfly rm --force {name}"},
	fault.StartTimeout:      {"mayfly logs {name}, or mayfly stop {name}"},
	fault.StartAbandoned:    {"mayfly start {name}"},
	fault.TrustUnreadable:   {"rm {file}"},
	fault.WorkspaceUnusable: {"cd to a project's directory, or --workspace DIR"},
	fault.CloneTargetLive:   {"mayfly stop {name}"},
	fault.DiskFull:          {"mayfly gc and mayfly image prune make room"},
	fault.ShareMissing:      {"mkdir -p {path|sh}"},
	fault.DotfilesSecret:    {"name the file in {file}, or take the secret out of it"},
	fault.SessionNone:       {"mayfly agent {name}"},
	fault.SessionAmbiguous:  {"mayfly attach {name} {session}"},
	fault.AgentNone:         {"mayfly run --keep --profile {agent}"},
	fault.AgentAmbiguous:    {"mayfly agent {name} {agent}"},
	fault.AgentMissing:      {"mayfly run --keep --profile {agent}"},
	fault.TranscriptsNone:   {"mayfly transcripts ls"},
	fault.AuditMissing:      {"mayfly ls"},
	fault.AuditChanged:      {"somebody changed {file}"},
	fault.FileMissing:       {"mayfly ls"},
	fault.FileChanged:       {"diff {file} {kept}"},
	fault.FileUnfit:         {"mayfly edit {machine}, and in [network]: {line}"},
	fault.RulePattern:       {"mayfly edit {machine}"},
	fault.MachineFileless:   {"mayfly policy {name} allow {rule}, and --allow {rule} the next time, or in [network] of a file: allow = [\"{rule}\"]"},
	fault.ExportNothing:     {"mayfly new NAME"},
	fault.SetupMissing:      {"mayfly export -o {file|sh} writes one, where the machines are"},
	fault.SetupInvalid:      {"mayfly export -o FILE writes one, where the machines are"},
	fault.SetupDirectory:    {"mayfly init --from {file}"},
	fault.CurlMissing:       {"install curl, or get the file and: mayfly init --from FILE"},
	fault.CopyUnnamed:       {"mayfly cp {name}:PATH {target}"},

	fault.SourceIsAnOption:      {"./{location}"},
	fault.SourceInsecure:        {"{better}"},
	fault.BundlePathForeign:     {"--map {path}=DIRECTORY"},
	fault.BundlePathHidden:      {"--map {path}={path} if you want that"},
	fault.BundlePathRelative:    {"--base DIRECTORY"},
	fault.BundleSecretCommand:   {"write it in your own config.toml, in [secrets.{secret}]"},
	fault.BundleProfileReserved: {"give the profile another name, and export again"},
	fault.BundleProfileDiffers:  {"rename one of the two"},
	fault.BundleMachineDiffers:  {"mayfly inspect {machine}"},

	fault.BootTimeout:          {"is the host very busy? try --boot-timeout with more, or mayfly doctor"},
	fault.ShareServerFailed:    {`mayfly doctor, or workspace.mode = "copy"`},
	fault.BridgeAddressForeign: {"network.address in {network}"},
	fault.WorkspaceCopyDamaged: {"mayfly reset {name}"},
	fault.WorkspaceCopyDiffers: {"mayfly reset {name}, which wipes it"},
}

// For returns the hint for a failure with a code, or "".
func For(code fault.Code, args fault.Args) string {
	for _, template := range next[code] {
		if h, ok := fill(template, args); ok {
			return h
		}
	}
	return ""
}

// fill puts arguments into a template. It reports false if one is not there.
func fill(template string, args fault.Args) (string, bool) {
	var b strings.Builder
	for text, arg := range pieces(template) {
		b.WriteString(text)
		if arg == "" {
			continue
		}
		arg, quoted := strings.CutSuffix(arg, "|sh")
		value := args[arg]
		if value == "" {
			return "", false
		}
		if quoted {
			value = shellquote.Word(value)
		}
		b.WriteString(value)
	}
	return b.String(), true
}

// pieces yields the plain texts of a template, each with the name of the
// argument that follows it; the last has none.
func pieces(template string) iter.Seq2[string, string] {
	return func(yield func(text, arg string) bool) {
		for {
			text, rest, ok := strings.Cut(template, "{")
			arg, after, _ := strings.Cut(rest, "}")
			if !yield(text, arg) || !ok {
				return
			}
			template = after
		}
	}
}
