package cli

import (
	"os"
	"strconv"

	"github.com/spf13/cobra"
)

// Commands returns the tree of all commands, hidden ones included. It is for
// whoever writes or checks documents; none of it is to be run.
func Commands() *cobra.Command {
	root := (&app{getenv: os.Getenv}).rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// Exit is one of mayfly's exit codes.
type Exit struct{ Code, Meaning string }

// Exits returns all exit codes.
func Exits() []Exit {
	return []Exit{
		{strconv.Itoa(exitOK), "done"},
		{strconv.Itoa(exitError), "an error, or a conflict while changes were applied"},
		{strconv.Itoa(exitUsage), "the arguments, or a configuration file, are wrong"},
		{strconv.Itoa(exitHeld), "changes were held back, because your computer or a build would execute or obey them"},
		{strconv.Itoa(exitMayfly), "mayfly failed while it ran a guest's command"},
		{strconv.Itoa(exitCannot), "the guest's command could not be started"},
		{strconv.Itoa(exitMissing), "the guest's command was not found"},
		{"128+N", "the guest's command was ended by signal N; 130: mayfly was interrupted"},
		{"any other", "the guest's command's own"},
	}
}
