package transport

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/transport/sigv4"
)

const contentType = "application/x-amz-json-1.1"

// problem is an error as the client sees it.
type problem struct {
	Type    string `json:"__type"`
	Message string `json:"message,omitempty"`
	status  int
	cause   error // for the log
}

// serverErrors are the exceptions whose status is not 400 (API Reference, "Errors" and "Common Errors").
var serverErrors = map[apierror.Code]int{
	apierror.DependencyTimeout: http.StatusServiceUnavailable,
	apierror.Internal:          http.StatusInternalServerError,
	apierror.KeyUnavailable:    http.StatusInternalServerError,
}

// Errors that transport itself detects.
var (
	errUnknownOperation   = &problem{Type: "UnknownOperationException", status: http.StatusBadRequest}
	errUnknownCertificate = &problem{Type: string(apierror.UnrecognizedClient),
		Message: "The client certificate is mapped to no principal.", status: http.StatusBadRequest}
	errAmbiguousCertificate = &problem{Type: string(apierror.UnrecognizedClient),
		Message: "The client certificate is mapped to several principals.", status: http.StatusBadRequest}
	errExpiredCertificate = &problem{Type: string(apierror.ExpiredToken), Message: "The client certificate is expired.",
		status: http.StatusBadRequest}
	errNotPost = &problem{Type: "UnknownOperationException", Message: "Send requests as POST /.",
		status: http.StatusNotFound}
	errContentType = &problem{Type: "UnknownOperationException", status: http.StatusNotFound}
	errUnreadable  = &problem{Type: "SerializationException", Message: "The request body could not be read.",
		status: http.StatusBadRequest}
	errPanic = &problem{Type: string(apierror.Internal),
		Message: "The request was rejected because an internal exception occurred. The request can be retried.",
		status:  http.StatusInternalServerError}
)

// errNoClientIP refuses a request before policies that name addresses could decide on a proxy's.
func errNoClientIP(cause error) *problem {
	return &problem{Type: string(apierror.AccessDenied), status: http.StatusBadRequest, cause: cause,
		Message: "The proxy in front of the service does not say which address the request comes from."}
}

// errInvalidCertificate is for a client whose certificate was valid when the connection was made.
func errInvalidCertificate(cause error) *problem {
	return &problem{Type: string(apierror.UnrecognizedClient), Message: "The client certificate is no longer valid.",
		status: http.StatusBadRequest, cause: cause}
}

func errTooLarge(limit int64) *problem {
	return &problem{Type: "RequestEntityTooLargeException", status: http.StatusRequestEntityTooLarge,
		Message: "The request body must not be larger than " + strconv.FormatInt(limit, 10) + " bytes."}
}

// problemOf is the only translation of errors into what clients see. An unknown error becomes a
// KMSInternalException without details.
func problemOf(err error) *problem {
	var (
		ours  *problem
		typed *apierror.Error
		auth  *sigv4.Error
		form  *errSerialization
	)
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &typed):
		status := serverErrors[typed.Code]
		if status == 0 {
			status = http.StatusBadRequest
		}
		return &problem{Type: string(typed.Code), Message: typed.Message, status: status, cause: typed.Unwrap()}
	case errors.As(err, &auth):
		return &problem{Type: auth.Code, Message: auth.Message, status: http.StatusBadRequest}
	case errors.As(err, &form):
		return &problem{Type: "SerializationException", Message: form.message, status: http.StatusBadRequest}
	}
	return &problem{Type: errPanic.Type, Message: errPanic.Message, status: errPanic.status, cause: err}
}

func (p *problem) Error() string { return p.Type + ": " + p.Message }

// buffers hold encoded answers. They are wiped before reuse.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// answerContentType is AWS's answer to a protocol that it does not support for the operation, such
// as CBOR: this body without a content type.
func answerContentType(w http.ResponseWriter, status int) error {
	const text = "<UnknownOperationException/>\n"
	h := w.Header()
	h["Content-Type"] = nil // or net/http guesses one
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, err := io.WriteString(w, text)
	return err
}

// jsonType is the Content-Type of answers; net/http only reads it.
var jsonType = []string{contentType}

// selfCounted is the size up to which net/http itself adds the Content-Length of an answer, in bytes.
const selfCounted = 2000

// answer writes a value as JSON, or an empty body for service.Empty.
func answer(w http.ResponseWriter, status int, v any) error {
	buf := buffers.Get().(*[]byte)
	body, inUse := (*buf)[:0], false
	defer func() {
		if inUse {
			return
		}
		clear(body)
		*buf = body[:0]
		buffers.Put(buf)
	}()
	if _, empty := v.(*service.Empty); !empty {
		var err error
		if body, err = appendAnswer(body, v); err != nil {
			return err
		}
	}
	if secret, ok := v.(interface{ Wipe() }); ok {
		secret.Wipe()
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	if len(body) > selfCounted || len(body) == 0 {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, err := w.Write(body)
	inUse = err != nil // HTTP/2 may still read what it could not write before its stream ended
	return err
}
