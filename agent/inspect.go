package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/cluster"
	"github.com/millrace/millrace/dataplane"
	"github.com/millrace/millrace/policy"
)

// View is what the loop knows, wants and has, between two rounds.
type View struct {
	Node  string
	Facts cluster.Snapshot
	Want  dataplane.State
	Have  dataplane.State
	// Problems are the policies that fail closed on the node, each with its reason.
	Problems []policy.Problem
}

// problems is one line for each.
func (v View) problems() string {
	var b strings.Builder
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%s: %s: %s\n", p.Object, p.Reason, strings.ReplaceAll(p.Err.Error(), "\n", "; "))
	}
	return b.String()
}

// viewPatience is how long a question waits for the loop, which may be in a round.
const viewPatience = 10 * time.Second

// View asks the loop. It fails while the agent has no dataplane.
func (a *Agent) View(ctx context.Context) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, viewPatience)
	defer cancel()
	answer := make(chan View, 1)
	select {
	case a.questions <- answer:
		return <-answer, nil
	case <-ctx.Done():
		o, _ := a.latest()
		return View{}, fmt.Errorf("ask the agent's loop: %w", errors.Join(context.Cause(ctx), o.down))
	}
}

// view answers a question, from within the loop.
func (r *round) view() View {
	return View{Node: r.agent.config.Node, Facts: r.facts, Want: r.want, Have: r.have, Problems: r.problems}
}

// ServeViews answers GET /node, /facts, /want, /have and /problems on a listener, each in
// its text form, until ctx ends. What secrets hold is not in it.
func (a *Agent) ServeViews(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	for path, text := range map[string]func(View) string{
		"GET /node":  func(v View) string { return v.Node + "\n" },
		"GET /facts": func(v View) string { return v.Facts.String() },
		"GET /want":  func(v View) string { return v.Want.String() },
		"GET /have":  func(v View) string { return v.Have.String() },

		"GET /problems": View.problems,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			v, err := a.View(r.Context())
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, text(v)) // one that goes away is no error of ours
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve views: %w", err)
	}
	return nil
}

// Views asks an agent, in another process, by its socket.
type Views struct{ Socket string }

// Node is the name of the agent's node.
func (v Views) Node(ctx context.Context) (string, error) {
	text, err := v.Text(ctx, "node")
	return strings.TrimSpace(text), err
}

// Facts are what the agent knows, attachments included.
func (v Views) Facts(ctx context.Context) (cluster.Snapshot, error) {
	return ask(ctx, v, "facts", cluster.ParseSnapshot)
}

// Want is what its dataplane should have.
func (v Views) Want(ctx context.Context) (dataplane.State, error) {
	return ask(ctx, v, "want", dataplane.ParseState)
}

// Have is what its dataplane has acknowledged.
func (v Views) Have(ctx context.Context) (dataplane.State, error) {
	return ask(ctx, v, "have", dataplane.ParseState)
}

// Problems are the policies that fail closed on the node, one text for each.
func (v Views) Problems(ctx context.Context) ([]string, error) {
	text, err := v.Text(ctx, "problems")
	return slices.Collect(strings.Lines(text)), err
}

func ask[T any](ctx context.Context, v Views, what string, parse func(string) (T, error)) (T, error) {
	text, err := v.Text(ctx, what)
	var value T
	if err == nil {
		value, err = parse(text)
	}
	if err != nil {
		return value, fmt.Errorf("ask the agent for %s: %w", what, err)
	}
	return value, nil
}

// Text is one of node, facts, want, have and problems, as the agent prints it.
func (v Views) Text(ctx context.Context, what string) (string, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", v.Socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/"+what, nil)
	if err != nil {
		return "", err
	}
	reply, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s: %s", reply.Status, strings.TrimSpace(string(text)))
	}
	return string(text), err
}
