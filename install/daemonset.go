package install

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// accountDir is where a pod finds its service account.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// DaemonSet asks the API server about the DaemonSet that this process is a pod of.
type DaemonSet struct {
	namespace, name string
	server          string // URL without a path
	token           string // file; read for each question, since tokens are renewed
	client          *http.Client
	seen            bool // the server has answered a question
}

// NewDaemonSet reads a pod's own environment and service account. which is namespace/name.
func NewDaemonSet(which string) (*DaemonSet, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("find API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this works in a pod only")
	}
	return newDaemonSet(which, "https://"+net.JoinHostPort(strings.Trim(host, "[]"), port), accountDir)
}

func newDaemonSet(which, server, account string) (*DaemonSet, error) {
	namespace, name, ok := strings.Cut(which, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q: want namespace/name of a DaemonSet", which)
	}
	ca, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read service account: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read service account: %s/ca.crt holds no certificate", account)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	return &DaemonSet{
		namespace: namespace, name: name, server: server, token: filepath.Join(account, "token"),
		client: &http.Client{Transport: transport, Timeout: 5 * time.Second},
	}, nil
}

// Going says whether the DaemonSet is gone or going: it is not there, it is marked for
// deletion, or (uninstalling deletes those in any order) the rights to ask or the account
// itself are gone that this process had before.
func (d *DaemonSet) Going(ctx context.Context) (bool, error) {
	status, body, err := d.get(ctx)
	if err != nil {
		return false, fmt.Errorf("ask for DaemonSet %s/%s: %w", d.namespace, d.name, err)
	}
	switch status {
	case http.StatusOK:
		d.seen = true
		var object struct {
			Metadata struct {
				DeletionTimestamp *string `json:"deletionTimestamp"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(body, &object); err != nil {
			return false, fmt.Errorf("ask for DaemonSet %s/%s: %w", d.namespace, d.name, err)
		}
		return object.Metadata.DeletionTimestamp != nil, nil
	case http.StatusNotFound:
		return true, nil
	case http.StatusForbidden, http.StatusUnauthorized:
		if d.seen {
			return true, nil
		}
	}
	return false, fmt.Errorf("ask for DaemonSet %s/%s: the API server answers %d: %.200s", d.namespace, d.name, status, body)
}

func (d *DaemonSet) get(ctx context.Context) (status int, body []byte, err error) {
	token, err := os.ReadFile(d.token)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/apis/apps/v1/namespaces/%s/daemonsets/%s", d.server, d.namespace, d.name), nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", "application/json")
	answer, err := d.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, body, err
}
