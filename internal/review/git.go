package review

// gitRules are about what git on the host runs or obeys.
var gitRules = []rule{
	{
		id: "git-hook", class: Runs, withholds: true,
		reason: "git runs this hook on your next commit, checkout or push",
		paths:  []string{".git/hooks/*"},
	},
}
