package fault

// Codes of machines and their definitions.
const (
	NameTaken        Code = "name-taken"
	MachineNotFound  Code = "machine-not-found"
	MachineUndefined Code = "machine-undefined"
	MachineDefined   Code = "machine-defined"
	MachineDataLeft  Code = "machine-data-left"
	VolumeShrinks    Code = "volume-shrinks"
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
	ShareRefused          Code = "share-refused"
	SharePathInvalid      Code = "share-path-invalid"
	WorkspaceRefused      Code = "workspace-refused"
	PlanVersion           Code = "plan-version"
)

// Codes of configuration.
const (
	ConfigInvalid Code = "config-invalid"
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

		{MachineNameInvalid, []string{"name", "better"}, "This cannot be the name of a machine; a name like it can."},
		{QEMUMissing, nil, "There is no QEMU that can be used."},
		{QEMUUnsafe, []string{"path", "version"}, "This QEMU emulates a CPU wrongly."},
		{QEMUWithoutNetwork, []string{"path", "version"}, "This QEMU is too old to give a machine a network."},
		{KVMMissing, nil, "The host has no KVM."},
		{KVMForbidden, nil, "The user may not open /dev/kvm."},
		{KVMUntested, nil, "No test guest has run on KVM yet."},
		{KVMUnusable, nil, "The test guest did not run on KVM."},
		{MemoryTooLarge, []string{"mib", "host-mib", "fits-mib"}, "The machine would have more memory than the host."},
		{NothingToLearn, []string{"mode"}, "Rules are learned in the network mode user only."},
		{AddressMissing, nil, "A machine on the bridge needs an address."},
		{UserNamespacesMissing, nil, "Live shares need user namespaces, which the host does not give."},
		{ShareRefused, []string{"dir"}, "This directory must not be live in a machine."},
		{SharePathInvalid, []string{"dir", "path", "better"}, "A live share cannot have this path in the machine."},
		{WorkspaceRefused, []string{"dir"}, "This directory must not be given to a machine."},
		{PlanVersion, []string{"version", "reads"}, "The machine was planned by another version of mayfly."},

		{ConfigInvalid, []string{"file", "line", "key"}, "The configuration is wrong. The arguments are those of the first error in a file."},
	}
}
