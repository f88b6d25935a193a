package review

// OwnRule is the rule of findings that are the user's own.
const OwnRule = "own"

// Extra is a rule of the user's configuration. It raises the class of what its pattern
// matches, and is the class of the one path that it names exactly.
type Extra struct {
	Pattern string
	Class   Class
	Reason  string
}

// extra is one that is ready to match.
type extra struct {
	Extra
	pattern pattern
}

func newExtras(all []Extra) []extra {
	ready := make([]extra, len(all))
	for i, e := range all {
		ready[i] = extra{e, newPattern(fold(e.Pattern))}
	}
	return ready
}
