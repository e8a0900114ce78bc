package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/cmd/verenc/version"
	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/span"
	"github.com/verenc/kms/transport/tracing"
)

// TracingConfig says which requests are traced, and where the traces go.
type TracingConfig struct {
	Endpoint    string  `koanf:"endpoint" doc:"URL of an OpenTelemetry collector that takes traces over OTLP/HTTP, such as http://127.0.0.1:4318/v1/traces; empty: no request is traced"`
	Sample      float64 `koanf:"sample" doc:"share of requests that are traced, from 0 to 1; requests whose traceparent says that their trace is not sampled are left out"`
	HeadersFile string  `koanf:"headers_file" doc:"file with headers for the collector, such as Authorization: Bearer TOKEN, a line for each"`
}

func (c *TracingConfig) on() bool { return c.Endpoint != "" }

// check returns what is wrong with the settings.
func (c *TracingConfig) check() error {
	var errs []error
	if c.on() {
		if _, err := tracing.ParseEndpoint(c.Endpoint); err != nil {
			errs = append(errs, fmt.Errorf("tracing.endpoint: %w", err))
		}
	}
	if !(c.Sample >= 0 && c.Sample <= 1) {
		errs = append(errs, fmt.Errorf("tracing.sample: %v is not from 0 to 1", c.Sample))
	}
	return errors.Join(errs...)
}

// tracingHeaders reads the file with headers for the collector; nil when there is none, or no tracing.
func (c *Config) tracingHeaders() (*secretFile, error) {
	if !c.Tracing.on() || c.Tracing.HeadersFile == "" {
		return nil, nil
	}
	file := &secretFile{setting: "tracing.headers_file", path: c.Tracing.HeadersFile,
		check: func(text string) error { _, err := tracing.ParseHeaders(text); return err }}
	if _, err := file.reload(); err != nil {
		return nil, err
	}
	return file, nil
}

// newTracer returns the tracer of a server; nil when it traces no requests.
func newTracer(c *Config, log *zap.Logger, metrics prometheus.Registerer) (*tracing.Tracer, error) {
	if !c.Tracing.on() {
		return nil, nil
	}
	endpoint, err := tracing.ParseEndpoint(c.Tracing.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg := tracing.Config{Endpoint: endpoint, Sample: c.Tracing.Sample, Version: version.Read().Version, Log: log,
		Metrics: metrics}
	file, err := c.tracingHeaders()
	if err != nil {
		return nil, err
	}
	if file != nil {
		c.run.reload = append(c.run.reload, reloadable{file.setting, file.reload})
		cfg.Headers = func() http.Header { header, _ := tracing.ParseHeaders(file.value()); return header } // checked
	}
	return tracing.New(cfg)
}

// traceCalls returns how a token tells of its calls: those for requests that are traced become spans. nil when no
// request is.
func traceCalls(c *Config) func(context.Context) func(hsm.Call) {
	if !c.Tracing.on() {
		return nil
	}
	return func(ctx context.Context) func(hsm.Call) {
		within := span.Of(ctx)
		if within == nil {
			return nil
		}
		return func(call hsm.Call) {
			s := within.CallAt("token "+call.Function, call.Begun)
			s.Set("pkcs11.function", call.Function)
			s.SetInt("pkcs11.slot", int64(call.Slot))
			s.Set("pkcs11.profile", call.Profile)
			result := call.Failure
			if result == "" {
				result = "CKR_OK"
			}
			s.Set("pkcs11.return_value", result)
			s.EndAt(call.Ended, call.Failure)
		}
	}
}
