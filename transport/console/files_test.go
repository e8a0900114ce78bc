package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/verenc/kms/transport"
)

// TestFilesInBrowser opens the pages in files, from a server of files and without one: links and the
// search work, and there is nothing to sign in to.
func TestFilesInBrowser(t *testing.T) {
	dir := t.TempDir()
	must(t, transport.WritePages(dir))
	files := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer files.Close()
	for _, root := range []string{"file://" + dir, files.URL} {
		b := newBrowser(t, root)
		b.open("/manual/grants.html")
		b.fill("#search", "decrypt keyid")
		b.wait("document.querySelector('#results a')?.hash === '#Parameters-KeyId'")
		b.do(chromedp.Navigate(eval[string](b, "document.querySelector('#results a').href")))
		if address := eval[string](b, "location.href"); address != root+"/Decrypt.html#Parameters-KeyId" {
			t.Errorf("the search leads to %s", address)
		}
		if current := b.text("#page-list [aria-current=page]"); current != "Decrypt" {
			t.Errorf("%q is marked as the page", current)
		}
		b.do(chromedp.Navigate(eval[string](b, "document.querySelector(\".areas a[href$='manual/index.html']\").href")))
		b.do(chromedp.KeyEvent("/"))
		b.wait("document.activeElement.id === 'search'")
		others := eval[[]string](b, fmt.Sprintf("[...document.querySelectorAll('a, script, link')].map((e) => e.href ?? e.src)"+
			".filter((a) => !a.startsWith(%q))", root+"/"))
		if len(others) != 0 {
			t.Errorf("%s links to %v", root, others)
		}
		if text := b.text("body"); strings.Contains(text, "Sign in") || strings.Contains(text, "Console") {
			t.Errorf("%s: there is something to sign in to: %s", root, text)
		}
	}
}

// BenchmarkFirstPage measures how long it takes, from the beginning of the navigation and with an
// empty cache, until a page is there and its scripts have run.
func BenchmarkFirstPage(b *testing.B) {
	server := httptest.NewServer(newPages(b))
	defer server.Close()
	for _, path := range []string{"/docs", "/docs/GenerateDataKeyWithoutPlaintext", "/console"} {
		b.Run(strings.ReplaceAll(path[1:], "/", "-"), func(b *testing.B) {
			tab := newBrowser(b, server.URL)
			var sum float64
			for b.Loop() {
				_, err := chromedp.Call(tab.ctx, network.ClearBrowserCache, cdp.Empty{})
				must(b, err)
				tab.open(path)
				sum += eval[float64](tab, "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
			}
			b.ReportMetric(sum/float64(b.N), "ms/interactive")
		})
	}
}
