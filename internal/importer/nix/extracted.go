package nix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// maxValues bounds the values of what Nix extracts.
const maxValues = 200_000

// tag marks the sets that extract.nix makes of what JSON cannot say; the attribute name
// has the rest.
const tag = "_mayfly"

// parseExtracted parses what extract.nix makes: a module that sets microvm.vms, with
// the options of each machine as values.
func parseExtracted(data []byte) (*attrs, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("what nix eval says: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("what nix eval says goes on after its end")
	}
	left := maxValues
	v, err := fromJSON(all, &left, 0)
	if err != nil {
		return nil, fmt.Errorf("what nix eval says: %w", err)
	}
	set, ok := v.(*attrs)
	if !ok {
		return nil, fmt.Errorf("what nix eval says is %s", typeName(v))
	}
	return set, nil
}

// fromJSON makes a value of one of package json. An attribute that is null is left out:
// such an option is not set.
func fromJSON(v any, left *int, depth int) (value, error) {
	if *left--; *left < 0 || depth > maxNesting {
		return nil, errLimit
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		return text(v), nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case []any:
		out := &list{}
		for _, x := range v {
			one, err := fromJSON(x, left, depth+1)
			if err != nil {
				return nil, err
			}
			out.elements = append(out.elements, ready(one))
		}
		return out, nil
	case map[string]any:
		if o := tagged(v); o != nil {
			return o, nil
		}
		out := &attrs{make(map[string]*thunk, len(v))}
		for name, x := range v {
			if x == nil {
				continue
			}
			one, err := fromJSON(x, left, depth+1)
			if err != nil {
				return nil, err
			}
			out.fields[name] = ready(one)
		}
		return out, nil
	}
	return null{}, nil
}

// tagged returns what a set with a tag stands for, or nil for one without.
func tagged(v map[string]any) *opaque {
	name, ok := v["name"].(string)
	switch {
	case !ok || len(v) != 2:
	case v[tag] == "package":
		return &opaque{label: label(name), attr: label(attributeOf(name))}
	case v[tag] == "unknown":
		return &opaque{label: label(name)}
	}
	return nil
}

// attributeOf returns the attribute of nixpkgs that a package with that pname has, where
// the two differ for packages that we know.
func attributeOf(pname string) string {
	switch pname {
	case "bash-interactive":
		return "bash"
	case "bind":
		return "dnsutils"
	case "du-dust":
		return "dust"
	case "nodejs-slim":
		return "nodejs"
	case "openjdk":
		return "jdk"
	}
	for _, suffix := range []string{"-wrapper", "-wrapped", "-with-packages"} {
		if base, ok := strings.CutSuffix(pname, suffix); ok {
			return base
		}
	}
	return pname
}

// importExtracted imports the machines that Nix found. What else the files in fsys set,
// and mayfly has no counterpart for, is found by our own evaluator, without places
// that are not in fsys.
func importExtracted(fsys fs.FS, data []byte) ([]Machine, []Note, error) {
	vms, err := parseExtracted(data)
	if err != nil {
		return nil, nil, err
	}
	ev := newEvaluator(fsys)
	ev.picked = true
	machines, err := ev.machines([]*thunk{ready(vms)})
	if err != nil {
		return nil, nil, err
	}
	if len(machines) == 0 {
		return nil, nil, fmt.Errorf("%w in nixosConfigurations", ErrNone)
	}
	for _, n := range restNotes(fsys, machines) {
		if len(ev.notes) < maxNotes {
			ev.notes = append(ev.notes, n)
		}
	}
	return machines, ev.sortedNotes(), nil
}

// restNotes notes what the files in fsys set for machines and no machine's file has.
func restNotes(fsys fs.FS, machines []Machine) []Note {
	ev := newEvaluator(fsys)
	files, err := findFiles(fsys)
	if err != nil {
		return []Note{{Kind: Unknown, Text: printable("what else is set is not listed: " + err.Error())}}
	}
	host := ev.host(ev.imported(files))
	var notes []Note
	for _, m := range machines {
		ev.machine = m.Name
		i, err := ev.importer(host, m.Name)
		ev.notes = nil // of what Nix has evaluated meanwhile
		if err == nil && i != nil {
			i.findUser()
			ev.notes = nil
			i.reportRest()
			err = i.firstError(host)
		}
		notes = append(notes, ev.notes...)
		if err != nil || i == nil {
			notes = append(notes, Note{Machine: m.Name, Kind: Unknown, Text: "what else it sets is not listed: only Nix can read where it is defined"})
		}
	}
	return notes
}
