package hsm

import (
	"time"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/profile"
	"github.com/verenc/kms/hsm/session"
)

// Kinds of failure, for errors.Is. A failure of none of these kinds is a fault of the token or of
// this program.
var (
	ErrAuthentication = ckr.ErrAuthentication
	ErrNoObject       = ckr.ErrNoObject
	ErrUnavailable    = ckr.ErrUnavailable
	ErrTimeout        = ckr.ErrTimeout
	ErrUnsupported    = ckr.ErrUnsupported
	ErrFull           = ckr.ErrFull
	ErrMaterial       = ckr.ErrMaterial
	ErrPIN            = ckr.ErrPIN
	ErrGivenUp        = connection.ErrGivenUp
)

// What a connection is made of.
type (
	Config  = connection.Config
	Info    = connection.Info
	Library = connection.Library
	Stats   = connection.Stats
	Call    = session.Call // for Config.Observe
)

// Profiles gives the names for Config.Profile.
func Profiles() []string { return profile.Names() }

// Tokens lists the initialised tokens that a module offers, without logging in. The arguments are
// those of Config.
func Tokens(module, initArguments string, command []string) ([]Info, error) {
	return connection.Tokens(module, initArguments, command)
}

// DescribeLibrary describes a module and lists the initialised tokens that it offers, without logging in. The
// arguments are those of Config.
func DescribeLibrary(module, initArguments string, command []string) (Library, []Info, error) {
	return connection.DescribeLibrary(module, initArguments, command)
}

// HostModule serves a PKCS#11 module to the process that has started this one with
// Config.ModuleCommand, and ends with it.
func HostModule() error { return connection.HostModule() }

// Processors is what runtime.GOMAXPROCS should be for a token whose calls take so long.
func Processors(call time.Duration, cores int) int { return connection.Processors(call, cores) }

// Keys and what they may do.
type (
	ObjectID    = keyobject.ID
	Key         = connection.Key
	WrappedKey  = connection.WrappedKey
	NamedKey    = connection.NamedKey
	SealingKeys = connection.SealingKeys
	SecretKey   = keyobject.Secret
	Purpose     = keyobject.Purpose
	KeyPair     = keyobject.Pair
	KeyType     = keyobject.Type
	PairPurpose = keyobject.PairPurpose
	Attributes  = session.Attributes
	Object      = session.Object
)

// Purposes of a secret key.
const (
	Seal   = keyobject.Seal
	Wrap   = keyobject.Wrap
	MAC224 = keyobject.MAC224
	MAC256 = keyobject.MAC256
	MAC384 = keyobject.MAC384
	MAC512 = keyobject.MAC512
)

// Purposes of a key pair.
const (
	SignPair        = keyobject.SignPair
	DecryptPair     = keyobject.DecryptPair
	DerivePair      = keyobject.DerivePair
	UnwrapPair      = keyobject.UnwrapPair
	DecapsulatePair = keyobject.DecapsulatePair
)

// Types of a key pair.
const (
	RSA2048   = keyobject.RSA2048
	RSA3072   = keyobject.RSA3072
	RSA4096   = keyobject.RSA4096
	P256      = keyobject.P256
	P384      = keyobject.P384
	P521      = keyobject.P521
	Secp256k1 = keyobject.Secp256k1
	Ed25519   = keyobject.Ed25519
	MLDSA44   = keyobject.MLDSA44
	MLDSA65   = keyobject.MLDSA65
	MLDSA87   = keyobject.MLDSA87
	MLKEM512  = keyobject.MLKEM512
	MLKEM768  = keyobject.MLKEM768
	MLKEM1024 = keyobject.MLKEM1024
)

// Overhead is how many bytes longer than its plaintext a box of Encrypt is: IV and tag.
const Overhead = session.Overhead

// Signatures.
type (
	Algorithm = session.Algorithm
	Scheme    = session.Scheme
)

// Algorithms of signatures.
const (
	PKCS1v15  = session.PKCS1v15
	PSS       = session.PSS
	ECDSA     = session.ECDSA
	PureEdDSA = session.PureEdDSA
	HashEdDSA = session.HashEdDSA
	MLDSA     = session.MLDSA
	MLDSAMu   = session.MLDSAMu
)

// Imports of key material.
type (
	Import          = session.Import
	ImportAlgorithm = session.ImportAlgorithm
	Imported        = session.Imported
)

// Algorithms of imports.
const (
	OAEPSHA1            = session.OAEPSHA1
	OAEPSHA256          = session.OAEPSHA256
	RSAAESKeyWrapSHA1   = session.RSAAESKeyWrapSHA1
	RSAAESKeyWrapSHA256 = session.RSAAESKeyWrapSHA256
)
