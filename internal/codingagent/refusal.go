package codingagent

import (
	"encoding/json"
	"net/http"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// ErrorForm is the form in which a provider's API says what is wrong.
type ErrorForm string

// The forms; "" is a text.
const (
	AnthropicErrors ErrorForm = "anthropic" // docs.anthropic.com/en/api/errors
	OpenAIErrors    ErrorForm = "openai"    // platform.openai.com/docs/guides/error-codes
	GoogleErrors    ErrorForm = "google"    // google.aip.dev/193
	GitHubErrors    ErrorForm = "github"    // docs.github.com/rest
)

// Refusal returns the body with which a request to host is refused, in the form that the
// clients of that host understand; nil if nothing is known of it.
func Refusal(host string, status int, message string) []byte {
	form := ErrorForm("")
	for _, a := range Agents() {
		for _, h := range a.Hosts {
			if form == "" && credential.Covers(h.Name, host) {
				form = h.Errors
			}
		}
	}
	denied := status >= 400 && status < 500
	word := func(yes, no string) string {
		if denied {
			return yes
		}
		return no
	}
	var body any
	switch form {
	case AnthropicErrors:
		body = object{"type": "error", "error": object{"type": word("permission_error", "api_error"), "message": message}}
	case OpenAIErrors:
		body = object{"error": object{
			"message": message, "type": word("permission_error", "server_error"), "param": nil, "code": "refused_by_mayfly",
		}}
	case GoogleErrors:
		body = object{"error": object{"code": status, "message": message, "status": word("PERMISSION_DENIED", "UNAVAILABLE")}}
	case GitHubErrors:
		body = object{"message": message, "status": http.StatusText(status)}
	default:
		return nil
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil
	}
	return append(b, '\n')
}
