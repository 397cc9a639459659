package turbofan

import (
	"errors"
	"fmt"
)

// The codes an error can carry. They are the same in Go, in the JSON of an answer and in the label of a metric.
const (
	EInvalid      = "invalid"      // the request breaks a rule; sending it again will not help
	EUnauthorized = "unauthorized" // no key, or a key whose role does not allow this
	ENotFound     = "not_found"
	EConflict     = "conflict" // the state does not allow it now: a job is running, a cycle was already sent
	ETooLarge     = "too_large"
	EExhausted    = "exhausted"   // a limit of rate or concurrency; try again later
	EUnavailable  = "unavailable" // not ready, draining, or a part behind is away; try again
	ETimeout      = "timeout"
	EInsufficient = "insufficient" // too little data for what was asked; the message says how much is missing
	EInternal     = "internal"
)

// Error is a failure that a caller is meant to understand: a code to act on, the field at fault where there is one, and
// a sentence for a person. Errors without it are internal: the caller reads "internal error", the log reads the whole.
type Error struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"` // path of the input at fault, such as "reading.sensors[3]"
	Message string `json:"message"`
	Err     error  `json:"-"` // cause, for the log only
}

func (e *Error) Error() string {
	msg := e.Message
	if e.Field != "" {
		msg = e.Field + ": " + msg
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an *Error with the code and a formatted message. It wraps nothing: see Wrap.
func Errorf(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap is Errorf with a cause: a caller reads the message, the log reads the cause behind it too.
func Wrap(code string, cause error, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}

// Invalid returns an EInvalid error about one field of the input.
func Invalid(field, format string, args ...any) error {
	return &Error{Code: EInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// ErrorCode returns the code that err carries, EInternal for an error that carries none, and "" for nil.
func ErrorCode(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return EInternal
}

// ErrorMessage returns what a caller may read of err: the field and message of an *Error without its cause, and
// "internal error" for anything else.
func ErrorMessage(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Field != "" {
			return e.Field + ": " + e.Message
		}
		return e.Message
	}
	return "internal error"
}
