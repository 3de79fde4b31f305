package vpp

import (
	"context"

	"go.fd.io/govpp/api"
)

// Exchange is one request of a batch, the place for its reply, and what became of it.
type Exchange struct {
	Request api.Message
	Reply   api.Message // filled by Batch
	Err     error       // set by Batch; nil = the peer answered with retval 0
}

// Batch sends all requests in their order without awaiting each reply, at most
// Config.Depth unanswered, and fills in each exchange's Reply and Err. The peer executes
// them in that order, and goes on after one it refuses: put only calls into a batch that
// do not need each other's replies.
//
// The error is nil when every request was answered, whatever the answer; otherwise it is
// the first Err without an answer. Exchanges behind it have an Err too, and those that
// were sent may have been executed.
func (c *Conn) Batch(ctx context.Context, exchanges []Exchange) error {
	waiters := make([]*waiter, len(exchanges))
	defer func() {
		for _, w := range waiters {
			if w != nil {
				c.forget(w)
			}
		}
	}()
	for sent, answered := 0, 0; answered < len(exchanges); answered++ {
		// Half a window is written at once when half of it has been answered.
		if free := c.cfg.Depth - (sent - answered); sent < len(exchanges) && free >= (c.cfg.Depth+1)/2 {
			until := min(sent+free, len(exchanges))
			if err := c.sendBatch(ctx, exchanges[sent:until], waiters[sent:until]); err != nil {
				return abandon(exchanges[answered:], err)
			}
			sent = until
		}
		e, w := &exchanges[answered], waiters[answered]
		if w == nil {
			continue // it could not be sent; Err says why
		}
		frame, err := c.wait(ctx, w)
		if err != nil {
			return abandon(exchanges[answered:], err)
		}
		c.forget(w)
		waiters[answered] = nil
		if err := decode(frame, e.Reply); err != nil {
			e.Err = failed(e.Request, err)
			continue
		}
		e.Err = checkRetval(e.Request, c.retval(e.Reply))
	}
	return nil
}

// sendBatch writes the requests in one go. One that cannot be written (not in the peer's
// table) gets its Err and no waiter; the error is that of the connection.
func (c *Conn) sendBatch(ctx context.Context, exchanges []Exchange, waiters []*waiter) error {
	if err := c.lockWriter(ctx); err != nil {
		return err
	}
	defer c.unlockWriter()
	for i := range exchanges {
		e := &exchanges[i]
		w, err := c.await(e.Reply)
		if err == nil {
			if err = c.queue(w, e.Request); err != nil {
				c.forget(w)
			}
		}
		if err != nil {
			e.Err = failed(e.Request, err)
			continue
		}
		waiters[i] = w
	}
	return c.flush(ctx)
}

func abandon(exchanges []Exchange, reason error) error {
	for i := range exchanges {
		if exchanges[i].Err == nil {
			exchanges[i].Err = failed(exchanges[i].Request, reason)
		}
	}
	return exchanges[0].Err
}
