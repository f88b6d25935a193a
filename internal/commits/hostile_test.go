package commits_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/test/canary"
)

// packer writes bundles that git would not.
type packer struct {
	pack  bytes.Buffer
	count uint32
}

func (p *packer) object(kind byte, content []byte) string {
	return p.stored(kind, len(content), nil, content, map[byte]string{1: "commit", 2: "tree", 3: "blob", 4: "tag"}[kind])
}

// stored writes an object as the pack has it, gitformat-pack(5).
func (p *packer) stored(kind byte, size int, base, content []byte, name string) string {
	p.count++
	b := kind<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.pack.WriteByte(b | 0x80)
		b = byte(size & 0x7f)
	}
	p.pack.WriteByte(b)
	p.pack.Write(base)
	z := zlib.NewWriter(&p.pack)
	z.Write(content)
	z.Close()
	sum := sha1.Sum(append(fmt.Appendf(nil, "%s %d\x00", name, len(content)), content...))
	return hex.EncodeToString(sum[:])
}

func (p *packer) tree(entries ...string) string {
	var b bytes.Buffer
	for i := 0; i < len(entries); i += 3 {
		id, _ := hex.DecodeString(entries[i+2])
		fmt.Fprintf(&b, "%s %s\x00%s", entries[i], entries[i+1], id)
	}
	return p.object(2, b.Bytes())
}

func (p *packer) commit(tree string, parents ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, id := range parents {
		fmt.Fprintf(&b, "parent %s\n", id)
	}
	b.WriteString("author M <m@m> 1700000000 +0000\ncommitter M <m@m> 1700000000 +0000\n\nhostile\n")
	return p.object(1, []byte(b.String()))
}

// bundle returns a bundle whose branch is tip.
func (p *packer) bundle(tip string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# v2 git bundle\n%s refs/heads/main\n\n", tip)
	var pack bytes.Buffer
	pack.WriteString("PACK\x00\x00\x00\x02")
	binary.Write(&pack, binary.BigEndian, p.count)
	pack.Write(p.pack.Bytes())
	sum := sha1.Sum(pack.Bytes())
	pack.Write(sum[:])
	b.Write(pack.Bytes())
	return b.Bytes()
}

// snapshot returns all that is in a directory.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, d.Type())
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%x\n", sha1.Sum(text))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Each of these is refused within bounds, and the user's repository stays as it is, byte
// for byte.
func TestHostile(t *testing.T) {
	p := newPair(t)
	head := p.git(p.host, "rev-parse", "HEAD")
	headTree := p.git(p.host, "rev-parse", "HEAD^{tree}")
	none := strings.Repeat("1", 40)
	small := commits.DefaultLimits()
	small.Bundle, small.Objects, small.Object, small.Total, small.Depth, small.Commits = 4<<20, 20000, 64<<20, 96<<20, 1000, 50

	entry := func(mode, name string) func(*packer) string {
		return func(k *packer) string {
			blob := k.object(3, []byte("x"))
			return k.commit(k.tree(mode, name, blob), head)
		}
	}
	cases := map[string]func(*packer) string{
		".git":               entry("100644", ".git"),
		".GIT":               entry("100644", ".GIT"),
		"git~1":              entry("100644", "git~1"),
		".git with a dot":    entry("100644", ".git."),
		".git in disguise":   entry("100644", ".g\u200cit"),
		"..":                 entry("100644", ".."),
		".":                  entry("100644", "."),
		"slash":              entry("100644", "a/b"),
		"no name":            entry("100644", ""),
		"odd mode":           entry("100777", "a"),
		".gitmodules a link": entry("120000", ".gitmodules"),
		"duplicate": func(k *packer) string {
			blob := k.object(3, []byte("x"))
			return k.commit(k.tree("100644", "a", blob, "100644", "a", blob), head)
		},
		"unsorted": func(k *packer) string {
			blob := k.object(3, []byte("x"))
			return k.commit(k.tree("100644", "b", blob, "100644", "a", blob), head)
		},
		"submodule of a program": func(k *packer) string {
			blob := k.object(3, []byte("[submodule \"x\"]\n\tpath = x\n\turl = -u./x\n"))
			return k.commit(k.tree("100644", ".gitmodules", blob), head)
		},
		"a tree that is not there":   func(k *packer) string { return k.commit(none, head) },
		"a file that is not there":   func(k *packer) string { return k.commit(k.tree("100644", "a", none), head) },
		"a parent that is not there": func(k *packer) string { return k.commit(headTree, none) },
		"a tip that is a file":       func(k *packer) string { return k.object(3, []byte("x")) },
		"a tip that is not there":    func(k *packer) string { k.object(3, []byte("x")); return none },
		"a commit without a tree": func(k *packer) string {
			return k.object(1, []byte("author M <m@m> 1 +0000\ncommitter M <m@m> 1 +0000\n\nx"))
		},
		"a commit with a NUL": func(k *packer) string {
			return k.object(1, []byte("tree "+headTree+"\nparent "+head+"\nauthor M <m@m> 1 +0000\ncommitter M\x00 <m@m> 1 +0000\n\nx"))
		},
		"a bomb": func(k *packer) string { // 80 MiB in 80 KiB
			blob := k.object(3, make([]byte, 80<<20))
			return k.commit(k.tree("100644", "a", blob), head)
		},
		"many small bombs": func(k *packer) string {
			var entries []string
			for i := range 4 {
				blob := k.object(3, bytes.Repeat([]byte{byte(i)}, 30<<20))
				entries = append(entries, "100644", fmt.Sprintf("a%d", i), blob)
			}
			return k.commit(k.tree(entries...), head)
		},
		"too many commits": func(k *packer) string {
			tip := head
			for range 60 {
				tip = k.commit(headTree, tip)
			}
			return tip
		},
		"a long chain": func(k *packer) string {
			content := []byte("0000000000")
			base := k.object(3, content)
			for i := range 1500 {
				next := fmt.Appendf(nil, "%010d", i+1)
				delta := append([]byte{10, 10, 10}, next...) // sizes, then ten new bytes
				id, _ := hex.DecodeString(base)
				k.stored(7, len(delta), id, delta, "")
				sum := sha1.Sum(append([]byte("blob 10\x00"), next...))
				base = hex.EncodeToString(sum[:])
			}
			return k.commit(k.tree("100644", "a", base), head)
		},
		"a chain that is a circle": func(k *packer) string {
			k.stored(7, 13, bytes.Repeat([]byte{1}, 20), append([]byte{10, 10, 10}, "0123456789"...), "")
			return k.commit(headTree, head)
		},
		"a size that is a lie": func(k *packer) string {
			k.stored(3, 1<<40, nil, []byte("x"), "blob")
			return k.commit(headTree, head)
		},
		"deep directories": func(k *packer) string {
			tree := k.tree("100644", "a", k.object(3, []byte("x")))
			for range 5000 {
				tree = k.tree("40000", "d", tree)
			}
			return k.commit(tree, head)
		},
	}
	bundles := make(map[string][]byte)
	for name, make := range cases {
		k := &packer{}
		bundles[name] = k.bundle(make(k))
	}
	k := &packer{}
	good := k.bundle(k.commit(headTree, head))
	bundles["cut off"] = good[:len(good)-10]
	bundles["another sum"] = append(bytes.Clone(good[:len(good)-20]), make([]byte, 20)...)
	bundles["something behind"] = append(bytes.Clone(good), "more"...)
	bundles["fewer objects than it says"] = bytes.Replace(good, []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01"), []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x09"), 1)
	bundles["more objects than are taken"] = bytes.Replace(good, []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01"), []byte("PACK\x00\x00\x00\x02\x7f\xff\xff\xff"), 1)
	bundles["too large"] = append(bytes.Clone(good), make([]byte, 5<<20)...)
	bundles["builds on what is not there"] = bytes.Replace(good, []byte("# v2 git bundle\n"), []byte("# v2 git bundle\n-"+none+" x\n"), 1)
	bundles["another format"] = []byte("# v3 git bundle\n@object-format=sha256\n" + strings.Repeat("1", 64) + " refs/heads/a\n\nPACK\x00\x00\x00\x02\x00\x00\x00\x00")

	before := snapshot(t, p.host)
	r := p.open()
	take := func(name string, b []byte) error {
		f, err := os.Create(filepath.Join(p.dir, "bundle"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		_, err = r.Import(t.Context(), f, nil, small)
		return err
	}
	if err := take("good", good); err != nil {
		t.Fatalf("a good bundle of our own: %v", err)
	}
	for name, b := range bundles {
		if err := take(name, b); !errors.Is(err, commits.ErrRefused) {
			t.Errorf("%s: %v; want ErrRefused", name, err)
		}
	}
	if after := snapshot(t, p.host); after != before {
		t.Error("the user's repository is not what it was")
	}
}

// Nothing of the user's configuration runs, nor of the machine's, whatever keys and hooks
// there are. A program that writes a file stands for each.
func TestNothingRuns(t *testing.T) {
	p := newPair(t)
	set := canary.New(t)
	p.write(p.host, map[string]string{".gitattributes": canary.Attributes})
	p.git(p.host, "add", "-A")
	p.git(p.host, "commit", "-q", "-m", "attributes")
	p.copy()
	tip := p.commit(p.guest, map[string]string{"a": "4", "sub/c.crlf": "one\n"}, "guest 1")

	tips := []string{p.git(p.host, "rev-parse", "HEAD")}
	bundle := p.bundle([]string{"refs/heads/main"}, tips)
	set.Arm(t, p.host)
	set.Arm(t, p.guest)
	// The user's own as well.
	set.ArmUser(t, filepath.Join(p.dir, "home/.gitconfig"))

	r := p.open()
	if _, err := r.Tips(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if lacks, err := r.Lacks(t.Context(), []commits.Ref{{"refs/heads/main", tip}}, nil, nil); err != nil || len(lacks) != 1 {
		t.Fatalf("Lacks() = %v, %v", lacks, err)
	}
	im, err := r.Import(t.Context(), bundle, tips, commits.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.forward(r, im, "main", ""); got != "" {
		t.Fatalf("it stays for %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(p.host, ".git/refs/heads/main")); err != nil || strings.TrimSpace(string(text)) != tip {
		t.Errorf("main is %q, %v; want %s", text, err, tip)
	}
	if ran := set.Ran(t); len(ran) > 0 {
		t.Errorf("%d programs ran, such as %s", len(ran), ran[0])
	}
	// The canaries are alive: the user's own git would run some.
	c := exec.Command("git", "-C", p.host, "status")
	c.Stdout, c.Stderr = io.Discard, io.Discard
	c.Run()
	if len(set.Ran(t)) == 0 {
		t.Error("no canary runs with git status either")
	}
}
