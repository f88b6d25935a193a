package codingagent

// Contact is what an agent asks of a host while it does one task, with a key, its preset and
// the settings that mayfly gives it.
type Contact struct {
	Host string // or a pattern, of path.Match
	// Tries are how often it asks although it is refused; 0 for a host of its preset.
	Tries int
	// Terminal says that it does so on a terminal only.
	Terminal bool
	Wants    string // what it looks for where it is refused
	Costs    string // what the refusal costs
}

// Measured returns the version of the agent's program that was measured, and its contacts,
// sorted by their hosts. A test has the program do a task in a machine, and compares.
func (a Agent) Measured() (version string, contacts []Contact) { return a.measured, a.contacts }
