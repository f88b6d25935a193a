package provider

import (
	"net/http"
	"strings"
)

// serveGitHub says who has a token, and where Copilot's models are for them.
func serveGitHub(s *Server, w http.ResponseWriter, r *http.Request, c *Call) {
	if !s.knows(c) {
		s.failed(w, c, http.StatusUnauthorized, "Bad credentials")
		return
	}
	switch {
	case r.URL.Path == "/user":
		writeJSON(w, object{"login": "somebody", "id": 1})
	case strings.HasPrefix(r.URL.Path, "/copilot_internal/"):
		writeJSON(w, object{
			"login": "somebody", "access_type_sku": "plus_monthly_subscriber_quota", "copilot_plan": "individual_pro", "chat_enabled": true,
			"cli_enabled": true, "endpoints": object{"api": "https://api.githubcopilot.com"},
		})
	default:
		s.failed(w, c, http.StatusNotFound, "Not Found")
	}
}

func gitHubError(status int, message string) any {
	return object{"message": message, "status": http.StatusText(status)}
}

// serveNothing stands for what agents can do without: opencode's catalogue of models, and
// news of programs, which GitHub has.
func serveNothing(s *Server, w http.ResponseWriter, r *http.Request, c *Call) {
	s.failed(w, c, http.StatusNotFound, "no such thing")
}
