package hint

import (
	"iter"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// next is the next command to type after a failure. {name} stands for the
// argument of that name, {name|sh} for it as one word of a shell command.
var next = map[fault.Code]string{
	fault.NameTaken:        "mayfly ls, or mayfly rm {name}",
	fault.MachineNotFound:  "mayfly ls",
	fault.MachineUndefined: "mayfly ls, or mayfly new NAME",
	fault.MachineDefined:   "mayfly inspect {name}, or another name",
	fault.MachineDataLeft:  "mayfly rm {name} removes it",
	fault.VolumeShrinks:    `size = "{mib}MiB" in [[volume]], or mayfly reset {machine}, which wipes it`,

	fault.MachineNameInvalid:    "--name {better}",
	fault.QEMUMissing:           "mayfly doctor --fix",
	fault.QEMUUnsafe:            "mayfly doctor --fix, or --allow-old-qemu if wrong results do not matter",
	fault.QEMUWithoutNetwork:    "mayfly doctor --fix, or --network none",
	fault.KVMMissing:            "--accel tcg (slower)",
	fault.KVMForbidden:          "sudo usermod -aG kvm $USER, then log in again; or --accel tcg (slower)",
	fault.KVMUntested:           "mayfly doctor --refresh",
	fault.KVMUnusable:           "--accel tcg (slower), or mayfly doctor --refresh to try it again",
	fault.MemoryTooLarge:        "--memory {fits-mib}MiB",
	fault.NothingToLearn:        "--network user",
	fault.AddressMissing:        `address = "192.168.83.6/24" in [network]`,
	fault.UserNamespacesMissing: "mayfly doctor says what is in the way",
	fault.ShareRefused:          "share a directory that is for machines only",
	fault.SharePathInvalid:      "another path in the machine, such as {better}",
	fault.WorkspaceRefused:      "cd to the project's own directory, or --workspace DIR",
	fault.PlanVersion:           "mayfly rm the machine and make it again",

	fault.ConfigInvalid: "$EDITOR +{line} {file|sh}",
}

// of returns the hint for a failure, or "": a hint that lacks an argument would
// be a riddle.
func of(e *fault.Error) string {
	var b strings.Builder
	for text, arg := range pieces(next[e.Code]) {
		b.WriteString(text)
		if arg == "" {
			continue
		}
		arg, quoted := strings.CutSuffix(arg, "|sh")
		value := e.Args[arg]
		if value == "" {
			return ""
		}
		if quoted {
			value = shellQuote(value)
		}
		b.WriteString(value)
	}
	return b.String()
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

// shellQuote returns p as one word of a shell command.
func shellQuote(p string) string {
	plain := p != "" && !strings.ContainsFunc(p, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r))
	})
	if plain {
		return p
	}
	return "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
}
