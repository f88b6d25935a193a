package agent

import (
	"strings"

	"github.com/mayfly-vm/mayfly/internal/shellquote"
)

// historyInit is read by interactive shells, before their user's own files: what those
// say of the history holds.
const historyInit = "/etc/mayfly/history.sh"

// systemRCFiles are Debian's files for all users' interactive shells.
var systemRCFiles = []string{"/etc/bash.bashrc", "/etc/zsh/zshrc"}

// historyText makes DIR the place of the histories. They are the user's: a shell of
// root's, who would leave files there that are not, is left alone. zsh writes each line
// when it was typed, bash all of them when it ends.
const historyText = `# Written by mayfly when the machine starts.
if [ -O DIR ]; then
	if [ -n "${BASH_VERSION-}" ]; then
		HISTFILE=DIR/bash HISTSIZE=100000 HISTFILESIZE=100000
		shopt -s histappend
	elif [ -n "${ZSH_VERSION-}" ]; then
		HISTFILE=DIR/zsh HISTSIZE=100000 SAVEHIST=100000
		setopt INC_APPEND_HISTORY
	fi
fi
`

// setUpHistory makes shells keep their histories in the directory dir.
func (t tree) setUpHistory(dir string) error {
	if dir == "" {
		return nil
	}
	if err := t.writeFile(historyInit, []byte(strings.ReplaceAll(historyText, "DIR", shellquote.Quoted(dir))), 0o644); err != nil {
		return err
	}
	for _, name := range systemRCFiles {
		old, err := t.readFile(name)
		if err != nil {
			return err
		}
		if old == nil {
			continue // the image does not have this shell; its package is to find no file
		}
		if err := t.writeFile(name, append(old, "\n. "+historyInit+"\n"...), 0o644); err != nil {
			return err
		}
	}
	return nil
}
