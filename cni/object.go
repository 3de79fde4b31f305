package cni

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/millrace/millrace/internal/strictjson"
)

// members takes a JSON object apart, in order.
func members(path string, raw json.RawMessage) ([]strictjson.Member, error) {
	all, err := strictjson.Members(raw)
	if e, ok := errors.AsType[*strictjson.Error](err); ok {
		at := path
		if e.Key != "" {
			at = join(path, e.Key)
		}
		if e.Twice {
			return nil, invalid(at, "%v", e.Err)
		}
		return nil, undecodable(at, "%v", e.Err)
	}
	return all, err
}

func decode[T any](path string, raw json.RawMessage, into *T) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return undecodable(path, "%v", err)
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func undecodable(path, format string, args ...any) error {
	return fieldError(types.ErrDecodingFailure, path, format, args...)
}

func invalid(path, format string, args ...any) error {
	return fieldError(types.ErrInvalidNetworkConfig, path, format, args...)
}

func unsupported(path, format string, args ...any) error {
	return fieldError(types.ErrUnsupportedField, path, format, args...)
}

func fieldError(code uint, path, format string, args ...any) error {
	if path == "" {
		path = "network configuration"
	}
	return Errorf(code, "%s: %s", path, fmt.Sprintf(format, args...))
}
