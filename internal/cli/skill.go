package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/skill"
)

func (a *app) skillCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "skill",
		Short: "Teach coding agents to make machines",
		Long: `Teach coding agents to make machines. A skill is a text that an agent reads when
its user asks for something that it is about: "please set up a machine for the
project at this URL". It runs mayfly's commands, and starts nothing.`,
	}, a.skillInstallCommand(), a.skillPrintCommand())
}

func (a *app) skillPrintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "print",
		Short: "Print the skill",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.Out, skill.Text())
			return err
		},
	}
}

// skillFlags are the flags of skill install.
type skillFlags struct {
	project, user, force bool
	agents               []string
}

func (a *app) skillInstallCommand() *cobra.Command {
	var f skillFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Write the skill to where a coding agent looks for skills",
		Long: `Write the skill to where a coding agent looks for skills, in your home directory
or in the project of the current one. What somebody changed there is left alone.`,
		Example: `  mayfly skill install
  mayfly skill install --project --for claude,codex`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.skillInstall(f) },
	}
	cmd.Flags().BoolVar(&f.project, "project", false, "for the project in the current directory")
	cmd.Flags().BoolVar(&f.user, "user", false, "for all projects of yours (the default)")
	cmd.Flags().StringSliceVar(&f.agents, "for", []string{codingagent.Default}, "the `agent`: "+strings.Join(codingagent.Names(), ", ")+" (repeatable)")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace the skill even where somebody changed it")
	return cmd
}

func (a *app) skillInstall(f skillFlags) error {
	if f.project && f.user {
		return usageError{errors.New("--project and --user exclude each other")}
	}
	project := ""
	if f.project {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		project = dir
	}
	var errs []error
	for _, agent := range f.agents {
		res, err := skill.Install(skill.Target{Agent: agent, Project: project, Getenv: a.getenv, Force: f.force})
		switch {
		case err != nil:
			errs = append(errs, err)
		case res.Changed:
			fmt.Fprintln(a.Out, res.Path)
		default:
			fmt.Fprintln(a.Out, res.Path)
			a.note("%s has it already", agent)
		}
	}
	return errors.Join(errs...)
}
