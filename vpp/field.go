package vpp

import (
	"reflect"

	"go.fd.io/govpp/api"
)

// Generated messages share no interface for their common fields, so those are found by
// name, once per type.
const (
	retvalField = "Retval"
	cursorField = "Cursor"
)

type fieldKey struct {
	message reflect.Type
	name    string
}

// field returns msg's field of the given name, or the zero Value when it has none.
func (c *Conn) field(msg api.Message, name string) reflect.Value {
	v := reflect.ValueOf(msg).Elem()
	key := fieldKey{v.Type(), name}
	index, ok := c.fields.Load(key)
	if !ok {
		index = -1
		if f, found := v.Type().FieldByName(name); found && len(f.Index) == 1 {
			index = f.Index[0]
		}
		c.fields.Store(key, index)
	}
	if i := index.(int); i >= 0 {
		return v.Field(i)
	}
	return reflect.Value{}
}

// retval is a reply's return value; 0 when the reply has none.
func (c *Conn) retval(reply api.Message) int32 {
	switch f := c.field(reply, retvalField); {
	case f.CanInt():
		return int32(f.Int())
	case f.CanUint(): // two replies have it unsigned
		return int32(f.Uint())
	default:
		return 0
	}
}
