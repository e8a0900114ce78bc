package service

// keyRule says what an operation needs of its key.
type keyRule struct {
	byAlias bool   // an alias may name the key
	usage   string // KeyUsage it needs, if any
	states  stateRow
}

// stateRow tells per key state what an operation does (AWS page "Key states of AWS KMS keys"); a state that is
// not in it is in order.
type stateRow map[KeyState]outcome

// outcome is a numbered note of AWS's table.
type outcome int

const (
	disabled           outcome = iota + 1 // note 1: DisabledException
	pendingDeletion                       // note 3: KMSInvalidStateException
	notPendingDeletion                    // note 4: KMSInvalidStateException
)

var (
	anyState    = stateRow{}
	cryptoState = stateRow{StateDisabled: disabled, StatePendingDeletion: pendingDeletion}
	changeState = stateRow{StatePendingDeletion: pendingDeletion}
	cancelState = stateRow{StateEnabled: notPendingDeletion, StateDisabled: notPendingDeletion}
)

// KeyUsageType of symmetric and RSA encryption keys.
const usageEncryptDecrypt = "ENCRYPT_DECRYPT"

// keyRules has every operation that works on a key.
var keyRules = map[string]keyRule{
	"CancelKeyDeletion":               {states: cancelState},
	"CreateAlias":                     {states: changeState},
	"Decrypt":                         {byAlias: true, usage: usageEncryptDecrypt, states: cryptoState},
	"DeleteAlias":                     {states: anyState},
	"DescribeKey":                     {byAlias: true, states: anyState},
	"DisableKey":                      {states: changeState},
	"EnableKey":                       {states: changeState},
	"Encrypt":                         {byAlias: true, usage: usageEncryptDecrypt, states: cryptoState},
	"GenerateDataKey":                 {byAlias: true, usage: usageEncryptDecrypt, states: cryptoState},
	"GenerateDataKeyWithoutPlaintext": {byAlias: true, usage: usageEncryptDecrypt, states: cryptoState},
	"ListAliases":                     {states: anyState},
	"ReEncrypt":                       {byAlias: true, usage: usageEncryptDecrypt, states: cryptoState},
	"ScheduleKeyDeletion":             {states: changeState},
	"UpdateAlias":                     {states: changeState},
}

func (s *Service) checkState(op string, k *Key) error {
	switch keyRules[op].states[k.State] {
	case disabled:
		return refuse(CodeDisabled, "%s is disabled.", s.arns.key(k))
	case pendingDeletion:
		return refuse(CodeInvalidState, "%s is pending deletion.", s.arns.key(k))
	case notPendingDeletion:
		return refuse(CodeInvalidState, "%s is not pending deletion.", s.arns.key(k))
	}
	return nil
}
