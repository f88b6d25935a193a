package commits

import "testing"

func TestOwn(t *testing.T) {
	for path, want := range map[string]bool{
		".git": true, ".git/config": true, "a/b/.git/hooks/x": true, "sub/.git": true, ".GIT/config": true, ".Git": true,
		"git~1/config": true, "GIT~1": true, ".git./x": true, ".git /x": true, ".git . .": true, ".git::$INDEX_ALLOCATION/x": true,
		".g\u200cit/x": true, "\u200e.git": true, `.git\x`: true, ".gi\u202et": true,
		".gitignore": false, ".github/x": false, "git": false, "a.git/x": false, "git~2": false, ".gitmodules": false, "x.git": false, "": false,
		".gi/t": false, "..git": false, "Ägit": false,
	} {
		if got := Own(path); got != want {
			t.Errorf("Own(%q) = %t; want %t", path, got, want)
		}
	}
}
