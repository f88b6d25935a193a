package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) transcriptsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "transcripts",
		Short: "List, show or restore the conversations of coding agents",
		Long: `List, show or restore the conversations of coding agents. mayfly fetches them
when a machine stops or ends, also one of mayfly run. They outlive the machine
by 30 days; see mayfly gc. They are the word of their machine, which is not
trusted.`,
	}, a.transcriptsListCommand(), a.transcriptsShowCommand(), a.transcriptsRestoreCommand())
}

func (a *app) transcriptsListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [NAME]",
		Short: "List conversations, the newest first",
		Long: `List the conversations that were kept, of all machines or of one, by coding
agent. The first column is the name for mayfly transcripts show and restore. A
running machine still holds its newest ones: mayfly transcripts show fetches
them.`,
		Args:              takes(0, 1),
		ValidArgsFunction: a.completeTranscripts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.listTranscripts(cmd.Context(), strings.Join(args, ""))
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// transcriptsJSON are conversations as transcripts ls --json prints them. Fields are only
// added.
type transcriptsJSON struct {
	mayfly.Transcripts
	Error string `json:"error,omitempty"` // why the archive could not be read to its end
}

func (a *app) listTranscripts(ctx context.Context, name string) error {
	all, err := a.client.Transcripts(ctx)
	if err != nil {
		return err
	}
	rows := []transcriptsJSON{}
	for _, t := range all {
		if name != "" && t.Name != name && t.Machine != name {
			continue
		}
		row := transcriptsJSON{Transcripts: t}
		if t.Err != nil {
			row.Error = t.Err.Error()
		}
		rows = append(rows, row)
	}
	if a.json {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		a.note("no transcripts are kept; mayfly transcripts show NAME fetches those of a running machine")
		return nil
	}
	t := newTable(a.Out, "NAME", "MACHINE", "AGENT", "TIME", "FILES", "SIZE")
	for _, r := range rows {
		t.row(r.Name, r.Machine, words.Dash(r.Agent), r.Time.Local().Format("2006-01-02 15:04:05"), strconv.Itoa(r.Files), words.Size(r.Bytes))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Error != "" {
			a.note("%s: %s", r.Name, r.Error)
		}
	}
	return nil
}

func (a *app) transcriptsShowCommand() *cobra.Command {
	var agent, output string
	cmd := &cobra.Command{
		Use:   "show [flags] NAME",
		Short: "Print conversations, or write them as a tar archive",
		Long: `Print the conversations in an archive, as the coding agents keep them. NAME is a
name that mayfly transcripts ls lists, or a machine: a running one is asked, of
another it is the newest archive.

On a terminal, mayfly shows each file with its name, without databases and
without what a terminal would obey. Elsewhere the contents come one after the
other as they are, without names: JSON Lines for most agents. With --output,
they are a tar archive; "-" is standard output.`,
		Example: `  mayfly transcripts show web
  mayfly transcripts show --agent claude web | jq -r .type
  mayfly transcripts show --output web.tar web`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeTranscripts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownAgent(agent); err != nil {
				return err
			}
			switch {
			case a.json && output != "":
				return usageError{errors.New("--json and --output exclude each other")}
			case output != "":
				return a.exportTranscripts(cmd.Context(), args[0], agent, output)
			}
			return a.showTranscripts(cmd.Context(), args[0], agent)
		},
	}
	agentFlag(cmd, &agent)
	cmd.Flags().StringVarP(&output, "output", "o", "", "write a tar archive to this `file`")
	a.jsonFlag(cmd, "print the list of files as JSON")
	return cmd
}

func agentFlag(cmd *cobra.Command, agent *string) {
	cmd.Flags().StringVar(agent, "agent", "", "only the conversations of this coding `agent`")
}

// knownAgent refuses a name that no agent has.
func knownAgent(agent string) error {
	if agent == "" {
		return nil
	}
	if _, err := codingagent.Get(agent); err != nil {
		return usageError{err}
	}
	return nil
}

// showTranscripts prints the files of conversations.
func (a *app) showTranscripts(ctx context.Context, name, agent string) error {
	if a.json {
		files := []mayfly.Transcript{}
		left, err := a.client.ReadTranscripts(ctx, name, agent, func(t mayfly.Transcript, _ io.Reader) error {
			files = append(files, t)
			return nil
		})
		a.noteLeft(left)
		if err != nil {
			return err
		}
		return a.printJSON(files)
	}
	var left int
	var err error
	if !terminal.Is(a.Out) {
		left, err = a.client.ReadTranscripts(ctx, name, agent, func(_ mayfly.Transcript, r io.Reader) error {
			_, err := io.Copy(a.Out, r)
			return err
		})
	} else {
		err = a.paged(a.Out, func(w io.Writer, _ paint) error {
			left, err = a.client.ReadTranscripts(ctx, name, agent, func(t mayfly.Transcript, r io.Reader) error {
				return printTranscript(w, t, r)
			})
			return err
		})
	}
	a.noteLeft(left)
	return err
}

// shownChunk is how much of a line is made safe at once: a conversation can be one.
const shownChunk = 64 << 10

// printTranscript prints a file for a terminal.
func printTranscript(w io.Writer, t mayfly.Transcript, r io.Reader) error {
	if _, err := fmt.Fprintf(w, "==> %s <==\n", termsafe.Line(t.Agent+"/"+t.Name)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(r, shownChunk)
	if begin, _ := in.Peek(shownChunk); bytes.IndexByte(begin, 0) >= 0 {
		_, err := fmt.Fprintf(w, "(%s, no text)\n", words.Size(t.Bytes))
		return err
	}
	ends := true
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			ends = line[len(line)-1] == '\n'
			if _, err := io.WriteString(w, termsafe.Text(string(line))); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if !ends {
				_, err := io.WriteString(w, "\n")
				return err
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// noteLeft says that an archive is not one that mayfly's guest packed.
func (a *app) noteLeft(n int) {
	if n > 0 {
		a.note("%d entries were left out, which are no files of conversations: the machine's own guest did not pack them", n)
	}
}

// exportTranscripts writes conversations as a tar archive to a new file.
func (a *app) exportTranscripts(ctx context.Context, name, agent, output string) error {
	if output == "-" {
		if terminal.Is(a.Out) {
			return usageError{hint.Errorf("mayfly transcripts show "+name+" -o FILE", "an archive is nothing for a terminal")}
		}
		left, err := a.client.ExportTranscripts(ctx, name, agent, a.Out)
		a.noteLeft(left)
		return err
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	left, err := a.client.ExportTranscripts(ctx, name, agent, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(output))
	}
	a.noteLeft(left)
	return nil
}

func (a *app) transcriptsRestoreCommand() *cobra.Command {
	var agent, into string
	cmd := &cobra.Command{
		Use:   "restore [flags] NAME",
		Short: "Put conversations back into a machine",
		Long: `Put conversations back to where the coding agents of a machine keep them, so
that the agents can continue them. NAME is a name that mayfly transcripts ls
lists, or a machine, which stands for its newest archive. The conversations go
into the machine that they are of, or into that of --into. mayfly starts it if
needed.

A file that is there already stays, and so does a database. Links and programs
in an archive are left out. Most agents keep conversations by directory and
continue only those of a workspace with the same path.`,
		Example: `  mayfly transcripts restore web
  mayfly transcripts restore run-3f9a2c-20261130T221036.123456789 --into web`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeTranscripts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownAgent(agent); err != nil {
				return err
			}
			return a.restoreTranscripts(cmd.Context(), args[0], into, agent)
		},
	}
	agentFlag(cmd, &agent)
	cmd.Flags().StringVar(&into, "into", "", "the `machine` that gets them")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) restoreTranscripts(ctx context.Context, name, into, agent string) error {
	r, err := a.client.RestoreTranscripts(ctx, name, into, agent)
	switch errorCode(err) {
	case "machine-not-found", "machine-undefined", "machine-not-running":
		if into == "" {
			err = hint.Wrap(err, "mayfly transcripts restore "+name+" --into MACHINE")
		}
	}
	if err != nil {
		return err
	}
	a.noteLeft(r.Left)
	if a.json {
		return a.printJSON(r)
	}
	if r.Kept > 0 {
		a.note("%d files were in %s already, and stay as they are", r.Kept, r.Machine)
	}
	if r.Files == 0 {
		a.note("nothing was put back")
		return nil
	}
	for _, name := range r.Agents {
		if agent, ok := codingagent.Find(name); ok {
			a.note("conversations of %s are back in %s; mayfly %s %s --continue continues the last one", agent.Title, r.Machine, name, r.Machine)
		}
	}
	return nil
}

// completeTranscripts completes the names of archives and of running machines.
func (a *app) completeTranscripts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.client == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, _ := a.names()
	all, _ := a.client.Transcripts(cmd.Context())
	for _, t := range all {
		names = append(names, t.Name)
	}
	return sortedNames(names), cobra.ShellCompDirectiveNoFileComp
}
