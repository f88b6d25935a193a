package review

import (
	"bytes"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// tokens are kinds of secrets that say what they are: how they begin, and how many
// letters of which alphabet follow at least.
var tokens = []struct {
	prefix string
	tail   int
	more   string // letters besides letters and digits
	kind   string
}{
	{"AKIA", 16, "", "AWS access key"}, {"ASIA", 16, "", "AWS access key"},
	{"ghp_", 30, "", "GitHub token"}, {"gho_", 30, "", "GitHub token"}, {"ghu_", 30, "", "GitHub token"}, {"ghs_", 30, "", "GitHub token"},
	{"ghr_", 30, "", "GitHub token"}, {"github_pat_", 22, "_", "GitHub token"},
	{"glpat-", 16, "_-", "GitLab token"}, {"gldt-", 20, "_-", "GitLab token"}, {"glrt-", 20, "_-", "GitLab token"},
	{"xoxb-", 10, "-", "Slack token"}, {"xoxa-", 10, "-", "Slack token"}, {"xoxp-", 10, "-", "Slack token"}, {"xoxr-", 10, "-", "Slack token"},
	{"xoxs-", 10, "-", "Slack token"}, {"xapp-", 10, "-", "Slack token"}, {"hooks.slack.com/services/T", 20, "/", "Slack web hook"},
	{"discord.com/api/webhooks/", 40, "/_-", "Discord web hook"},
	{"sk-ant-", 16, "_-", "Anthropic key"}, {"sk-proj-", 20, "_-", "OpenAI key"}, {"sk-svcacct-", 20, "_-", "OpenAI key"}, {"sk-or-v1-", 20, "", "OpenRouter key"},
	{"AIza", 30, "_-", "Google key"}, {"GOCSPX-", 20, "_-", "Google secret"}, {"ya29.", 30, "_-", "Google token"},
	{"npm_", 30, "", "npm token"}, {"pypi-AgEI", 30, "_-", "PyPI token"}, {"hf_", 28, "", "Hugging Face token"}, {"SG.", 30, "_-.", "SendGrid key"},
	{"sk_live_", 16, "", "Stripe key"}, {"rk_live_", 16, "", "Stripe key"}, {"whsec_", 24, "+/", "web hook secret"},
	{"AGE-SECRET-KEY-1", 40, "", "age key"}, {"dop_v1_", 40, "", "DigitalOcean token"}, {"shpat_", 32, "", "Shopify token"}, {"glsa_", 32, "_", "Grafana token"},
	{"dckr_pat_", 20, "_-", "Docker token"}, {"gsk_", 40, "", "Groq key"}, {"xai-", 60, "", "xAI key"}, {"hvs.", 24, "_-", "Vault token"},
	{"ATATT3x", 60, "_-=", "Atlassian token"}, {"lin_api_", 30, "", "Linear key"}, {"figd_", 30, "_-", "Figma token"}, {"AccountKey=", 60, "+/=", "Azure key"},
	{"dapi", 32, "", "Databricks token"}, {"PMAK-", 40, "-", "Postman key"}, {"sntrys_", 40, "_+/=", "Sentry token"}, {"rubygems_", 48, "", "RubyGems key"},
}

var (
	openAI     = expression(`\bsk-[A-Za-z0-9_-]{10,}T3BlbkFJ[A-Za-z0-9_-]{10,}`)
	webToken   = expression(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}`)
	privateKey = expression(`-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----`)
	keyBody    = expression(`^["'` + "`" + `+\s,\\nr]*(?:[A-Za-z-]+: [^\n]*\n|\s)*["'` + "`" + `+\s,\\nr]*[A-Za-z0-9+/=]{40,}`)
	standIn    = expression(`\bmayfly-[0-9a-f]{32}\b`)
	address    = expression(`\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s/"'` + "`" + `<>()@:]*):([^\s/"'` + "`" + `<>()@]+)@([^\s/"'` + "`" + `<>():?#]*)`)

	// Settings whose names say that they are secret, as programs and as files of settings write them.
	assigned = expression(`(?i)[\w.-]*(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|passphrase|private[_-]?key|credential)[\w.-]*["'\]]?\s*(?::=|=>|[=:])\s*["'` + "`" + `]([^"'` + "`" + `\s]{10,128})["'` + "`" + `]`)
	exported = expression(`(?m)^\s*(?:export\s+|- )?[\w.-]*(?i:api_?key|access_?key|secret|token|passw(?:or)?d|private_?key)[\w.-]*\s*[=:]\s*([^\s"'` + "`" + `$<{]{10,128})\s*$`)
)

// secrets looks for what should not be in files that are shared.
func (t *text) secrets() {
	t.placeholders()
	for _, k := range tokens {
		for at := 0; ; {
			i := bytes.Index(t.added[at:], []byte(k.prefix))
			if i < 0 {
				break
			}
			i += at
			end := i + len(k.prefix)
			for end < len(t.added) && (isAlnum(t.added[end]) || strings.IndexByte(k.more, t.added[end]) >= 0) {
				end++
			}
			at = end
			if tail := string(t.added[i+len(k.prefix) : end]); len(tail) >= k.tail && (i == 0 || !isAlnum(t.added[i-1])) && !t.madeUp(tail) && fitsKind(k.prefix, tail) {
				t.secret(i, k.kind, string(t.added[i:end]))
			}
		}
	}
	if bytes.Contains(t.added, []byte("T3BlbkFJ")) {
		t.secretsLike(openAI, "OpenAI key")
	}
	if bytes.Contains(t.added, []byte(".eyJ")) {
		t.secretsLike(webToken, "signed web token")
	}
	if bytes.Contains(t.added, []byte("PRIVATE KEY")) {
		t.keys()
	}
	if bytes.Contains(t.added, []byte("://")) {
		t.addresses()
	}
	t.generic()
}

// fitsKind is what some kinds have besides their beginning.
func fitsKind(prefix, tail string) bool {
	switch prefix {
	case "AKIA", "ASIA":
		return len(tail) == 16 && strings.ToUpper(tail) == tail
	case "AIza":
		return len(tail) < 45
	case "dapi":
		return len(tail) < 40 && strings.Trim(tail, "0123456789abcdef") == ""
	case "npm_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_":
		return strings.ContainsAny(tail, "0123456789")
	}
	return true
}

func (t *text) secretsLike(pattern func() *regexp.Regexp, kind string) {
	for _, m := range pattern().FindAllIndex(t.added, mostPlaces*4) {
		if value := string(t.added[m[0]:m[1]]); !t.madeUp(value) {
			t.secret(m[0], kind, value)
		}
	}
}

// keys looks for private keys: code that only looks for one has no key after its header.
func (t *text) keys() {
	for _, m := range privateKey().FindAllIndex(t.added, mostPlaces*4) {
		start := bytes.LastIndexByte(t.added[:m[0]], '\n') + 1
		alone := len(bytes.TrimSpace(t.added[start:m[0]])) == 0 && t.genre != prose
		rest := t.added[m[1]:min(len(t.added), m[1]+mostCommand)]
		line, _, _ := bytes.Cut(rest, []byte{'\n'})
		if keyBody().Match(rest) || alone && len(bytes.TrimSpace(line)) == 0 {
			t.secret(m[0], "private key", "-----BEGIN")
		}
	}
}

func (t *text) secret(at int, kind, value string) {
	f := Finding{Reason: "looks like a secret: " + kind, Class: Suspicious, Detail: masked(value)}
	if t.fixture {
		f.Detail += ", in a directory of tests"
	}
	t.report("secret", at, f)
}

// masked returns how a secret is shown: enough to know it by.
func masked(value string) string {
	return strings.ToValidUTF8(value[:min(4, len(value))], "") + "… (" + strconv.Itoa(len(value)) + " characters)"
}

// stopWords are in values that people make up.
var stopWords = []string{"example", "sample", "dummy", "fake", "mock", "test", "changeme", "change_me", "change-me", "placeholder", "redacted", "your", "xxxx", "todo",
	"insert", "replace", "secret", "password", "passwd", "token", "apikey", "api_key", "api-key", "12345678", "abcdefgh", "00000000", "11111111", "deadbeef", "foobar",
	"process.env", "os.environ", "getenv", "localhost", "default", "undefined", "invalid", "....", "****", "____", "----", "lorem", "hunter2"}

// madeUp reports whether a value is one that people make up. Alphabets and words are so
// where people show how something looks; elsewhere they are what somebody could have taken
// for a secret.
func (t *text) madeUp(value string) bool {
	low := strings.ToLower(value)
	for _, w := range []string{"xxxx", "0000000", "1111111", "aaaaaaa", "placeholder", "redacted", "...", "your-", "your_", "changeme", "eyjzdwiioiixmjm0nty3odkw"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	if entropy(value) < 2.5 {
		return true
	}
	base := path.Base(t.subject.folded)
	shown := t.fixture || slices.Contains(proseEnds[:8], path.Ext(base)) && path.Ext(base) != ".txt" || strings.Contains(base, "example") || strings.Contains(base, "sample") || strings.Contains(base, "template")
	return shown && slices.ContainsFunc([]string{"example", "1234567890", "abcdefghij", "deadbeef", "dummy", "fake", "notreal", "testtest"}, func(w string) bool { return strings.Contains(low, w) })
}

// entropy returns the bits of information for each letter of a text.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

// generic looks for values of settings whose names say that they are secret. Names of
// settings are in all programs, so the values are held to more.
func (t *text) generic() {
	if t.genre == prose || t.fixture || isLock(t.subject.folded) || len(t.found["secret"]) > 0 {
		return
	}
	ext, base := path.Ext(t.subject.folded), path.Base(t.subject.folded)
	patterns := []func() *regexp.Regexp{assigned}
	if strings.HasPrefix(base, ".env") || slices.Contains([]string{".env", ".ini", ".properties", ".yaml", ".yml", ".conf", ".cfg"}, ext) {
		patterns = append(patterns, exported)
	}
	for _, word := range []string{"key", "secret", "token", "passw", "passphrase", "credential"} {
		for at := 0; at < len(t.low); {
			i := bytes.Index(t.low[at:], []byte(word))
			if i < 0 {
				break
			}
			start := bytes.LastIndexByte(t.low[:at+i], '\n') + 1
			line, _, _ := bytes.Cut(t.added[start:], []byte{'\n'})
			rest := line[min(len(line), at+i-start):]
			at = start + len(line) + 1
			if len(line) <= mostCommand && bytes.ContainsAny(rest, "=:") {
				t.assignments(start, line, patterns)
			}
		}
	}
}

// assignments looks for secret values in a line.
func (t *text) assignments(start int, line []byte, patterns []func() *regexp.Regexp) {
	for _, p := range patterns {
		for _, m := range p().FindAllSubmatchIndex(line, mostPlaces) {
			value, name := string(line[m[2]:m[3]]), strings.ToLower(string(line[m[0]:m[2]]))
			harmless := slices.ContainsFunc([]string{"public", "hash", "checksum", "integrity", "digest"}, func(w string) bool { return strings.Contains(name, w) })
			if !harmless && randomValue(value) {
				t.secret(start+m[2], "a value of high entropy", value)
			}
		}
	}
}

var uuid = expression(`^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// digest matches hashes of files and commits, which are as random as secrets.
var digest = expression(`^(?:[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$`)

// randomValue reports whether a value looks as if no person had thought of it.
func randomValue(v string) bool {
	low := strings.ToLower(v)
	if slices.ContainsFunc(stopWords, func(w string) bool { return strings.Contains(low, w) }) || uuid().MatchString(v) || digest().MatchString(v) || strings.ContainsAny(v, "(){}[]<>$%\\ ;,*") ||
		strings.HasPrefix(low, "sha") || strings.Contains(v, "://") || strings.Count(v, "/") > 2 || strings.Count(v, ".") > 2 {
		return false
	}
	var digits, upper, lower int
	for i := range len(v) {
		switch b := v[i]; {
		case b >= '0' && b <= '9':
			digits++
		case b >= 'A' && b <= 'Z':
			upper++
		case b >= 'a' && b <= 'z':
			lower++
		}
	}
	if digits < 2 || upper+lower < 3 || digits+upper+lower < len(v)*3/4 {
		return false
	}
	// Words with a number, such as session-token-2024, change between letters and digits
	// once or twice.
	changes := 0
	for i := 1; i < len(v); i++ {
		if isAlnum(v[i]) && isAlnum(v[i-1]) && (v[i] <= '9') != (v[i-1] <= '9') {
			changes++
		}
	}
	return changes >= 3 && entropy(v) >= 3.5
}

// addresses looks for addresses with a password.
func (t *text) addresses() {
	for _, m := range address().FindAllSubmatchIndex(t.added, 256) {
		part := func(i int) string { return string(t.added[m[2*i]:m[2*i+1]]) }
		scheme, user, password, host := strings.ToLower(part(1)), part(2), part(3), strings.ToLower(part(4))
		switch {
		case commonPassword(scheme, user, password, host):
		case t.fixture && !t.obeyed:
			t.note("url-password", m[0], "an address with a password in what tests read")
		default:
			t.report("url-password", m[0], Finding{Detail: scheme + "://…@" + host})
		}
	}
}

// commonPassword reports whether an address is one that people write to show what goes where.
func commonPassword(scheme, user, password, host string) bool {
	if strings.ContainsAny(user+password, "$%{}<>*[]|\\") && !percentCoded(password) {
		return true
	}
	low := strings.ToLower(password)
	shown := []string{"password", "passwd", "pass", "pwd", "secret", "token", "user", "username", "postgres", "root", "admin", "guest", "mysql", "redis", "mongo", "rabbitmq",
		"minio", "minioadmin", "example", "changeme", "test", "dev", "development", "xxx", "xxxx", "...", "db", "app", "your-password", "your_password", "mypassword", "pw"}
	if slices.Contains(shown, low) || strings.HasSuffix(host, "example.com") || strings.HasSuffix(host, "example.org") || strings.HasSuffix(host, ".example") || strings.HasSuffix(host, ".test") || strings.HasSuffix(host, ".invalid") {
		return true
	}
	if scheme == "http" || scheme == "https" || scheme == "ssh" || scheme == "ftp" || scheme == "git" {
		return false
	}
	// What only answers on this computer, or in a network of containers, is a secret of nobody.
	return host == "localhost" || strings.HasPrefix(host, "127.") || !strings.Contains(host, ".")
}

func percentCoded(s string) bool {
	for i := range len(s) {
		if s[i] == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) || strings.IndexByte("${}<>*[]|\\", s[i]) >= 0 {
			return false
		}
	}
	return true
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

// placeholders looks for what stands for the machine's own secrets.
func (t *text) placeholders() {
	for _, p := range t.subject.set.in.Host.Placeholders {
		if i := bytes.Index(t.added, []byte(p)); i >= 0 && p != "" {
			t.report("placeholder", i, Finding{Detail: masked(p)})
		}
	}
	if !bytes.Contains(t.added, []byte("mayfly-")) {
		return
	}
	for _, m := range standIn().FindAllIndex(t.added, mostPlaces) {
		t.report("placeholder", m[0], Finding{Detail: masked(string(t.added[m[0]:m[1]]))})
	}
}

// lockNames are files of the versions and hashes that an installation takes.
var lockNames = []string{"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "go.sum", "go.work.sum", "cargo.lock", "poetry.lock",
	"uv.lock", "pdm.lock", "pipfile.lock", "pylock.toml", "gemfile.lock", "composer.lock", "mix.lock", "packages.lock.json", "gradle.lockfile", ".terraform.lock.hcl", "flake.lock",
	"module.bazel.lock", "deno.lock", "podfile.lock", "package.resolved", "pubspec.lock", "pixi.lock"}

func isLock(folded string) bool { return slices.Contains(lockNames, path.Base(folded)) }
