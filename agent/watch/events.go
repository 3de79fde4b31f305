package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/millrace/millrace/cluster"
)

const (
	// eventLife is how long an API server keeps an Event when nobody told it otherwise.
	// What is still so then is told again.
	eventLife  = time.Hour
	eventQueue = 256 // more at once are told later
	eventBurst = 25  // at once; then one a second
	// eventMessage is the API's limit, in bytes.
	eventMessage = 1024
)

// warning is what one Event says. All nodes that say the same are one Event.
type warning struct {
	about           cluster.Ref
	reason, message string
}

// recorder writes Events. What was told is not told again for as long as the server keeps
// it; what could not be told may be told again.
type recorder struct {
	client rest.Interface
	node   string
	queue  chan warning
	report func(error)

	mu   sync.Mutex
	told map[warning]time.Time
}

func newRecorder(client rest.Interface, node string, report func(error)) *recorder {
	return &recorder{client: client, node: node, report: report, queue: make(chan warning, eventQueue), told: map[warning]time.Time{}}
}

// warn queues a warning unless it was told already. It never waits.
func (r *recorder) warn(w warning) {
	w.message = strings.ToValidUTF8(w.message[:min(len(w.message), eventMessage)], "")
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.told[w]; ok && now.Sub(at) < eventLife {
		return
	}
	select {
	case r.queue <- w:
		r.told[w] = now
	default: // full: whoever says it again is heard
	}
	for old, at := range r.told {
		if now.Sub(at) >= eventLife {
			delete(r.told, old)
		}
	}
}

// run writes what is queued until ctx ends.
func (r *recorder) run(ctx context.Context) {
	limit := rate.NewLimiter(1, eventBurst)
	for {
		if limit.Wait(ctx) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case w := <-r.queue:
			err := r.write(ctx, w)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				r.mu.Lock()
				delete(r.told, w)
				r.mu.Unlock()
			}
			r.report(err)
		}
	}
}

// write makes the Event. Its name follows from what it says, so that a second one of
// another node is refused by the server, and that is well.
func (r *recorder) write(ctx context.Context, w warning) error {
	namespace := orDefault(w.about.Namespace)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", w.about.String(), w.about.UID, w.reason, w.message))
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: w.about.Name[:min(len(w.about.Name), 200)] + "." + hex.EncodeToString(sum[:8])},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: w.about.APIVersion, Kind: w.about.Kind, Namespace: w.about.Namespace, Name: w.about.Name, UID: types.UID(w.about.UID),
		},
		Type: corev1.EventTypeWarning, Reason: w.reason, Message: w.message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: "millrace-agent", Host: r.node},
		ReportingController: "millrace.io/agent", ReportingInstance: r.node,
	}
	err := r.client.Post().Namespace(namespace).Resource("events").Body(event).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("write event on %s: %w", w.about, err)
	}
	return nil
}

// Warn tells the author of an object, by a Kubernetes Event of type Warning, what could
// not be done with it. Saying the same again changes nothing. It does not wait for the
// server, and a server that is away loses it: say it again while it is so.
func (a *API) Warn(about cluster.Ref, reason, message string) {
	a.recorder.warn(warning{about, reason, message})
}
