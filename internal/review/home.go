package review

import "slices"

// homeRules are about what a login, a shell or a desktop obeys.
var homeRules = []rule{
	{
		id: "home", class: Runs,
		reason: "your shell, login or ssh obeys this",
		paths: []string{
			".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshenv", ".zshrc", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".login",
			".inputrc", ".config/fish/**", ".tmux.conf", ".config/tmux/**", ".gitconfig", ".config/git/**", ".ripgreprc", ".ssh/**", ".gnupg/**", ".netrc", ".pypirc", ".curlrc", ".wgetrc",
			".local/bin/**", ".config/autostart/**", ".config/systemd/**", ".config/environment.d/**", ".pam_environment", ".xprofile", ".xinitrc", ".xsession", ".xsessionrc", ".xresources",
			"library/launchagents/**", "library/launchdaemons/**", "crontab", ".crontab", ".lesskey", ".lessfilter", ".dircolors", ".config/nushell/**", ".config/nvim/**", ".config/direnv/**",
			".oh-my-zsh/**", ".config/zsh/**", ".zshrc.d/**", ".bashrc.d/**", ".config/hypr/**", ".config/i3/**", ".config/sway/**", ".aws/**", ".kube/**", ".docker/**", ".config/gh/**", ".gitconfig.*",
		},
		when: inHome,
	},
	{
		id: "desktop", class: Suspicious,
		reason: "a file manager starts or contacts what this names",
		paths: []string{
			"*.desktop", "autorun.inf", "desktop.ini", ".directory", "*.lnk", "*.url", "*.webloc", "*.command", "*.scf", "*.library-ms", "*.searchconnector-ms", "*.terminal", "*.appimage",
			"*.hta", "*.vbs", "*.wsf", "*.settingcontent-ms", "*.inetloc", "*.fileloc", "*.workflow/**", "*.scpt", "*.application", "*.chm",
		},
	},
}

// stowMarks are files in the root of collections that are linked into a home.
var stowMarks = []string{".stow-local-ignore", ".stowrc", ".stow-global-ignore", ".chezmoiroot", ".chezmoi.toml.tmpl", ".chezmoiignore", ".dotter", "dotbot", ".dotbot", "install.conf.yaml", ".yadm", ".rcrc", ".homeshick", "dotdrop.sh"}

// shellFiles are enough of a home to take a workspace for one.
var shellFiles = []string{".bashrc", ".zshrc", ".profile", ".bash_profile", ".zshenv", ".gitconfig", ".tmux.conf", ".vimrc"}

// inHome is gravest where the files are, or may be linked, in a home.
func inHome(s *subject) []Finding {
	if !s.fixture() && s.set.isHome() {
		return []Finding{{}}
	}
	return []Finding{{Class: Builds, Reason: "a shell, login or ssh would obey this in a home"}}
}

// isHome reports whether the workspace is a home, or a collection of files for one.
func (t *set) isHome() bool {
	if t.in.Host.Home {
		return true
	}
	names := t.dir(".").host
	n := 0
	for _, name := range names {
		if slices.Contains(stowMarks, name) {
			return true
		}
		if slices.Contains(shellFiles, name) {
			n++
		}
	}
	return n >= 2
}
