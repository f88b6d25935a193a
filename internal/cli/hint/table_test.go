package hint

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Hints are what users and scripts read: each as it is printed.
func TestTable(t *testing.T) {
	tests := []struct {
		code fault.Code
		args fault.Args
		want string
	}{
		{fault.NameTaken, fault.Args{"name": "web"}, "mayfly ls, or mayfly rm web"},
		{fault.MachineNotFound, fault.Args{"name": "web"}, "mayfly ls"},
		{fault.MachineUndefined, fault.Args{"name": "web"}, "mayfly ls, or mayfly new NAME"},
		{fault.MachineDefined, fault.Args{"name": "web", "file": "/f"}, "mayfly inspect web, or another name"},
		{fault.MachineDataLeft, fault.Args{"name": "web", "dir": "/d"}, "mayfly rm web removes it"},
		{fault.MachineVersion, fault.Args{"name": "web"}, "mayfly rm web, or use the mayfly that started it"},
		{fault.MachineVersion, fault.Args{"name": "web", "defined": "web"}, "mayfly restart web"},
		{fault.MachineApplying, fault.Args{"name": "web", "pid": "7"}, "wait for process 7 to end, then mayfly rm web"},
		{fault.MachineForbidden, fault.Args{"name": "web"}, "mayfly rm web, or use the mayfly that started it, outside of a sandbox"},
		{fault.MachineStarting, nil, "mayfly ls"},
		{fault.MachinePaused, fault.Args{"name": "web", "dir": "/d", "free": "0"}, "mayfly gc makes room; mayfly rm web ends the machine"},
		{fault.MachineSilent, fault.Args{"name": "web", "seconds": "120"}, "mayfly ls says how it does; try again"},
		{fault.MachineUnreachable, fault.Args{"name": "web", "reason": "r"}, "mayfly rm web"},
		{fault.MachineUnreachable, fault.Args{"name": "web", "reason": "r", "defined": "web"}, "mayfly restart web"},
		{fault.MachineKilled, nil, "give the machine less with --memory, or run fewer machines at once"},
		{fault.VolumeShrinks, fault.Args{"machine": "web", "volume": "v", "mib": "64"}, `size = "64MiB" in [[volume]], or mayfly reset web, which wipes it`},
		{fault.MachineNameInvalid, fault.Args{"name": "My_Box", "better": "my-box"}, "--name my-box"},
		{fault.QEMUMissing, nil, "mayfly doctor --fix"},
		{fault.QEMUUnsafe, fault.Args{"path": "/q", "version": "7.2.0"}, "mayfly doctor --fix, or --allow-old-qemu if wrong results do not matter"},
		{fault.QEMUWithoutNetwork, fault.Args{"path": "/q", "version": "7.1.0"}, "mayfly doctor --fix, or --network none"},
		{fault.KVMMissing, nil, "--accel tcg (slower)"},
		{fault.KVMForbidden, fault.Args{"group": "kvm"}, "sudo usermod -aG kvm $USER, then log in again; or --accel tcg (slower)"},
		{fault.KVMForbidden, nil, "sudo chmod 666 /dev/kvm; or --accel tcg (slower)"},
		{fault.KVMUntested, nil, "mayfly doctor --refresh"},
		{fault.KVMUnusable, nil, "--accel tcg (slower), or mayfly doctor --refresh to try it again"},
		{fault.MemoryTooLarge, fault.Args{"mib": "9000", "host-mib": "8000", "fits-mib": "4000"}, "--memory 4000MiB"},
		{fault.NothingToLearn, fault.Args{"mode": "none"}, "--network user"},
		{fault.AddressMissing, nil, `mayfly new NAME --network bridge takes a free one; or address = "192.168.83.6/24" in [network] of the machine's file`},
		{fault.AppArmorProgram, fault.Args{"program": "/home/me/mayfly", "reason": "r"}, "sudo install -m 755 /home/me/mayfly /usr/local/bin/mayfly && sudo /usr/local/bin/mayfly doctor --fix"},
		{fault.AppArmorProgram, fault.Args{"reason": "r"}, "install mayfly as root in /usr/local/bin, and run that with doctor --fix"},
		{fault.AppArmorOld, nil, "update the package apparmor"},
		{fault.AppArmorForeign, fault.Args{"file": "/f"}, "look at /f, and move it away if nothing needs it"},
		{fault.UserNamespacesMissing, nil, "mayfly doctor says what is in the way"},
		{fault.ShareRefused, fault.Args{"dir": "/d"}, "share a directory that is for machines only"},
		{fault.SharePathInvalid, fault.Args{"dir": "/d", "path": "/run", "better": "/srv/d"}, "another path in the machine, such as /srv/d"},
		{fault.WorkspaceRefused, fault.Args{"dir": "/etc"}, "cd to the project's own directory, or --workspace DIR"},
		{fault.PlanVersion, fault.Args{"version": "1", "reads": "2"}, "mayfly restart the machine, or use the mayfly that started it"},
		{fault.ConfigInvalid, fault.Args{"file": "/a b/mayfly.toml", "line": "7"}, "$EDITOR +7 '/a b/mayfly.toml'"},
		{fault.WorkspaceMissing, fault.Args{"dir": "/a b"}, "mkdir -p '/a b'"},
		{fault.WorkspaceNotADirectory, fault.Args{"dir": "/f"}, "give the directory that holds it"},
		{fault.WorkspaceUnreadable, fault.Args{"dir": "/d"}, "ls -ld /d"},
		{fault.RebaseConflict, fault.Args{"name": "m"}, "mayfly apply m --branch, then rebase that with git"},
		{fault.WorkspaceFilesUnreadable, fault.Args{"path": "x", "count": "9"}, "leave them out with --exclude PATTERN"},
		{fault.WorkspaceFilesUnreadable, fault.Args{"path": "a b", "count": "1", "pattern1": "/a b"}, "--exclude '/a b'"},
		{fault.WorkspaceFilesUnreadable, fault.Args{"path": "x", "count": "2", "pattern1": "/x", "pattern2": "/y"}, "--exclude /x --exclude /y"},
		{fault.WorkspaceFilesUnreadable, fault.Args{"path": "x", "count": "3", "pattern1": "/x", "pattern2": "/y", "pattern3": "/z"}, "--exclude /x --exclude /y --exclude /z"},
		{fault.UndoNone, fault.Args{"name": "m"}, "mayfly undo --list"},
		{fault.UndoBusy, fault.Args{"name": "m"}, "wait for the other mayfly to end"},
		{fault.WorkspaceTooDeep, fault.Args{"path": "a/b", "limit": "1"}, "leave them out with --exclude PATTERN"},
		{fault.WorkspacePathTooLong, fault.Args{"path": "x"}, "leave it out with --exclude PATTERN"},
		{fault.WorkspaceTooManyFiles, fault.Args{"limit": "1"}, "leave large directories out with --exclude PATTERN"},
		{fault.WorkspaceTooLarge, fault.Args{"bytes": "2", "limit": "1"}, "leave large directories out with --exclude"},
		{fault.NoSpaceForWorkspace, fault.Args{"dir": "/d"}, "mayfly gc, or leave large directories out with --exclude"},
		{fault.ChangesTooLarge, fault.Args{"limit": "1"}, "delete in the machine what is not wanted, and try again"},
		{fault.ChangesMemory, fault.Args{"limit": "1"}, "set review.max_memory in config.toml, such as \"1GiB\"; or delete in the machine what is not wanted, or take what is: mayfly cp NAME:DIRECTORY ."},
		{fault.ChangesTooMany, fault.Args{"limit": "1"}, "delete in the machine what is not wanted, or take what is: mayfly cp NAME:DIRECTORY ."},
		{fault.NoSpaceForCopy, fault.Args{"free": "1"}, "free some disk space, or copy less"},
		{fault.NoSpaceForChanges, fault.Args{"dir": "/d", "bytes": "2", "free": "1"}, "mayfly gc, or free some disk space"},
		{fault.VirtiofsdMissing, nil, "sudo apt install virtiofsd (Debian 13, Ubuntu 24.04), or qemu-system-common (Debian 12, Ubuntu 22.04)"},
		{fault.VirtiofsdUnusable, nil, "sudo apt install virtiofsd (Debian 13, Ubuntu 24.04), or qemu-system-common (Debian 12, Ubuntu 22.04)"},
		{fault.ShareNamespacesRefused, nil, `mayfly doctor, or workspace.mode = "copy"`},
		{fault.KernelTooOld, fault.Args{"needed": "5.12"}, `use Linux 5.12 or newer, or workspace.mode = "copy"`},
		{fault.GitMissing, nil, "install git: sudo apt install git"},
		{fault.FlakeMissing, fault.Args{"dir": "/x"}, "mayfly import nix DIRECTORY, which has a flake.nix"},
		{fault.NixMissing, nil, "install Nix: sudo apt install nix-bin"},
		{fault.RepositoryInvalid, fault.Args{"url": "x"}, "https://HOST/PATH, ssh://HOST/PATH, USER@HOST:PATH or a directory, and @REF behind it"},
		{fault.ReferenceInvalid, fault.Args{"ref": ".."}, "git ls-remote URL lists the names that there are"},
		{fault.ReferenceEmpty, fault.Args{"url": "x@"}, "leave the @ out for the default branch"},
		{fault.CloneTargetExists, fault.Args{"url": "u", "dir": "/d"}, "choose another directory, or remove that one"},
		{fault.RepositoryDirectoryMissing, fault.Args{"path": "x.example/y", "better": "https://x.example/y"}, "https://x.example/y"},
		{fault.RepositoryDirectoryMissing, fault.Args{"path": "y"}, "a directory, or a URL such as https://HOST/PATH"},
		{fault.RepositoryEmpty, fault.Args{"url": "u"}, "push a commit to it first"},
		{fault.ReferenceMissing, fault.Args{"url": "u", "ref": "mian", "near": "main, man"}, "there is main, man"},
		{fault.ReferenceMissing, fault.Args{"url": "u", "ref": "x"}, "git ls-remote URL lists the names that there are"},
		{fault.RepositoryLoginRefused, fault.Args{"url": "u"}, "set up a credential helper (git help credentials), or use git@HOST:PATH"},
		{fault.RepositoryNotFound, fault.Args{"url": "u"}, "check the URL; ssh -T git@HOST says who you are there"},
		{fault.RepositoryHostUnknown, fault.Args{"url": "u"}, "check the name of the host, and the network"},
		{fault.RepositoryOfAnotherUser, fault.Args{"url": "u"}, "clone it as that user, or git config --global --add safe.directory PATH"},
		{fault.RepositoryURLRewritten, fault.Args{"url": "u"}, "git config --get-regexp insteadof"},
		{fault.SSHHostKeyUnknown, fault.Args{"url": "u"}, "ssh HOST, to see its key and to accept it"},
		{fault.SSHKeyRefused, fault.Args{"url": "u"}, "ssh-add, or use a key that the host knows"},
		{fault.ImageNotBuilt, nil, "mayfly image build"},
		{fault.ImageDamaged, fault.Args{"file": "/f"}, "mayfly image check --repair"},
		{fault.ImageBusy, nil, "try again when it is built"},
		{fault.ImageKeyUnclear, fault.Args{"key": "ab", "found": "2"}, "mayfly image ls"},
		{fault.ImageBaseUnknown, fault.Args{"base": "x"}, `base = "debian:trixie"`},
		{fault.ImageInitUnknown, fault.Args{"init": "x"}, `write init = "systemd", or nothing, in [image]`},
		{fault.NoSpaceForImage, fault.Args{"dir": "/d", "bytes": "2", "free": "1"}, "mayfly image prune, or free some space in another way"},
		{fault.PackageNameInvalid, fault.Args{"name": "X"}, "package names consist of lower-case letters, digits and + - ."},
		{fault.PackageUnknown, fault.Args{"suite": "trixie", "name": "x"}, "look for the right name with: apt-cache search x"},
		{fault.MmdebstrapMissing, nil, "sudo apt install mmdebstrap"},
		{fault.UIDMapMissing, nil, "sudo apt install uidmap"},
		{fault.E2fsprogsMissing, nil, "sudo apt install e2fsprogs"},
		{fault.SubordinateIDsMissing, fault.Args{"user": "ada"}, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada"},
		{fault.RootNotMounted, nil, "outside of the chroot: mount --bind DIRECTORY DIRECTORY, then chroot DIRECTORY"},
		{fault.BuildDirectoryOpen, fault.Args{"dir": "/d"}, "give that file system access control lists, or build as root, or use a proxy without a password"},
		{fault.BuildDirectoryMounted, fault.Args{"dir": "/d"}, "sudo umount --recursive /d"},
		{fault.AgentsLockInvalid, fault.Args{"file": "/f"}, "correct or remove /f"},
		{fault.AgentNotLocked, fault.Args{"agent": "x", "known": "claude, codex"}, "one of: claude, codex"},
		{fault.AgentArchiveWrong, fault.Args{"agent": "a", "package": "@x/y"}, "do not use it; compare with: npm view @x/y dist.integrity"},
		{fault.AgentsWithoutNPM, nil, "install npm (sudo apt install npm), or leave the agents out of the image"},
		{fault.NPMMissing, nil, "install npm (sudo apt install npm)"},
		{fault.BridgeMissing, fault.Args{"bridge": "mayfly0"}, "sudo mayfly net up"},
		{fault.BridgeWithoutAddress, fault.Args{"bridge": "mayfly0"}, "sudo mayfly net up"},
		{fault.BridgeWithoutRules, fault.Args{"bridge": "mayfly0"}, "sudo mayfly net up"},
		{fault.BridgeWithoutPorts, fault.Args{"bridge": "mayfly0", "user": "ada"}, "sudo mayfly net up --user ada"},
		{fault.BridgeFull, fault.Args{"bridge": "mayfly0", "ports": "2"}, "mayfly ls, and mayfly rm NAME"},
		{fault.BridgeNeedsRoot, fault.Args{"bridge": "mayfly0", "operation": "down"}, "sudo mayfly net down"},
		{fault.BridgeNameTaken, fault.Args{"interface": "mayfly0"}, "ip link show mayfly0"},
		{fault.BridgeNetworkTaken, fault.Args{"network": "192.168.83.0/24", "interface": "eth0"}, "sudo mayfly net up --address 10.83.0.1/24, or another network that is free"},
		{fault.BridgeRecordVersion, fault.Args{"file": "/f", "version": "2"}, "use the mayfly that made it"},
		{fault.TapDeviceForbidden, fault.Args{"device": "/dev/net/tun"}, "sudo chmod 0666 /dev/net/tun"},
		{fault.QuestionNone, fault.Args{"host": "a.example"}, "mayfly policy NAME allow a.example lets later ones pass, too"},
		{fault.PortTaken, fault.Args{"address": "127.0.0.1", "port": "8080", "guest-port": "80"}, "choose another: 127.0.0.1:0:80 takes any that is free"},
		{fault.PortPrivileged, fault.Args{"port": "80"}, "ports below 1024 are root's; choose a higher one"},
		{fault.DirectoryShared, fault.Args{"path": "/d"}, "chmod go-w /d, if it is yours; else set the XDG_ variables to directories of your own"},
		{fault.VariableUnset, fault.Args{"variable": "TOKEN"}, "export TOKEN=…"},
		{fault.DotfilesClash, fault.Args{"target": ".x", "first": "a", "second": "b"}, "name one of them in .mayflyignore"},
		{fault.DotfilesTooLarge, fault.Args{"limit": "1"}, "name what is large in .mayflyignore"},
		{fault.DotfilesTooMany, fault.Args{"limit": "1"}, "use a directory that holds only dotfiles"},
		{fault.DotfilesUnscannable, fault.Args{"limit": "1"}, "use a directory that holds only dotfiles"},
		{fault.DotfileUnreadable, fault.Args{"path": "x"}, "chmod u+r, or move it elsewhere"},
		{fault.IgnorePatternInvalid, fault.Args{"file": ".mayflyignore", "line": "3"}, "use names and paths, with *, ? and [a-z]"},
		{fault.DebianKeysMissing, nil, "sudo apt-get install debian-archive-keyring"},
		{fault.DebianKeysOld, fault.Args{"suite": "sid"}, "the package debian-archive-keyring is too old for sid; install that of a newer release of the distribution"},
		{fault.QEMUNotInstallable, fault.Args{"os": "Fedora", "install": "sudo dnf install qemu"}, "sudo dnf install qemu"},
		{fault.QEMULibrariesMissing, nil, "sudo apt-get install --no-install-recommends qemu-system-x86"},
		{fault.GuestProgramMissing, nil, "make build"},
		{fault.SkillAgentUnknown, fault.Args{"agent": "x", "known": "claude, codex"}, "one of claude, codex"},
		{fault.SSHConfigUnfit, fault.Args{"file": "/f"}, "mayfly ssh-config prints what belongs into ~/.ssh/config"},
		{fault.SkillChanged, fault.Args{"file": "/f"}, "mayfly skill install --force replaces it"},
		{fault.AgentUnknown, fault.Args{"agent": "x", "known": "claude, codex", "first": "claude"}, "mayfly agent NAME claude"},
		{fault.LoginMissing, fault.Args{"agent": "claude"}, "mayfly login claude"},
		{fault.LoginInvalid, fault.Args{"agent": "claude"}, "mayfly login claude keeps it anew"},
		{fault.LoginExposed, fault.Args{"file": "/a b"}, "chmod 600 '/a b'"},
		{fault.LoginImport, fault.Args{"agent": "claude"}, "log in with the agent on this computer first, or keep a key: mayfly login claude"},
		{fault.LoginInSecret, fault.Args{"secret": "T"}, "mayfly login ls says which log-ins machines get by themselves"},
		{fault.NameDefined, fault.Args{"name": "web"}, "mayfly start web, or another --name"},
		{fault.NameOfRun, fault.Args{"name": "web"}, "mayfly rm web, or another name"},
		{fault.MachineDiffers, fault.Args{"name": "web"}, "mayfly inspect web"},
		{fault.MachineNotRunning, fault.Args{"name": "web"}, "mayfly ls"},
		{fault.MachineStopped, fault.Args{"name": "web"}, "mayfly start web"},
		{fault.MachineForeign, fault.Args{"name": "web"}, "mayfly stop web"},
		{fault.MachineUnkept, fault.Args{"name": "web"}, "mayfly rm web"},
		{fault.MachineStuck, fault.Args{"name": "web"}, "mayfly rm --force web"},
		{fault.StartTimeout, fault.Args{"name": "web"}, "mayfly logs web, or mayfly stop web"},
		{fault.StartAbandoned, fault.Args{"name": "web"}, "mayfly start web"},
		{fault.TrustUnreadable, fault.Args{"file": "/f"}, "rm /f"},
		{fault.WorkspaceUnusable, nil, "cd to a project's directory, or --workspace DIR"},
		{fault.CloneTargetLive, fault.Args{"name": "web", "dir": "/d"}, "mayfly stop web"},
		{fault.DiskFull, fault.Args{"dir": "/d"}, "mayfly gc and mayfly image prune make room"},
		{fault.ShareMissing, fault.Args{"path": "/a b"}, "mkdir -p '/a b'"},
		{fault.DotfilesSecret, fault.Args{"file": "/f"}, "name the file in /f, or take the secret out of it"},
		{fault.SessionNone, fault.Args{"name": "web"}, "mayfly agent web"},
		{fault.SessionAmbiguous, fault.Args{"name": "web", "session": "claude"}, "mayfly attach web claude"},
		{fault.AgentNone, fault.Args{"agent": "codex"}, "mayfly run --keep --profile codex"},
		{fault.AgentAmbiguous, fault.Args{"name": "web", "agent": "codex"}, "mayfly agent web codex"},
		{fault.AgentMissing, fault.Args{"agent": "codex"}, "mayfly run --keep --profile codex"},
		{fault.TranscriptsNone, fault.Args{"name": "m"}, "mayfly transcripts ls"},
		{fault.AuditMissing, fault.Args{"name": "web"}, "mayfly ls"},
		{fault.AuditChanged, fault.Args{"file": "/f"}, "somebody changed /f"},
		{fault.FileMissing, fault.Args{"file": "/f"}, "mayfly ls"},
		{fault.FileChanged, fault.Args{"file": "/f", "kept": "/f.edited"}, "diff /f /f.edited"},
		{fault.FileUnfit, fault.Args{"file": "/f", "machine": "m", "line": `allow = ["a.example"]`}, `mayfly edit m, and in [network]: allow = ["a.example"]`},
		{fault.RulePattern, fault.Args{"rule": "*.a.example", "machine": "m"}, "mayfly edit m"},
		{fault.MachineFileless, fault.Args{"name": "run-1", "rule": "a.example"}, `mayfly policy run-1 allow a.example, and --allow a.example the next time, or in [network] of a file: allow = ["a.example"]`},
		{fault.ExportNothing, nil, "mayfly new NAME"},
		{fault.SetupMissing, fault.Args{"file": "/a b"}, "mayfly export -o '/a b' writes one, where the machines are"},
		{fault.SetupInvalid, fault.Args{"location": "/f"}, "mayfly export -o FILE writes one, where the machines are"},
		{fault.SetupDirectory, fault.Args{"file": "/f"}, "mayfly init --from /f"},
		{fault.CurlMissing, nil, "install curl, or get the file and: mayfly init --from FILE"},
		{fault.CopyUnnamed, fault.Args{"name": "web", "target": "."}, "mayfly cp web:PATH ."},
		{fault.SourceIsAnOption, fault.Args{"location": "-x"}, "./-x"},
		{fault.SourceInsecure, fault.Args{"location": "http://x.example/f", "better": "https://x.example/f"}, "https://x.example/f"},
		{fault.BundlePathForeign, fault.Args{"path": "/home/bob/x"}, "--map /home/bob/x=DIRECTORY"},
		{fault.BundlePathHidden, fault.Args{"path": "~/.ssh"}, "--map ~/.ssh=~/.ssh if you want that"},
		{fault.BundlePathRelative, fault.Args{"path": "x"}, "--base DIRECTORY"},
		{fault.BundleSecretCommand, fault.Args{"secret": "X"}, "write it in your own config.toml, in [secrets.X]"},
		{fault.BundleProfileReserved, fault.Args{"profile": "go"}, "give the profile another name, and export again"},
		{fault.BundleProfileDiffers, fault.Args{"profile": "x"}, "rename one of the two"},
		{fault.BundleMachineDiffers, fault.Args{"machine": "web"}, "mayfly inspect web"},
		{fault.BootTimeout, fault.Args{"seconds": "60"}, "is the host very busy? try --boot-timeout with more, or mayfly doctor"},
		{fault.ShareServerFailed, fault.Args{"dir": "/d"}, `mayfly doctor, or workspace.mode = "copy"`},
		{fault.BridgeAddressForeign, fault.Args{"address": "10.0.0.1/24", "bridge": "mayfly0", "network": "192.168.83.0/24"}, "network.address in 192.168.83.0/24"},
		{fault.WorkspaceCopyDamaged, fault.Args{"name": "web"}, "mayfly reset web"},
		{fault.WorkspaceCopyDiffers, fault.Args{"name": "web", "copy": "/a", "workspace": "/b"}, "mayfly reset web, which wipes it"},
	}
	untested := maps.Clone(next)
	for _, tt := range tests {
		delete(untested, tt.code)
		if got := Of(fault.New(tt.code, tt.args, "failed")); got != tt.want {
			t.Errorf("the hint for %s %v is %q; want %q", tt.code, tt.args, got, tt.want)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(untested)) {
		t.Errorf("no case for %s", code)
	}
}

// A hint can only speak of what its failure tells.
func TestTemplates(t *testing.T) {
	declared := make(map[fault.Code][]string)
	for _, k := range fault.Kinds() {
		declared[k.Code] = k.Args
	}
	for code, templates := range next {
		args, ok := declared[code]
		if !ok {
			t.Errorf("there is no code %s", code)
		}
		for _, template := range templates {
			for _, arg := range pieces(template) {
				if arg = strings.TrimSuffix(arg, "|sh"); arg != "" && !slices.Contains(args, arg) {
					t.Errorf("%s: %q has the argument %q; declared are %q", code, template, arg, args)
				}
			}
		}
	}
}
