// Package cli is the command line, a front end of package mayfly: it turns
// arguments into calls, asks, and is the only package that prints. Package words has
// what it says, package hint what to type next.
//
// What was asked for goes to standard output, the rest to standard error.
// Errors end with a hint, the next command to type. There is one file for each
// command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// Streams are the standard streams of the process.
type Streams struct {
	In  *os.File
	Out *os.File
	Err *os.File
}

// gcPercent is the garbage collector's target, runtime/debug.SetGCPercent. A start or an
// image's build needs some ten MiB for a moment: collecting it four times less often costs
// little and saves a third of the CPU time of packing.
const gcPercent = 400

// memoryLimit is from where the collector spends time to save memory, as for a machine with
// very many changes, runtime/debug.SetMemoryLimit.
const memoryLimit = 80 << 20

// saveMemory is for what may hold very many changes: by gcPercent alone they would take five
// times their size, and memoryLimit does not hold where the collector gets no CPU for it.
func saveMemory() { debug.SetGCPercent(listGCPercent) }

// listGCPercent is the collector's target from then on.
const listGCPercent = 50

// Main runs the command line args and returns the exit code.
func Main(version string, args []string, streams Streams) int {
	// What the caller left open, a pipe of its own say, is not for machines:
	// they would hold it open as long as they live.
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	a := &app{Streams: streams, version: version, getenv: os.Getenv}
	return a.execute(args)
}

// execute runs the command line args and returns the exit code. An app is for one of them.
func (a *app) execute(args []string) int {
	a.signals = terminal.NewSignals()
	defer a.signals.Stop()
	defer func() {
		if a.progress != nil {
			a.progress.Stop()
		}
	}()

	root := a.rootCommand()
	checkDefaults(root)
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	cmd, err := root.ExecuteContextC(a.signals.Context())
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // all has been said
	}
	err = a.nearName(a.interrupted(err))
	a.printError(err, a.json)
	if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, mayfly.ErrInput) {
		if hint.Of(err) == "" && cmd != nil {
			fmt.Fprintf(a.Err, "mayfly: hint: %s --help\n", cmd.CommandPath())
		}
		return exitUsage
	}
	if run, ok := errors.AsType[runError](err); ok {
		return run.code
	}
	return exitError
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mayfly",
		Short: "Run coding agents in disposable micro-VMs",
		Long: `mayfly runs coding agents, and any code that you do not trust, in disposable
micro-VMs. A machine works on a private copy of a directory. You review what it
changed and apply what you want. Then the machine is discarded.`,
		Example: `  mayfly run -- claude --dangerously-skip-permissions
  mayfly run -- sh -c 'make && make test'
  mayfly doctor`,
		Version:                    a.version,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		PersistentPreRunE: a.open,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetVersionTemplate(a.versionLine() + "\n")
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "print each step and how long it takes")
	root.AddGroup(
		&cobra.Group{ID: "machines", Title: "Machines:"},
		&cobra.Group{ID: "host", Title: "Host:"},
	)
	machines := []*cobra.Command{
		a.runCommand(), a.newCommand(), a.checkCommand(), a.editCommand(),
		a.startCommand(), a.stopCommand(), a.restartCommand(), a.resetCommand(),
		a.agentCommand(), a.taskCommand(), a.attachCommand(), a.execCommand(), a.shellCommand(), a.sshCommand(), a.codeCommand(), a.cpCommand(), a.pasteCommand(),
		a.diffCommand(), a.applyCommand(), a.undoCommand(), a.syncCommand(),
		a.lsCommand(), a.inspectCommand(), a.topCommand(), a.logsCommand(), a.eventsCommand(), a.watchCommand(), a.rmCommand(),
		a.exportCommand(), a.initCommand(), a.importCommand(),
		a.policyCommand(), a.auditCommand(), a.portCommand(), a.transcriptsCommand(), a.mcpCommand(), a.acpCommand(),
	}
	machines = append(machines, a.agentCommands()...)
	net, systemd, skill, version := a.netCommand(), a.systemdCommand(), a.skillCommand(), a.versionCommand()
	host := []*cobra.Command{
		a.loginCommand(), a.imageCommand(), a.updateCommand(), a.gcCommand(), net, a.sshConfigCommand(), systemd, a.doctorCommand(), skill, version,
	}
	own := append(a.internalCommands(), a.attackCommand(), a.manCommand())
	withoutClient(net, systemd, skill, version)
	withoutClient(own...)
	for _, c := range machines {
		c.GroupID = "machines"
	}
	for _, c := range host {
		c.GroupID = "host"
	}
	root.AddCommand(slices.Concat(machines, host, own, []*cobra.Command{a.sshProxyCommand()})...)
	root.SetHelpCommandGroupID("host")
	root.SetCompletionCommandGroupID("host")
	return root
}

// checkDefaults has the commands that cobra adds refuse what they do not know, as ours do.
func checkDefaults(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = knownCommand
		case "completion":
			group(c)
		}
	}
}

// group makes cmd one that has only commands of its own, and prints its help.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = unknownCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(commands...)
	return cmd
}

// onFirst is the RunE of a command that does f with its first argument.
func onFirst(f func(ctx context.Context, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return f(cmd.Context(), args[0]) }
}
