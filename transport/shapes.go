package transport

import (
	"regexp"
	"strings"
)

// shape is a constraint on a member of a request. AWS has names for them, in the model of the API.
// A limit of zero is no limit.
type shape struct {
	min, max  int    // of the length (characters, bytes or elements), or of the number
	pattern   string // as AWS prints it; the whole value must match
	enum      string // values, separated by a space
	sensitive bool   // messages do not repeat the value
	member    string // shape of a list's elements

	match  *regexp.Regexp // of pattern; set by init, like values
	values []string       // of enum
}

// shapes are the shapes of all members of requests, by AWS's names.
var shapes = map[string]*shape{
	"AccountIdType": {min: 12, max: 12, pattern: `[0-9]{12}`},
	"AlgorithmSpec": {enum: "RSAES_PKCS1_V1_5 RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256 RSA_AES_KEY_WRAP_SHA_1 " +
		"RSA_AES_KEY_WRAP_SHA_256 SM2PKE"},
	"AliasNameType":           {min: 1, max: 256, pattern: `^[a-zA-Z0-9:/_-]+$`},
	"ApprovalDigestType":      {min: 64, max: 64, pattern: `^[0-9a-f]+$`},
	"ApprovalNumberType":      {min: 1, max: 1_000_000_000},
	"ApprovalStateType":       {enum: "PENDING APPROVED REJECTED USED EXPIRED"},
	"AttestationDocumentType": {min: 1, max: 262144},
	"AuditResultType":         {enum: "SUCCESS ERROR"},
	"AuditTextType":           {min: 1, max: 256},
	"BackingKeyIdType":        {min: 64, max: 64, pattern: `^[a-f0-9]+$`},
	"BooleanType":             {},
	"CiphertextType":          {min: 1, max: 6144},
	"CloudHsmClusterIdType":   {min: 19, max: 24, pattern: `cluster-[2-7a-zA-Z]{11,16}`},
	"ColorSchemeType":         {enum: "LIGHT DARK"},
	"CustomKeyStoreIdType":    {min: 1, max: 64},
	"CustomKeyStoreNameType":  {min: 1, max: 256},
	"CustomKeyStoreType":      {enum: "AWS_CLOUDHSM EXTERNAL_KEY_STORE"},
	"CustomerMasterKeySpec": {enum: "RSA_2048 RSA_3072 RSA_4096 ECC_NIST_P256 ECC_NIST_P384 ECC_NIST_P521 " +
		"ECC_SECG_P256K1 SYMMETRIC_DEFAULT HMAC_224 HMAC_256 HMAC_384 HMAC_512 SM2"},
	"DataKeyPairSpec": {enum: "RSA_2048 RSA_3072 RSA_4096 ECC_NIST_P256 ECC_NIST_P384 ECC_NIST_P521 " +
		"ECC_SECG_P256K1 SM2 ECC_NIST_EDWARDS25519 ML_KEM_512 ML_KEM_768 ML_KEM_1024"},
	"DataKeySpec":                {enum: "AES_256 AES_128"},
	"DateType":                   {},
	"DescriptionType":            {max: 8192},
	"DryRunModifierList":         {member: "DryRunModifierType"},
	"DryRunModifierType":         {enum: "IGNORE_CIPHERTEXT"},
	"EncapsulationAlgorithmSpec": {enum: "ML_KEM"},
	"EncryptionAlgorithmSpec":    {enum: "SYMMETRIC_DEFAULT RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256 SM2PKE"},
	"EncryptionContextType":      {},
	"ErrorCodeType":              {min: 1, max: 128, pattern: `^[A-Za-z0-9]+$`},
	"ExpirationModelType":        {enum: "KEY_MATERIAL_EXPIRES KEY_MATERIAL_DOES_NOT_EXPIRE"},
	"GrantConstraintSourceArnType": {min: 20, max: 512,
		pattern: `^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$`},
	"GrantConstraints": {},
	"GrantIdType":      {min: 1, max: 128},
	"GrantNameType":    {min: 1, max: 256, pattern: `^[a-zA-Z0-9:/_-]+$`},
	"GrantOperation": {enum: "Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext " +
		"ReEncryptFrom ReEncryptTo Sign Verify GetPublicKey CreateGrant RetireGrant " +
		"DescribeKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext " +
		"GenerateMac VerifyMac DeriveSharedSecret Encapsulate Decapsulate"},
	"GrantOperationList":         {member: "GrantOperation"},
	"GrantTokenList":             {max: 10, member: "GrantTokenType"},
	"GrantTokenType":             {min: 1, max: 8192},
	"ImportType":                 {enum: "NEW_KEY_MATERIAL EXISTING_KEY_MATERIAL"},
	"IncludeKeyMaterial":         {enum: "ALL_KEY_MATERIAL ROTATIONS_ONLY"},
	"KeyAgreementAlgorithmSpec":  {enum: "ECDH"},
	"KeyEncryptionMechanism":     {enum: "RSAES_OAEP_SHA_256"},
	"KeyIdType":                  {min: 1, max: 2048},
	"KeyMaterialDescriptionType": {max: 256, pattern: `^[a-zA-Z0-9:/_\s.-]+$`},
	"KeySpec": {enum: "RSA_2048 RSA_3072 RSA_4096 ECC_NIST_P256 ECC_NIST_P384 ECC_NIST_P521 " +
		"ECC_SECG_P256K1 SYMMETRIC_DEFAULT HMAC_224 HMAC_256 HMAC_384 HMAC_512 SM2 " +
		"ML_DSA_44 ML_DSA_65 ML_DSA_87 ECC_NIST_EDWARDS25519 ML_KEM_512 ML_KEM_768 " +
		"ML_KEM_1024"},
	"KeyStorePasswordType": {min: 7, max: 32, sensitive: true},
	"KeyUsageType": {enum: "SIGN_VERIFY ENCRYPT_DECRYPT GENERATE_VERIFY_MAC KEY_AGREEMENT " +
		"ENCAPSULATE_DECAPSULATE"},
	"LimitType":                {min: 1, max: 1000},
	"LogIndexType":             {min: 1, max: 15, pattern: `^(0|[1-9][0-9]*)$`},
	"MacAlgorithmSpec":         {enum: "HMAC_SHA_224 HMAC_SHA_256 HMAC_SHA_384 HMAC_SHA_512"},
	"MarkerType":               {min: 1, max: 1024, pattern: `[\u0020-\u00FF]*`},
	"MessageType":              {enum: "RAW DIGEST EXTERNAL_MU"},
	"NullableBooleanType":      {},
	"NumberOfBytesType":        {min: 1, max: 1024},
	"OperationNameType":        {min: 1, max: 128, pattern: `^[A-Za-z0-9]+$`},
	"OriginType":               {enum: "AWS_KMS EXTERNAL AWS_CLOUDHSM EXTERNAL_KEY_STORE"},
	"PendingWindowInDaysType":  {min: 7, max: 30}, // the model says 1 to 365, its text 7 to 30
	"PlaintextType":            {min: 1, max: 4096, sensitive: true},
	"PolicyNameType":           {min: 1, max: 128, pattern: `[\w]+`},
	"PolicyType":               {min: 1, max: 131072, pattern: `[\u0009\u000A\u000D\u0020-\u00FF]+`},
	"PrincipalArnType":         {min: 20, max: 2048}, // as IAM's arnType
	"PrincipalIdType":          {min: 1, max: 256, pattern: `^[\w+=,.@:/-]+$`},
	"PublicKeyType":            {min: 1, max: 8192},
	"RecipientInfo":            {},
	"ReportPeriodType":         {enum: "TEN_MINUTES HOUR DAY"},
	"RegionType":               {min: 1, max: 32, pattern: `^([a-z]+-){2,3}\d+$`},
	"RotationPeriodInDaysType": {min: 90, max: 2560},
	"ServicePrincipalType":     {min: 1, max: 128, pattern: `^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$`},
	"SigningAlgorithmSpec": {enum: "RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512 " +
		"RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 " +
		"RSASSA_PKCS1_V1_5_SHA_512 ECDSA_SHA_256 ECDSA_SHA_384 ECDSA_SHA_512 SM2DSA " +
		"ML_DSA_SHAKE_256 ED25519_SHA_512 ED25519_PH_SHA_512"},
	"Tag":                                   {},
	"TagKeyList":                            {member: "TagKeyType"},
	"TagKeyType":                            {min: 1, max: 128},
	"TagList":                               {member: "Tag"},
	"TagValueType":                          {max: 256},
	"TrustAnchorCertificateType":            {min: 1, max: 5000},
	"WrappingKeySpec":                       {enum: "RSA_2048 RSA_3072 RSA_4096 SM2"},
	"XksKeyIdType":                          {min: 1, max: 128, pattern: `^[a-zA-Z0-9-_.]+$`},
	"XksProxyAuthenticationAccessKeyIdType": {min: 20, max: 30, pattern: `^[A-Z2-7]+$`, sensitive: true},
	"XksProxyAuthenticationCredentialType":  {},
	"XksProxyAuthenticationRawSecretAccessKeyType": {min: 43, max: 64, pattern: `^[a-zA-Z0-9\/+=]+$`, sensitive: true},
	"XksProxyConnectivityType":                     {enum: "PUBLIC_ENDPOINT VPC_ENDPOINT_SERVICE"},
	"XksProxyUriEndpointType":                      {min: 10, max: 128, pattern: `^https://[a-zA-Z0-9.-]+$`},
	"XksProxyUriPathType": {min: 10, max: 128,
		pattern: `^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$`},
	"XksProxyVpcEndpointServiceNameType": {min: 20, max: 64,
		pattern: `^(com|eu)\.amazonaws\.vpce\.([a-z]+-){2,3}\d+\.vpce-svc-[0-9a-z]+$`},
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
