package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/skill"
)

func (a *app) skillCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "skill",
		Short: "Teach coding agents to define machines",
		Long: `Teach coding agents to define machines. A skill is a text that a coding agent
reads when its user asks for something like "please set up a machine for the
project at this URL". The agent then runs mayfly's commands. It starts nothing.`,
	}, a.skillInstallCommand(), a.skillPrintCommand())
}

func (a *app) skillPrintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "print",
		Short: "Print the skill",
		Args:  takes(0, 0),
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
		Short: "Write the skill where coding agents look for skills",
		Long: `Write the skill where coding agents look for skills: in your home directory, or
in the project in the current directory. A skill that was edited stays as it is.`,
		Example: `  mayfly skill install
  mayfly skill install --project --for claude,codex`,
		Args: takes(0, 0),
		RunE: func(*cobra.Command, []string) error { return a.skillInstall(f) },
	}
	cmd.Flags().BoolVar(&f.project, "project", false, "write it for the project in the current directory")
	cmd.Flags().BoolVar(&f.user, "user", false, "write it for all your projects (the default)")
	cmd.Flags().StringSliceVar(&f.agents, "for", []string{codingagent.Default}, "write it for this coding `agent`: "+strings.Join(codingagent.Names(), ", ")+" (repeatable)")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace the skill even if it was edited")
	return cmd
}

func (a *app) skillInstall(f skillFlags) error {
	if f.project && f.user {
		return usageError{errors.New("--project and --user exclude each other")}
	}
	project := ""
	if f.project {
		dir, err := absolute(".")
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
