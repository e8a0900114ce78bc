package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/softhsm/faults"
)

// TestAnotherToken has a token that does not belong to the database, as after it was initialised again.
func TestAnotherToken(t *testing.T) {
	s, other := initialised(t), newSite(t)
	s.succeeds(t, "doctor")
	s = s.with("VERENC_TOKEN_LABEL="+other.soft.Label, "VERENC_TOKEN_PIN_FILE="+other.soft.PINFile)
	r := s.run(t, "serve")
	refused(t, r, evidence.ErrWrongToken.Error(), `the service's key "self"`, `"audit/1"`, "serial "+other.soft.Serial)
	if strings.Contains(r.stderr, "audit init") {
		t.Errorf("it hints at another audit log: %v", r)
	}
	r = s.run(t, "doctor")
	if r.code != 1 || !strings.Contains(r.stdout, "BAD   keys") || !strings.Contains(r.stdout, `"audit/1"`) {
		t.Error(r)
	}
}

// TestAnOlderToken has a token that lacks the newest key, as after it was restored from a backup.
func TestAnOlderToken(t *testing.T) {
	s := initialised(t)
	running := s.serve(t)
	client := s.sdk(t, "http://"+running.api, http.DefaultClient)
	var newest string
	for range 3 {
		made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		newest = *made.KeyMetadata.KeyId
	}
	running.stop(t)
	s.succeeds(t, "doctor")
	token, err := hsm.Open(t.Context(), hsm.Config{Module: s.soft.Module, Serial: s.soft.Serial, PIN: s.soft.PIN,
		CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	objects, err := token.Objects(t.Context(), "verenc/"+newest)
	if err != nil || len(objects) == 0 {
		t.Fatal(objects, err)
	}
	if err := token.Destroy(t.Context(), objects[0].ID); err != nil {
		t.Fatal(err)
	}
	refused(t, s.run(t, "serve"), evidence.ErrWrongToken.Error(), newest, objects[0].ID.String())
	if r := s.run(t, "doctor"); r.code != 1 || !strings.Contains(r.stdout, newest) {
		t.Error(r)
	}
}

// TestAnOlderTokenComesBack has a running server lose its token, which comes back without a key: the
// server is not ready, and names what is missing.
func TestAnOlderTokenComesBack(t *testing.T) {
	s := initialised(t)
	module := faults.New(t, s.soft)
	running := s.with("VERENC_TOKEN_MODULE=" + module.Path).serve(t)
	client := s.sdk(t, "http://"+running.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	ready(t, "http://"+running.private+"/readyz")
	token, err := hsm.Open(t.Context(), hsm.Config{Module: s.soft.Module, Serial: s.soft.Serial, PIN: s.soft.PIN,
		CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	objects, err := token.Objects(t.Context(), "verenc/"+*made.KeyMetadata.KeyId)
	if err != nil || len(objects) == 0 {
		t.Fatal(objects, err)
	}
	module.Unplug()
	eventually(t, "the loss is noticed", func() bool {
		status, _ := get(t, http.DefaultClient, "http://"+running.private+"/readyz")
		return status != http.StatusOK
	})
	if err := token.Destroy(t.Context(), objects[0].ID); err != nil {
		t.Fatal(err)
	}
	module.Plug()
	eventually(t, "the missing object is named", func() bool {
		return slices.ContainsFunc(running.log(), func(line logLine) bool {
			return strings.Contains(fmt.Sprint(line["error"]), objects[0].ID.String())
		})
	})
	if status, body := get(t, http.DefaultClient, "http://"+running.private+"/readyz"); status == http.StatusOK {
		t.Errorf("ready with an older token: %s", body)
	}
}

// TestTokenWatch checks the token at each connection, and again after a check that has failed. Whether the
// server is ready is what the last check found.
func TestTokenWatch(t *testing.T) {
	connected, results := make(chan struct{}), make(chan error)
	w := &tokenWatch{connected: connected, log: zap.NewNop(), check: func(context.Context) error { return <-results }}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.run(ctx); close(ended) }()
	if err := w.ready(ctx); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		connects bool
		want     error
	}{{true, evidence.ErrWrongToken}, {false, errors.New("the database is away")}, {false, nil}, {true, nil}} {
		if c.connects {
			connected <- struct{}{}
		}
		results <- c.want
		for !errors.Is(w.ready(ctx), c.want) {
			runtime.Gosched()
		}
	}
	stop()
	<-ended
}
