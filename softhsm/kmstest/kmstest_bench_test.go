package kmstest_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/softhsm/kmstest"
)

// BenchmarkNew is the time to start a server, without that of the first one's self-test.
func BenchmarkNew(b *testing.B) {
	kmstest.New(b)
	for b.Loop() {
		kmstest.New(b)
	}
}

// BenchmarkReset is the time of a reset after a test that has made ten keys.
func BenchmarkReset(b *testing.B) {
	server := kmstest.New(b, kmstest.Account("111122223333"), kmstest.SeedText(seed))
	client := kms.NewFromConfig(server.Config)
	for b.Loop() {
		b.StopTimer()
		for range 10 {
			if _, err := client.CreateKey(b.Context(), &kms.CreateKeyInput{}); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		server.Reset(b)
	}
}
