package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/millrace/millrace/cni/cnipb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sampleReply() *cnipb.AddReply {
	return &cnipb.AddReply{
		Interfaces: []*cnipb.Interface{
			{Name: "pod/default/web/eth0/1f", Mtu: 1500},
			{Name: "eth0", Mac: "02:00:00:00:00:01", Mtu: 1500, Sandbox: "/run/netns/c1"},
		},
		Ips: []*cnipb.IP{
			{Address: "10.1.0.2/32", Gateway: "169.254.1.1", Interface: 1},
			{Address: "fd00::2/128", Gateway: "fe80::1", Interface: 1},
		},
		Routes: []*cnipb.Route{
			{Destination: "169.254.1.1/32"},
			{Destination: "0.0.0.0/0", Gateway: "169.254.1.1", Mtu: 1400},
			{Destination: "::/0", Gateway: "fe80::1"},
		},
	}
}

// memifReply is a pod with a memif beside its kernel device.
func memifReply() *cnipb.AddReply {
	r := sampleReply()
	r.Interfaces = append(r.Interfaces,
		&cnipb.Interface{Name: "pod/default/web/memif0/2f", Mac: "02:00:00:00:00:02", Mtu: 1500},
		&cnipb.Interface{Name: "memif0", Mtu: 1500, Sandbox: "/run/netns/c1", SocketPath: "@millrace/memif0"})
	r.Ips = append(r.Ips, &cnipb.IP{Address: "10.1.0.3/32", Gateway: "10.1.0.1", Interface: 3}, &cnipb.IP{Address: "fd00::3/128", Gateway: "fd00::1", Interface: 3})
	return r
}

// TestResultInEveryVersion compares with golden files, one per version, and reads the
// result back as libcni does.
func TestResultInEveryVersion(t *testing.T) {
	memif0 := &cnipb.Seen{Name: "memif0", Addresses: []string{"10.1.0.3", "fd00::3"}}
	for _, v := range Versions().SupportedVersions() {
		t.Run(v, func(t *testing.T) { checkVersion(t, v, "result-", sampleReply()) })
		t.Run("memif "+v, func(t *testing.T) { checkVersion(t, v, "result-memif-", memifReply(), memif0) })
	}
}

func checkVersion(t *testing.T, v, file string, reply *cnipb.AddReply, others ...*cnipb.Seen) {
	t.Helper()
	dns := types.DNS{Nameservers: []string{"10.0.0.10"}, Search: []string{"cluster.local"}}
	result, err := newResult(reply, dns, v)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := result.PrintTo(&got); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", file+v+".json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
	if _, err := version.NewResult(v, got.Bytes()); err != nil {
		t.Errorf("libcni cannot read it: %v", err)
	}
	checkPromised(t, got.Bytes(), v, others)
}

// checkPromised reads the result as CHECK gets it, where the version has CHECK.
func checkPromised(t *testing.T, data []byte, v string, others []*cnipb.Seen) {
	t.Helper()
	previous, err := parsePrevResult(data, v)
	if err != nil {
		t.Fatal(err)
	}
	if newEnough, err := version.GreaterThanOrEqualTo(v, "0.4.0"); err != nil || !newEnough {
		return
	}
	got := checkRequest("/run/netns/c1")
	if err := promised(got, previous); err != nil {
		t.Fatal(err)
	}
	want := checkRequest("/run/netns/c1")
	want.Addresses, want.Others = []string{"10.1.0.2", "fd00::2"}, others
	want.Routes = []*cnipb.Route{{Destination: "0.0.0.0/0", Gateway: "169.254.1.1"}, {Destination: "::/0", Gateway: "fe80::1"}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func checkRequest(netns string) *cnipb.CheckRequest {
	return &cnipb.CheckRequest{Id: &cnipb.AttachmentID{ContainerId: "c1", IfName: "eth0"}, Netns: netns}
}

func TestResultOfABadAnswer(t *testing.T) {
	for want, spoil := range map[string]func(*cnipb.AddReply){
		"interface 7 of 2": func(r *cnipb.AddReply) { r.Ips[0].Interface = 7 },
		"address 1":        func(r *cnipb.AddReply) { r.Ips[1].Address = "x" },
		"route 0":          func(r *cnipb.AddReply) { r.Routes[0].Destination = "" },
		"route 1":          func(r *cnipb.AddReply) { r.Routes[1].Gateway = "x" },
	} {
		reply := sampleReply()
		spoil(reply)
		if _, err := newResult(reply, types.DNS{}, "1.1.0"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if _, err := newResult(sampleReply(), types.DNS{}, "2.0.0"); err == nil || !strings.Contains(err.Error(), "2.0.0") {
		t.Errorf("a version nobody speaks: %v", err)
	}
}

func TestPrevResultErrors(t *testing.T) {
	for text, want := range map[string]string{
		`7`:                       "prevResult: want an object",
		`{"cniVersion": "0.4.0"}`: "prevResult: ",
		`{"interfaces": 7}`:       "prevResult: ",
		`{"interfaces": [{"name": "eth1", "sandbox": "/n"}]}`:                                                            "prevResult.interfaces: none is eth0 in /n",
		`{"interfaces": [{"name": "eth0", "sandbox": "/n"}], "ips": [{"interface": 3, "address": "10.0.0.1/32"}, null]}`: "prevResult.ips: none belongs to eth0",
	} {
		result, err := parsePrevResult(json.RawMessage(text), "1.1.0")
		if err == nil {
			err = promised(checkRequest("/n"), result)
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestErrorsTravel: a verb's error is the same CNI error after its way over gRPC.
func TestErrorsTravel(t *testing.T) {
	if err := FromStatus(ToStatus(nil), 11); err != nil {
		t.Errorf("nil became %v", err)
	}
	for _, code := range []uint{
		types.ErrUnknownContainer, types.ErrInvalidEnvironmentVariables, types.ErrInvalidNetworkConfig, types.ErrInvalidNetNS, types.ErrTryAgainLater,
		types.ErrPluginNotAvailable, types.ErrLimitedConnectivity, types.ErrInternal, CodeExhausted, CodeConflict, CodeNotStored, CodeNotApplied, CodeDiffers,
	} {
		want := types.NewError(code, "message", "details")
		if got := FromStatus(ToStatus(want), types.ErrTryAgainLater); !cmp.Equal(got, error(want)) {
			t.Errorf("%+v became %+v", want, got)
		}
		joined := errors.Join(want, errors.New("and more"))
		var got *types.Error
		if !errors.As(FromStatus(ToStatus(joined), types.ErrTryAgainLater), &got) || got.Code != code || !strings.Contains(got.Msg, "and more") {
			t.Errorf("%v became %+v", joined, got)
		}
	}
	for _, tt := range []struct {
		err  error
		code uint
	}{
		{ToStatus(context.DeadlineExceeded), types.ErrTryAgainLater},
		{ToStatus(fmt.Errorf("wait: %w", context.Canceled)), types.ErrTryAgainLater},
		{ToStatus(errors.New("\xff")), types.ErrInternal},
		{status.Error(codes.Unavailable, "dial"), types.ErrPluginNotAvailable},
		{status.Error(codes.DeadlineExceeded, ""), types.ErrPluginNotAvailable},
		{status.Error(codes.Unimplemented, ""), types.ErrInternal},
		{status.Error(codes.ResourceExhausted, ""), types.ErrInternal},
	} {
		var e *types.Error
		if !errors.As(FromStatus(tt.err, types.ErrPluginNotAvailable), &e) || e.Code != tt.code {
			t.Errorf("%v became %+v, want code %d", tt.err, e, tt.code)
		}
	}
	own := errors.New("broken pipe")
	if got := FromStatus(own, types.ErrTryAgainLater); got != own {
		t.Errorf("an error of no call became %v", got)
	}
}
