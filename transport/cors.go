package transport

import (
	"net/http"

	"github.com/rs/cors"
)

// What AWS answers to browsers: for how many seconds they may remember a preflight, and which
// response headers scripts may read.
const preflightAge = 172800

var exposedHeaders = []string{"x-amzn-RequestId", "x-amzn-ErrorType", "x-amzn-ErrorMessage", "Date"}

// crossOrigin lets scripts of web pages of these origins call a handler. Without origins it changes
// nothing: then browsers allow no page of another origin. Requests must be signed in any case, and
// cookies are ignored.
func crossOrigin(h http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return h
	}
	return cors.New(cors.Options{AllowedOrigins: origins, AllowedMethods: []string{http.MethodPost},
		AllowedHeaders: []string{"*"},
		ExposedHeaders: exposedHeaders, MaxAge: preflightAge, OptionsSuccessStatus: http.StatusOK}).Handler(h)
}
