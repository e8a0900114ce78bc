package console_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/chromedp/chromedp"
)

// TestReportPage shows plots, which are images, with the same numbers as text, in the colours of the
// page, and what to look at.
func TestReportPage(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.History.Run(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	b := newBrowser(t, s.URL)
	b.open("/console/report")
	b.signIn(s.Root)
	drawn := func() {
		t.Helper()
		b.wait("document.querySelectorAll('.plots img').length === 8 && " +
			"[...document.querySelectorAll('.plots img')].every((i) => i.complete && i.naturalWidth > 0) && " +
			"document.querySelector('#console [aria-busy=true]') === null")
	}
	drawn()
	for _, want := range []string{"Operations per second", "Errors per second", "Latency of the token",
		"Records in the audit log", "Keys by spec", "Keys by their next automatic rotation"} {
		b.says(".plots h2", want)
	}
	if alt := eval[string](b, "document.querySelector('.plots img').alt"); !strings.Contains(alt, "in the table below") {
		t.Errorf("the text for the image is %q", alt)
	}
	b.click(".plots section:nth-of-type(5) summary")
	cells := eval[string](b, "document.querySelector('.plots section:nth-of-type(5) tbody').innerText")
	if strings.Join(strings.Fields(cells), " ") != "SYMMETRIC_DEFAULT 1" {
		t.Errorf("the numbers are %q", cells)
	}
	b.says("#console td", "automatic rotation is off")
	b.says("#console code", key)
	b.choose(b.control("Numbers of the server"), "TEN_MINUTES")
	b.wait("document.querySelector('.plots tbody th')?.textContent.split(':').length === 3") // with seconds
	drawn()

	// Without a mouse, and in the dark.
	eval[any](b, "document.querySelector('.brand').focus()")
	b.tabTo("#console .bar button")
	b.do(chromedp.KeyEvent("\r"))
	drawn()
	if strings.Contains(s.Received(), `"ColorScheme":"DARK"`) {
		t.Error("plots are dark on a light page")
	}
	b.show("report", 1280, 1400, "dark")
	b.wait("document.querySelector('.plots img') !== null")
	for !strings.Contains(s.Received(), `"ColorScheme":"DARK"`) {
		b.wait("document.querySelector('#console') !== null")
	}
	drawn()
	b.show("report dark", 1280, 1400, "dark")
}
