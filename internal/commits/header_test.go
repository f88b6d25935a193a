package commits

import (
	"strings"
	"testing"
)

const (
	idA  = "a96d9a5b5b1070969052edfcf2dda1465a76faf7"
	idB  = "e4a9c1a19cac3c920ff7e03eaa1f4df12b459cd9"
	pack = "PACK\x00\x00\x00\x02\x00\x00\x00\x05rest"
)

func TestReadHeader(t *testing.T) {
	text := "# v3 git bundle\n@object-format=sha1\n-" + idA + " a subject\n-" + idB + "\n" + idB + " refs/heads/feat/x\n" + idA + " HEAD\n\n"
	got, err := ReadHeader(strings.NewReader(text + pack))
	if err != nil {
		t.Fatal(err)
	}
	if got.Size != int64(len(text)) || got.Objects != 5 || got.ObjectFormat != "sha1" || len(got.Prerequisites) != 2 ||
		got.Refs[0] != (Ref{"refs/heads/feat/x", idB}) || got.Refs[1] != (Ref{"HEAD", idA}) {
		t.Errorf("ReadHeader() = %+v", got)
	}
	long := idB + strings.Repeat("0", 24)
	if got, err := ReadHeader(strings.NewReader("# v3 git bundle\n@object-format=sha256\n" + long + " refs/heads/a\n\n" + pack)); err != nil || got.Refs[0].ID != long {
		t.Errorf("ReadHeader(sha256) = %+v, %v", got, err)
	}
}

// Each of these is refused, whatever follows.
func TestReadHeaderHostile(t *testing.T) {
	v2, v3, ref := "# v2 git bundle\n", "# v3 git bundle\n", idA+" refs/heads/a\n"
	for name, text := range map[string]string{
		"empty":                      "",
		"another file":               "#!/bin/sh\n\n" + pack,
		"version 4":                  "# v4 git bundle\n" + ref + "\n" + pack,
		"CR LF":                      "# v2 git bundle\r\n" + ref + "\n" + pack,
		"filter":                     v3 + "@filter=blob:none\n" + ref + "\n" + pack,
		"capability unknown":         v3 + "@x\n" + ref + "\n" + pack,
		"capability in version 2":    v2 + "@object-format=sha1\n" + ref + "\n" + pack,
		"capability late":            v3 + ref + "@object-format=sha1\n\n" + pack,
		"prerequisite late":          v2 + ref + "-" + idA + "\n\n" + pack,
		"prerequisite short":         v2 + "-abc x\n" + ref + "\n" + pack,
		"sha256 without capability":  v2 + idB + strings.Repeat("0", 24) + " refs/heads/a\n\n" + pack,
		"upper case":                 v2 + strings.ToUpper(idA) + " refs/heads/a\n\n" + pack,
		"no reference":               v2 + "\n" + pack,
		"twice":                      v2 + ref + ref + "\n" + pack,
		"replace":                    v2 + idA + " refs/replace/" + idB + "\n\n" + pack,
		"notes":                      v2 + idA + " refs/notes/commits\n\n" + pack,
		"tag":                        v2 + idA + " refs/tags/v1\n\n" + pack,
		"remote":                     v2 + idA + " refs/remotes/origin/main\n\n" + pack,
		"flag":                       v2 + idA + " refs/heads/-x\n\n" + pack,
		"parent":                     v2 + idA + " refs/heads/../../config\n\n" + pack,
		"hidden":                     v2 + idA + " refs/heads/.x\n\n" + pack,
		"lock":                       v2 + idA + " refs/heads/a.lock/b\n\n" + pack,
		"branch HEAD":                v2 + idA + " refs/heads/HEAD\n\n" + pack,
		"no branch":                  v2 + idA + " refs/heads/\n\n" + pack,
		"two slashes":                v2 + idA + " refs/heads/a//b\n\n" + pack,
		"log":                        v2 + idA + " refs/heads/a@{1}\n\n" + pack,
		"blank":                      v2 + idA + " refs/heads/a b\n\n" + pack,
		"escape":                     v2 + idA + " refs/heads/a\x1b[2J\n\n" + pack,
		"NUL":                        v2 + idA + " refs/heads/a\x00b\n\n" + pack,
		"not UTF-8":                  v2 + idA + " refs/heads/\xff\n\n" + pack,
		"long":                       v2 + idA + " refs/heads/" + strings.Repeat("a", 300) + "\n\n" + pack,
		"no end":                     v2 + strings.TrimSuffix(ref, "\n"),
		"line without end":           v2 + strings.Repeat("a", 2<<20),
		"header without end":         v2 + "-" + idA + " " + strings.Repeat("a", 2<<20) + "\n" + ref + "\n" + pack,
		"a thousand and one":         v2 + many(1001) + "\n" + pack,
		"a million":                  v2 + many(1000000) + "\n" + pack,
		"prerequisites without end":  v2 + strings.Repeat("-"+idA+"\n", 1001) + ref + "\n" + pack,
		"no pack":                    v2 + ref + "\n",
		"pack of version 3":          v2 + ref + "\nPACK\x00\x00\x00\x03\x00\x00\x00\x05",
		"pack cut off":               v2 + ref + "\nPACK\x00\x00",
		"something else than a pack": v2 + ref + "\nDIRC\x00\x00\x00\x02\x00\x00\x00\x05",
	} {
		if got, err := ReadHeader(strings.NewReader(text)); err == nil {
			t.Errorf("%s: ReadHeader() = %+v; want an error", name, got)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(idA + " refs/heads/" + strings.Repeat("b", 1+i%7) + string(rune('a'+i%26)) + "\n")
		if b.Len() > 4<<20 {
			break
		}
	}
	return b.String()
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("# v2 git bundle\n-" + idA + " s\n" + idB + " refs/heads/a\n\n" + pack))
	f.Add([]byte("# v3 git bundle\n@object-format=sha256\n" + idB + strings.Repeat("0", 24) + " HEAD\n\n" + pack))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHeader(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		if h.Size <= 0 || h.Size > int64(len(b)) || string(b[h.Size:][:4]) != "PACK" {
			t.Errorf("the pack is not at %d", h.Size)
		}
		if len(h.Refs) == 0 || len(h.Refs) > MaxRefs || len(h.Prerequisites) > maxPrerequisites {
			t.Errorf("%d references, %d prerequisites", len(h.Refs), len(h.Prerequisites))
		}
		for _, r := range h.Refs {
			if r.Name != headRef && (!strings.HasPrefix(r.Name, branchPrefix) || strings.Contains(r.Name, "..")) || strings.ContainsAny(r.Name, "\x00\n\x1b") {
				t.Errorf("reference %q", r.Name)
			}
		}
	})
}

// What is kept of a commit is bounded, whatever it holds.
func TestParseCommit(t *testing.T) {
	long := strings.Repeat("x", 60000)
	c := parseCommit(idA, "tree "+idB+"\n"+strings.Repeat("parent "+idB+"\n", 100)+
		"author "+long+" <a@b> 1700000000 +0000\ncommitter C <"+long+"> nonsense\ngpgsig -----BEGIN\n x\n\n\n"+long+"\nbody\n")
	if len(c.Parents) != maxParents || len(c.Author.Name) != maxPerson || len(c.Committer.Email) != maxPerson || len(c.Subject) != maxSubject {
		t.Errorf("%d parents, names of %d and %d bytes, a subject of %d", len(c.Parents), len(c.Author.Name), len(c.Committer.Email), len(c.Subject))
	}
	if c.Author.Time.Unix() != 1700000000 || !c.Committer.Time.IsZero() || !c.Signed || c.Committer.Name != "C" {
		t.Errorf("commit = %+v", c)
	}
	if c := parseCommit(idA, "nonsense"); c.Subject != "" || len(c.Parents) > 0 {
		t.Errorf("commit of nonsense = %+v", c)
	}
}
