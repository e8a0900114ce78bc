package transport

import (
	"net/http"

	"github.com/rs/cors"
)

// What AWS answers browsers: the time in seconds for which they may remember a preflight, and the
// headers of answers that scripts may read.
const preflightAge = 172800

var exposedHeaders = []string{"x-amzn-RequestId", "x-amzn-ErrorType", "x-amzn-ErrorMessage", "Date"}

// crossOrigin lets the scripts of web pages of these origins call a handler. Without origins it
// changes nothing: browsers then let no page of another origin in. Requests are signed all the
// same, and nothing is read from cookies.
func crossOrigin(h http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return h
	}
	return cors.New(cors.Options{AllowedOrigins: origins, AllowedMethods: []string{http.MethodPost},
		AllowedHeaders: []string{"*"},
		ExposedHeaders: exposedHeaders, MaxAge: preflightAge, OptionsSuccessStatus: http.StatusOK}).Handler(h)
}
