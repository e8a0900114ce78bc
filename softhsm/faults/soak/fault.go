package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm/faults"
)

// What may fail, and how.
var (
	functions = []string{"C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_CloseSession", "C_GetSessionInfo",
		"C_Login", "C_FindObjectsInit",
		"C_FindObjects", "C_GetAttributeValue", "C_GenerateRandom", "C_EncryptInit", "C_Encrypt", "C_DecryptInit",
		"C_Decrypt", "C_SignInit",
		"C_Sign", "C_GenerateKey", "C_WrapKey", "C_UnwrapKey", "C_DestroyObject"}
	codes = []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED,
		pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_CANCELED}
)

// causeFault causes one fault, and then leaves the token alone for a while.
func (s *soak) causeFault(ctx context.Context, r *rand.Rand) {
	function, m := functions[r.IntN(len(functions))], s.module
	switch n := r.IntN(20); {
	case n < 8:
		s.report.fault("call fails")
		options := []faults.Option{faults.Times(1 + r.IntN(3)), faults.Skip(r.IntN(20))}
		// A session that was opened without an answer, or not closed as requested, is the token's
		// leak and not ours.
		if function == "C_CloseSession" || function != "C_OpenSession" && r.IntN(2) == 0 {
			options = append(options, faults.AfterCall())
		}
		m.Fail(function, codes[r.IntN(len(codes))], options...)
	case n < 11:
		s.report.fault("calls hang")
		options := []faults.Option{faults.Times(1 + r.IntN(12))}
		// or a call could meet new handles of the same number, which is the module's fault
		if s.cfg.reuse || r.IntN(2) == 0 {
			options = append(options, faults.AfterCall())
		}
		m.Hang(function, options...)
		if r.IntN(5) != 0 {
			wait(ctx, r, 400*time.Millisecond)
			m.Release()
		}
	case n < 13:
		s.report.fault("all hanging calls come back")
		m.Release()
	case n < 15:
		s.report.fault("login is lost")
		m.LogOut()
	case n < 16:
		s.report.fault("sessions are limited")
		m.LimitSessions(2 + r.IntN(s.cfg.callers/2))
	case n < 17:
		s.report.fault("sessions are not limited")
		m.LimitSessions(-1)
	case n < 18:
		s.report.fault("latency")
		m.SetLatency(time.Duration(r.IntN(int(3 * time.Millisecond))))
	case n < 19:
		s.report.fault("all is well")
		m.Clear()
		m.SetLatency(0)
		m.LimitSessions(-1)
	default:
		s.report.fault("unplugged, and back in another slot")
		s.unplug(ctx, r)
	}
	wait(ctx, r, 300*time.Millisecond)
}

// unplug takes the token away for a while, and measures how long it takes until the token is usable
// again.
func (s *soak) unplug(ctx context.Context, r *rand.Rand) {
	m := s.module
	m.Clear()
	m.LimitSessions(-1)
	m.Unplug()
	wait(ctx, r, 500*time.Millisecond)
	m.Renumber()
	m.Plug()
	back := time.Now()
	for s.token.Ping(context.Background()) != nil {
		time.Sleep(time.Millisecond)
	}
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	s.report.heals++
	s.report.healing = max(s.report.healing, time.Since(back))
}

func wait(ctx context.Context, r *rand.Rand, most time.Duration) {
	timer := time.NewTimer(time.Duration(r.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
