package cni

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millrace/millrace/cni/cnipb"
)

// Error codes of our own; the specification leaves 100 and above to plugins.
const (
	CodeExhausted  uint = 100 // every address of a pod range is in use
	CodeConflict   uint = 101 // the container has this interface already, in another namespace or network
	CodeNotStored  uint = 102 // the agent could not keep the attachment on disk
	CodeNotApplied uint = 103 // the dataplane refused the attachment
	CodeDiffers    uint = 104 // the container is not as ADD left it
	CodeAnnotation uint = 105 // an annotation of the pod is wrong
	CodeSecret     uint = 106 // a Secret that the pod or network refers to is missing or of no use
)

// Errorf makes a CNI error with a code of the specification or of ours.
func Errorf(code uint, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}

// ToStatus turns a verb's error into what travels over gRPC: a CNI error keeps its code,
// the end of a context asks to try again, all else is internal. nil stays nil.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	failure := &cnipb.Failure{Code: uint32(types.ErrInternal), Message: text(err.Error())}
	var e *types.Error
	switch {
	case errors.As(err, &e):
		failure = &cnipb.Failure{Code: uint32(e.Code), Message: text(err.Error()), Details: text(e.Details)}
		if err == error(e) {
			failure.Message = text(e.Msg)
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		failure.Code = uint32(types.ErrTryAgainLater)
	}
	s, err := status.New(grpcCode(uint(failure.Code)), failure.Message).WithDetails(failure)
	if err != nil {
		return status.Error(codes.Internal, failure.Message)
	}
	return s.Err()
}

// text makes a message that protobuf can carry: hostile names may hold any bytes.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func grpcCode(code uint) codes.Code {
	switch code {
	case types.ErrTryAgainLater, types.ErrPluginNotAvailable, types.ErrLimitedConnectivity:
		return codes.Unavailable
	case types.ErrUnknownContainer:
		return codes.NotFound
	case types.ErrInvalidEnvironmentVariables, types.ErrInvalidNetworkConfig, types.ErrInvalidNetNS, CodeAnnotation:
		return codes.InvalidArgument
	case CodeSecret:
		return codes.FailedPrecondition
	case CodeExhausted:
		return codes.ResourceExhausted
	case CodeConflict:
		return codes.AlreadyExists
	}
	return codes.Internal
}

// FromStatus turns what a gRPC call returned into a CNI error. An agent that cannot be
// reached, or that did not answer in time, gets the code unreachable. An error that is no
// call's comes back as it is.
func FromStatus(err error, unreachable uint) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range s.Details() {
		if f, ok := d.(*cnipb.Failure); ok {
			return types.NewError(uint(f.Code), f.Message, f.Details)
		}
	}
	switch s.Code() {
	case codes.Unavailable:
		return types.NewError(unreachable, "reach the millrace agent: is `millrace agent` running on this node?", s.Message())
	case codes.DeadlineExceeded, codes.Canceled:
		return types.NewError(unreachable, "wait for the millrace agent: no answer in time", s.Message())
	case codes.Unimplemented:
		return types.NewError(types.ErrInternal, "ask the millrace agent: it does not know this verb; plugin and agent have to be of one version", s.Message())
	}
	return types.NewError(types.ErrInternal, "ask the millrace agent: "+s.Message(), s.Code().String())
}
