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
	}
}
