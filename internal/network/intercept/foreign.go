package intercept

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// The hosts of a secret are for that secret alone: with a credential of somebody else's a
// machine would work, and publish, in that one's account. What may be one is not told by a
// list of names that hold credentials, for each service makes up its own, but by these
// lists of what holds none.

// harmless are headers that no service takes a credential from, in lower case.
var harmless = []string{
	"accept", "accept-charset", "accept-encoding", "accept-language", "accept-datetime",
	"access-control-request-headers", "access-control-request-method",
	"baggage", "cache-control", "connection", "date", "dnt", "expect", "from", "host", "keep-alive", "max-forwards",
	"origin", "pragma", "prefer", "priority", "range", "referer", "te", "trailer", "transfer-encoding", "upgrade",
	"upgrade-insecure-requests", "user-agent", "want-digest", "digest", "last-event-id", "idempotency-key",
	"traceparent", "tracestate", "sentry-trace", "b3",
	"sec-websocket-key", "sec-websocket-version", "sec-websocket-accept", "sec-websocket-extensions", "sec-gpc",
	"http-referer", "x-title", "x-requested-with", "x-request-id", "x-correlation-id", "x-app", "x-user-agent",
	"x-client-version", "x-client-name", "x-client-app", "x-client-request-id", "x-client-trace-id",
	// coding agents
	"originator", "version", "session_id", "session-id", "conversation_id", "conversation-id", "thread_id", "thread-id",
	"chatgpt-account-id", "x-initiator", "x-interaction-id", "x-interaction-type", "x-agent-task-id", "x-session-affinity",
	"editor-version", "editor-plugin-version", "x-organization-uuid", "x-service-name", "x-client-machine-id", "x-client-session-id",
	"x-mcp-host", "x-mcp-tools", "x-mcp-toolsets", "x-mcp-readonly", "runtime-client-version",
	// git and package managers
	"git-protocol", "graphql-features", "npm-auth-type", "npm-otp", "cargo-protocol", "x-local-names", "x-http-method-override",
	// services
	"notion-version", "stripe-version", "x-server-timeout", "x-ms-client-request-id", "x-ms-useragent",
}

// harmlessBegins are what headers of one maker begin with, unless they are named like
// credentials.
var harmlessBegins = []string{
	"content-", "if-", "sec-fetch-", "sec-ch-", "x-b3-", "x-datadog-", "x-trace-", "x-sdk-",
	"anthropic-", "x-anthropic-", "x-claude-", "openai-", "x-openai-", "x-oai-", "x-codex-", "x-responsesapi-",
	"x-stainless-", "x-goog-api-client", "x-goog-request-", "x-goog-user-project", "x-goog-fieldmask", "x-gemini-",
	"copilot-", "x-copilot-", "vscode-", "x-vscode-", "x-github-api-", "x-github-media-", "x-github-repository-", "x-opencode-", "x-openrouter-", "mcp-",
	"npm-", "pacote-",
}

// sessionWord is one more for parameters. In headers it is a number for what belongs
// together.
var sessionWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)session`) })

// subprotocols are those of WebSocket that are no credential in the place of a protocol.
var subprotocols = []string{
	"realtime", "openai-beta.realtime-v1", "openai-beta.responses-v1", "mcp", "json", "graphql-ws", "graphql-transport-ws",
	"graphql-transport-ws-v1", "v4.channel.k8s.io", "v5.channel.k8s.io", "actioncable-v1-json",
}

// passes reports whether a header of the guest's goes on to a host that takes only its
// secrets' credentials.
func (f *filling) passes(name string, values []string) bool {
	name = strings.ToLower(name)
	switch {
	case name == "sec-websocket-protocol":
		return !slices.ContainsFunc(values, func(v string) bool {
			return slices.ContainsFunc(strings.Split(v, ","), func(p string) bool { return !slices.Contains(subprotocols, strings.TrimSpace(p)) })
		})
	case slices.Contains(harmless, name):
		return true
	case slices.ContainsFunc(harmlessBegins, func(b string) bool { return strings.HasPrefix(name, b) }):
		return !credential.Named(name)
	}
	return f.lets(name)
}

// lets reports whether the user lets a header, or a parameter behind a "?", pass to the
// host.
func (f *filling) lets(name string) bool {
	for _, s := range f.own {
		if slices.Contains(s.Pass, name) {
			return true
		}
	}
	return false
}

// harmlessParameters are parameters of queries that are no credentials, in lower case and
// without a "$" before them.
var harmlessParameters = strings.Fields(`
	authors keyword keywords max_tokens maxtokens
	action actor affiliation after aggregate after_id all alt api-version api_version apiversion arch archived assignee author
	base before before_id beta body branch bucket_width category channel charset check_name client_version columns commit
	conclusion content content_type continuation_token continuationtoken count count_only created creator currency cursor
	dateformat debug delimiter depth desc diff direction dry_run dryrun embed encoding end end_date end_time ending_before
	environment event exclude exclude_pull_requests expand ext extension field fields file filename filter filters force format
	from granularity group group_by groupby head homepage id ids include include_all include_usage interval job kind label
	labels lang language level limit line lines locale maintainer max max_id max_results maxresults mentioned message metric
	metrics milestone min mode model modified name names namespace next_page_token nextpagetoken offset order order_by orderby
	org os output owner package packages page page_size page_token pagesize pagetoken participating path per_page perpage
	platform plain popularity prefix pretty project project_id pull_number purpose q quality quantity query range raw recursive
	ref refs region registry release repo repository revision role run_id scope search select service sha show since since_id
	size skip sort sort_by source start start_date start_time starting_after state status stream subscribed tag tags take target
	team template term text thread_id time timeout timestamp timezone title to topic tz type types uid unread until updated
	updated_after updated_before user username v value variant version view visibility wait workflow workspace write zone`)

// maxHarmless is the most letters that a value may have in a parameter of which nothing is
// known: no service has credentials that are as short.
const maxHarmless = 12

// passesParameter reports whether a parameter of the guest's goes on to such a host.
func (f *filling) passesParameter(name, value string) bool {
	lower := strings.ToLower(name)
	if f.lets("?" + lower) {
		return true
	}
	base, _, _ := strings.Cut(strings.TrimLeft(lower, "$"), "[")
	if slices.Contains(harmlessParameters, base) {
		return true
	}
	// "a" without a value, in a URL that ends with "?TOKEN".
	if value == "" {
		return len(name) <= maxHarmless || !strings.ContainsAny(name, "0123456789")
	}
	if words := splitWords(name); credential.Named(words) || sessionWord().MatchString(words) {
		return false
	}
	return len(value) <= maxHarmless || strings.Trim(value, "0123456789.,:-TZ") == "" && len(value) <= 2*maxHarmless
}

// splitWords writes "apiSig" as "api-Sig".
func splitWords(name string) string {
	return camel().ReplaceAllString(name, "$1-$2")
}

var camel = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`([a-z0-9])([A-Z])`) })

// tokens are the shapes of credentials that are told from any other text.
var tokens = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\b(?:gh[pousr]_[0-9A-Za-z]{20}|github_pat_[0-9A-Za-z_]{20}|gl(?:pat|dt|rt|ft|cbt|ptt|soat|agent)-[0-9A-Za-z_-]{20}` +
		`|sk-(?:ant|proj|svcacct|admin|None|or-v1)-[0-9A-Za-z_-]{20}|sk-[0-9A-Za-z]{32}|[sr]k_(?:live|test)_[0-9A-Za-z]{16}` +
		`|xox[abeoprs]-[0-9]{6,}-[0-9A-Za-z-]{10}|AIza[0-9A-Za-z_-]{30}|ya29\.[0-9A-Za-z_-]{20}` +
		`|npm_[0-9A-Za-z]{30}|pypi-AgE[0-9A-Za-z_-]{20}|hf_[0-9A-Za-z]{30}|(?:AKIA|ASIA)[0-9A-Z]{16}\b` +
		`|eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.|bot[0-9]{6,}:[0-9A-Za-z_-]{30}|T[0-9A-Z]{8,}/B[0-9A-Z]{8,}/[0-9A-Za-z]{20})`)
})

// credentialPath matches the parts of paths in which some services take a credential.
var credentialPath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)[/;](?:access_?token|api_?key|private_?token|auth_?token|token|sig|signature|jsessionid)=`)
})

// looksForeign reports whether a path holds what looks like a credential. That is all that
// can be told of paths: rules on paths say more.
func looksForeign(path string) bool {
	return tokens().MatchString(path) || credentialPath().MatchString(path)
}
