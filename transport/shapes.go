package transport

import (
	"regexp"
	"strings"
)

// shape is the constraint on a member of a request, by AWS's name for it (API Reference of AWS KMS; the same
// names are in the API model). A zero limit is none.
type shape struct {
	min, max  int    // of the length (characters, bytes or elements), or of the number
	pattern   string // as AWS prints it; the whole value must match
	enum      string // values, separated by a blank
	sensitive bool   // the value is not repeated in messages
	member    string // shape of a list's elements

	match  *regexp.Regexp // set by init, like values
	values []string
}

// shapes has every shape of a request's members.
var shapes = map[string]*shape{
	"AliasNameType":           {min: 1, max: 256, pattern: `^[a-zA-Z0-9:/_-]+$`},
	"AttestationDocumentType": {min: 1, max: 262144},
	"BooleanType":             {},
	"CiphertextType":          {min: 1, max: 6144},
	"CustomKeyStoreIdType":    {min: 1, max: 64},
	"CustomerMasterKeySpec":   {enum: "RSA_2048 RSA_3072 RSA_4096 ECC_NIST_P256 ECC_NIST_P384 ECC_NIST_P521 ECC_SECG_P256K1 SYMMETRIC_DEFAULT HMAC_224 HMAC_256 HMAC_384 HMAC_512 SM2"},
	"DataKeySpec":             {enum: "AES_256 AES_128"},
	"DescriptionType":         {max: 8192},
	"DryRunModifierList":      {member: "DryRunModifierType"},
	"DryRunModifierType":      {enum: "IGNORE_CIPHERTEXT"},
	"EncryptionAlgorithmSpec": {enum: "SYMMETRIC_DEFAULT RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256 SM2PKE"},
	"EncryptionContextType":   {},
	"GrantTokenList":          {max: 10, member: "GrantTokenType"},
	"GrantTokenType":          {min: 1, max: 8192},
	"KeyEncryptionMechanism":  {enum: "RSAES_OAEP_SHA_256"},
	"KeyIdType":               {min: 1, max: 2048},
	"KeySpec":                 {enum: "RSA_2048 RSA_3072 RSA_4096 ECC_NIST_P256 ECC_NIST_P384 ECC_NIST_P521 ECC_SECG_P256K1 SYMMETRIC_DEFAULT HMAC_224 HMAC_256 HMAC_384 HMAC_512 SM2 ML_DSA_44 ML_DSA_65 ML_DSA_87 ECC_NIST_EDWARDS25519"},
	"KeyUsageType":            {enum: "SIGN_VERIFY ENCRYPT_DECRYPT GENERATE_VERIFY_MAC KEY_AGREEMENT"},
	"LimitType":               {min: 1, max: 1000},
	"MarkerType":              {min: 1, max: 1024, pattern: `[\u0020-\u00FF]*`},
	"NullableBooleanType":     {},
	"NumberOfBytesType":       {min: 1, max: 1024},
	"OriginType":              {enum: "AWS_KMS EXTERNAL AWS_CLOUDHSM EXTERNAL_KEY_STORE"},
	"PendingWindowInDaysType": {min: 7, max: 30}, // the model says 1 to 365, its text 7 to 30
	"PlaintextType":           {min: 1, max: 4096, sensitive: true},
	"PolicyType":              {min: 1, max: 131072, pattern: `[\u0009\u000A\u000D\u0020-\u00FF]+`},
	"RecipientInfo":           {},
	"TagKeyType":              {min: 1, max: 128},
	"TagList":                 {member: "Tag"},
	"TagValueType":            {max: 256},
	"XksKeyIdType":            {min: 1, max: 128, pattern: `^[a-zA-Z0-9-_.]+$`},
	"Tag":                     {},
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-F]{4})`)

func init() {
	for _, s := range shapes {
		s.values = strings.Fields(s.enum)
		if s.pattern != "" {
			s.match = regexp.MustCompile(`^(?:` + unicodeEscape.ReplaceAllString(s.pattern, `\x{$1}`) + `)$`)
		}
	}
}
