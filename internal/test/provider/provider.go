// Package provider is a fake of the services behind coding agents: the APIs in which
// Anthropic, OpenAI, Google, GitHub and opencode offer their models.
//
// In comes what an agent asks a model, over HTTP or a WebSocket; out goes, in the form of
// that API, what a model would say that does a Task: first it has the agent write a file,
// then run a command, and then it says that it is done. How far a conversation is shows in
// the conversation itself, so that a question that is asked again gets the same answer. A
// question that is about no task, or offers no tools, as for the title of a conversation,
// gets a short text.
//
// The package opens no socket: a Server is a handler for requests to all names of Names.
package provider

import (
	"cmp"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Task is what a model has an agent do.
type Task struct {
	Prompt  string // is in what the agent is asked, and in nothing else
	File    string // absolute; the agent writes it. Without one it only answers
	Text    string // into it, lines
	Command string // then it runs that
	Answer  string // and this is what it says in the end
}

// The steps of a task, in their order, and what belongs to none.
const (
	StepWrite  = "write"
	StepRun    = "run"
	StepAnswer = "answer"
	StepAside  = "aside"
)

// Call is a request as a service got it.
type Call struct {
	Host   string
	Method string
	Path   string // without the query
	Key    string // the credential that came with it
	Model  string // that is asked, if one is
	Step   string // what the model answered; "" if none is asked
	// Earlier is how many tasks the conversation had before this one.
	Earlier int
	Status  int // of the answer
	// Question is what a model is asked by HTTP, as it came.
	Question string
}

// maxRequest bounds what a request may say, in bytes.
const maxRequest = 16 << 20

// service is one API, at one host or more.
type service struct {
	serve func(*Server, http.ResponseWriter, *http.Request, *Call)
	fail  func(status int, message string) any // the body of an error
}

func services() map[string]service {
	openAI := service{serveOpenAI, openAIError}
	return map[string]service{
		"api.anthropic.com":                 {serveAnthropic, anthropicError},
		"api.openai.com":                    openAI,
		"chatgpt.com":                       openAI,
		"opencode.ai":                       openAI,
		"models.opencode.ai":                {serveNothing, openAIError},
		"raw.githubusercontent.com":         {serveNothing, gitHubError},
		"generativelanguage.googleapis.com": {serveGoogle, googleError},
		"api.github.com":                    {serveGitHub, gitHubError},
		"api.githubcopilot.com":             openAI,
	}
}

// Names returns the hosts that a server answers for, sorted.
func Names() []string {
	var names []string
	for name := range services() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Server answers for all hosts. Its methods may be called from several goroutines.
type Server struct {
	keys  map[string]string
	tasks []Task
	// In the place of a key: at an API, what gives the token that is valid there.
	tokens    map[string]*Tokens
	endpoints map[string]*Tokens

	mu       sync.Mutex
	calls    []Call
	failures []int
	answers  int              // that were given, to number them
	states   map[string]state // by the response that a next question names
}

// New returns a server whose models do tasks for who has the key of their host in keys.
func New(keys map[string]string, tasks ...Task) *Server {
	return &Server{keys: keys, tasks: tasks, states: make(map[string]state)}
}

// Renew has api take the access tokens of t, in the place of a key, and endpoint, the name of
// another host, renew them. It is to be called before the server is used.
func (s *Server) Renew(api, endpoint string, t *Tokens) {
	if s.tokens == nil {
		s.tokens, s.endpoints = make(map[string]*Tokens), make(map[string]*Tokens)
	}
	s.tokens[api], s.endpoints[endpoint] = t, t
}

// Calls returns the requests that came, in their order.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Fail has the next questions to a model fail, each with one of these statuses: 401, 429,
// 529.
func (s *Server) Fail(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, statuses...)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	call := Call{Host: host, Method: r.Method, Path: r.URL.Path, Key: key(r), Status: http.StatusOK}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	if endpoint := s.endpoints[host]; endpoint != nil {
		endpoint.ServeHTTP(w, r)
	} else if service, ok := services()[host]; ok {
		service.serve(s, w, r, &call)
	} else {
		call.Status = http.StatusNotFound
		http.NotFound(w, r)
	}
	s.record(call)
}

// says notes what a model answers.
func (c *Call) says(model string, m move) { c.Model, c.Step, c.Earlier = model, m.step, m.earlier }

func (s *Server) record(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// number returns another number each time.
func (s *Server) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers++
	return s.answers
}

// key returns the credential of a request.
func key(r *http.Request) string {
	authorization := r.Header.Get("Authorization")
	if scheme, token, ok := strings.Cut(authorization, " "); ok && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "token")) {
		authorization = token
	}
	return cmp.Or(r.Header.Get("X-Api-Key"), r.Header.Get("X-Goog-Api-Key"), authorization, r.URL.Query().Get("key"))
}

// knows reports whether c came with the key of its host.
func (s *Server) knows(c *Call) bool {
	key := s.keys[c.Host]
	if t := s.tokens[c.Host]; t != nil {
		key = t.Access()
	}
	return c.Key != "" && c.Key == key
}

// refused says why a model does not answer, with the status 0 if it does.
func (s *Server) refused(c *Call) (status int, why string) {
	if !s.knows(c) {
		return http.StatusUnauthorized, "invalid key"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) == 0 {
		return 0, ""
	}
	status, s.failures = s.failures[0], s.failures[1:]
	return status, "failed as it was told to"
}

// failed answers with an error.
func (s *Server) failed(w http.ResponseWriter, c *Call, status int, why string) {
	c.Status = status
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(services()[c.Host].fail(status, why))
}

// asked reads a question to a model into v. It answers itself, and reports false, where the
// model does not.
func (s *Server) asked(w http.ResponseWriter, r *http.Request, c *Call, v any) bool {
	body, err := io.ReadAll(r.Body)
	c.Question = string(body)
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		s.failed(w, c, http.StatusBadRequest, err.Error())
		return false
	}
	if status, why := s.refused(c); status != 0 {
		s.failed(w, c, status, why)
		return false
	}
	return true
}

// object is a JSON object.
type object map[string]any

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// events is a stream of server-sent events.
type events struct{ w http.ResponseWriter }

func newEvents(w http.ResponseWriter) events {
	w.Header().Set("Content-Type", "text/event-stream")
	return events{w}
}

// send sends an event, with a name if it has one.
func (e events) send(name string, v any) {
	if name != "" {
		io.WriteString(e.w, "event: "+name+"\n")
	}
	io.WriteString(e.w, "data: "+quote(v)+"\n\n")
	http.NewResponseController(e.w).Flush()
}
