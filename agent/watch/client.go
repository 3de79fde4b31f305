package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// clientConfig reads a kubeconfig; an empty path is the service account of the pod that
// this process runs in.
func clientConfig(path string) (*rest.Config, error) {
	if path == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", path)
}

// clients are one client for each API group that facts come from, over one connection.
type clients struct {
	core, networking, discovery, policy rest.Interface
}

func newClients(config *rest.Config, agent string) (clients, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme, policyv1alpha2.Install} {
		if err := add(scheme); err != nil {
			return clients{}, err
		}
	}
	config = rest.CopyConfig(config)
	config.UserAgent = agent
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.WarningHandler = rest.NoWarnings{}
	// There are few requests, and the server's own fairness limits them better.
	config.QPS = -1
	connection, err := rest.HTTPClientFor(config)
	if err != nil {
		return clients{}, err
	}
	var c clients
	for _, group := range []struct {
		client  *rest.Interface
		version schema.GroupVersion
		content string
	}{
		{&c.core, corev1.SchemeGroupVersion, runtime.ContentTypeProtobuf},
		{&c.networking, networkingv1.SchemeGroupVersion, runtime.ContentTypeProtobuf},
		{&c.discovery, discoveryv1.SchemeGroupVersion, runtime.ContentTypeProtobuf},
		{&c.policy, schema.GroupVersion(policyv1alpha2.GroupVersion), runtime.ContentTypeJSON},
	} {
		if *group.client, err = restClient(config, connection, group.version, group.content); err != nil {
			return clients{}, err
		}
	}
	return c, nil
}

func restClient(config *rest.Config, connection *http.Client, version schema.GroupVersion, content string) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion, config.ContentType = &version, content
	config.APIPath = "/apis"
	if version.Group == "" {
		config.APIPath = "/api"
	}
	return rest.RESTClientForConfigAndClient(config, connection)
}

// source is where the objects of one kind are listed and watched.
type source struct {
	client   rest.Interface
	resource string
	labels   string // label selector
	object   runtime.Object
	optional bool // the server need not know the kind
}

// follower is a table, whatever it holds.
type follower interface {
	cache.TransformingStore
	heard()
	absent()
}

// follow keeps a table as the server has it, until ctx ends. report is told of each
// attempt to reach the server.
func follow(ctx context.Context, s source, t follower, options cache.ReflectorOptions, report func(error)) {
	attempt := func(err error) error {
		switch {
		case err == nil:
			t.heard()
		case s.optional && apierrors.IsNotFound(err):
			t.absent()
			err = nil
		case ctx.Err() != nil:
			return err
		}
		report(err)
		return err
	}
	request := func(o metav1.ListOptions) *rest.Request {
		o.LabelSelector = s.labels
		return s.client.Get().Resource(s.resource).VersionedParams(&o, metav1.ParameterCodec)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := request(o).Do(ctx).Get()
			if attempt(err) != nil || err != nil {
				return nil, err
			}
			return reduce(list, t.Transformer())
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			w, err := request(o).Watch(ctx)
			if !s.optional || !apierrors.IsNotFound(err) { // whether it is there, the list says
				err = attempt(err)
			}
			return w, err
		},
	}
	cache.NewReflectorWithOptions(lw, s.object, t, options).RunWithContext(ctx)
}

// reduce makes a list one of items, so that no whole object outlives its page.
func reduce(list runtime.Object, transform cache.TransformFunc) (runtime.Object, error) {
	from, err := meta.ListAccessor(list)
	if err != nil {
		return nil, fmt.Errorf("read a list: %w", err)
	}
	to := &metav1.List{ListMeta: metav1.ListMeta{
		ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue(), RemainingItemCount: from.GetRemainingItemCount(),
	}}
	err = meta.EachListItem(list, func(o runtime.Object) error {
		i, err := transform(o)
		if err == nil {
			to.Items = append(to.Items, runtime.RawExtension{Object: i.(runtime.Object)})
		}
		return err
	})
	return to, err
}

// quiet has client-go say at level debug whatever it says: what goes wrong is reported by
// those that see it first, above.
func quiet(ctx context.Context, log *slog.Logger) context.Context {
	return klog.NewContext(ctx, logr.FromSlogHandler(debugHandler{log.Handler()}))
}

type debugHandler struct{ slog.Handler }

// Enabled leaves out what client-go itself takes for details.
func (h debugHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h debugHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil // logr does not ask before it tells of an error
	}
	return h.Handler.Handle(ctx, r)
}

func (h debugHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return debugHandler{h.Handler.WithAttrs(attrs)}
}

func (h debugHandler) WithGroup(name string) slog.Handler {
	return debugHandler{h.Handler.WithGroup(name)}
}
