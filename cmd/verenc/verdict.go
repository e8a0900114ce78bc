package main

import (
	"fmt"

	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service"
)

// The marks of findings in the output of doctor.
const (
	markOK   = "ok"
	markNote = "note" // the server does not need it
	markWarn = "warn" // the server starts, and does less than it promises
	markBad  = "BAD"
)

// verdict is what one self-test of a token means for a server.
type verdict struct {
	mark   string
	starts bool   // a server starts in spite of it
	text   string // what was tried, and its error
	advice string
}

// judge returns the verdict on a self-test. Both doctor and serve use it, so that they agree.
func judge(c selftest.Check) verdict {
	if c.Err == nil {
		return verdict{mark: markOK, starts: true, text: c.Name}
	}
	text := fmt.Sprintf("%s: %s", c.Name, oneLine(c.Err))
	switch {
	case !c.Optional:
		return verdict{markBad, false, text, "cure: allow it in the token's policy or firmware; needed for: " + c.Need}
	case c.Name == selftest.CheckObjects:
		return verdict{markBad, true, text,
			"cure: make room in the token and let it be written to; not possible without: " + c.Need}
	case c.Name == selftest.CheckCallers:
		return verdict{markWarn, true, text, "operations that make keys at the same time may fail: " + c.Need}
	case isDataKeyCheck(c.Name):
		return verdict{markWarn, true, text, "the data keys pass through the server's memory instead, " +
			"or are refused with token.require_hidden_data_keys; not possible without: " + c.Need}
	}
	return verdict{markNote, true, text, "needed for: " + c.Need}
}

func isDataKeyCheck(name string) bool {
	for _, check := range service.DataKeyChecks {
		if check == name {
			return true
		}
	}
	return false
}
