package nix

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
)

// option is an option of NixOS: it has a value, or is not set, or Nix could not say.
type option[T any] struct {
	value   T
	set     bool
	unknown string // not "": why there is no value
}

// UnmarshalJSON takes a value, null, or what extract.nix puts in place of a value. What
// is of another type than expected is unknown: there may be modules of any kind.
func (o *option[T]) UnmarshalJSON(data []byte) error {
	*o = option[T]{}
	if string(data) == "null" {
		return nil
	}
	var tagged struct {
		Tag  string `json:"_mayfly"`
		Name string
	}
	if bytes.HasPrefix(data, []byte("{")) && json.Unmarshal(data, &tagged) == nil && tagged.Tag == "unknown" {
		o.unknown = cmp.Or(tagged.Name, "without a reason")
		return nil
	}
	if err := json.Unmarshal(data, &o.value); err != nil {
		*o = option[T]{unknown: "of another type than expected"}
		return nil
	}
	o.set = true
	return nil
}

// take returns an option's value, if it is known. Otherwise there is a note.
func take[T any](m *importer, name string, o option[T]) (T, bool) {
	if o.unknown != "" {
		m.note(Unknown, "%s is %s", name, quote(o.unknown))
	}
	return o.value, o.set
}

// words is a list of strings, of which one may stand alone.
type words []string

// UnmarshalJSON takes a string or a list.
func (w *words) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		*w = make(words, 1)
		return json.Unmarshal(data, &(*w)[0])
	}
	return json.Unmarshal(data, (*[]string)(w))
}

// These are what extract.nix says of microvm.vms.NAME. It leaves out what is not set.
type (
	vm struct {
		Autostart option[bool]
		Config    option[guest]
	}

	guest struct {
		Networking struct {
			HostName       option[string]
			Interfaces     option[map[string]netInterface]
			DefaultGateway option[string]
		}
		Systemd struct {
			Network struct{ Networks option[map[string]network] }
		}
		Microvm struct {
			VCPU, Mem  option[int]
			Interfaces option[[]card]
			Volumes    option[[]volume]
			Shares     option[[]share]
		}
		Environment struct {
			SystemPackages                             option[[]option[nixPackage]]
			Variables, SessionVariables                option[map[string]string]
			ExtraInit, ShellInit, InteractiveShellInit option[string]
		}
		Programs map[string]program
		Users    struct{ Users map[string]option[user] }
		Homes    struct{ Users map[string]home } `json:"home-manager"`
	}

	netInterface struct {
		IPv4 struct {
			Addresses []struct {
				Address      string
				PrefixLength int
			}
		}
	}

	network struct {
		Address       words
		Addresses     []struct{ Address string }
		Gateway       words
		Routes        []struct{ Gateway string }
		NetworkConfig struct{ Address, Gateway words }
	}

	card struct{ Type, ID, MAC string }

	volume struct {
		MountPoint, Image string
		Size              int // MiB; 0: not known
	}

	share struct {
		Tag, Source, MountPoint string
		ReadOnly                bool
	}

	program struct {
		Enable option[bool]
		Inits  map[string]option[string] // of a shell
	}

	user struct {
		Home     string
		Shell    option[nixPackage]
		Packages []option[nixPackage]
	}

	home struct {
		Home struct {
			HomeDirectory    option[string]
			Packages         option[[]option[nixPackage]]
			SessionVariables option[map[string]string]
		}
		Programs map[string]program
	}

	nixPackage struct {
		Name      string
		Elsewhere bool   // of another nixpkgs than the machine's
		File      string // that names it then; "": outside of the flake
	}

	// others are the options that a machine sets beside those.
	others struct{ NixOS, Home []setting }

	setting struct{ Name, File string }
)

// evaluated is what Nix says, as JSON.
type evaluated struct {
	machines []byte
	others   []byte
	err      error // why there are no others
}

func (e evaluated) parseMachines() (map[string]vm, error) {
	var all struct{ Microvm struct{ VMs map[string]vm } }
	if err := json.Unmarshal(e.machines, &all); err != nil {
		return nil, fmt.Errorf("what nix eval says: %w", err)
	}
	return all.Microvm.VMs, nil
}

// parseOthers returns the others by the names of machines.
func (e evaluated) parseOthers() (map[string]others, error) {
	var all map[string]others
	if e.err != nil {
		return nil, e.err
	}
	return all, json.Unmarshal(e.others, &all)
}
