package connection

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// Info describes the token (CK_TOKEN_INFO) for people.
type Info struct {
	Label, Manufacturer, Model, Serial, Firmware string
}

func infoOf(i pkcs11.TokenInfo) Info {
	return Info{
		Label: i.Label, Manufacturer: i.ManufacturerID, Model: i.Model, Serial: i.SerialNumber,
		Firmware: version(i.FirmwareVersion),
	}
}

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Library describes a module (CK_INFO) for people.
type Library struct {
	Manufacturer, Description, Version, Cryptoki string
}

// DescribeLibrary describes a module and lists the initialised tokens that it offers, without logging in. The
// arguments are those of Config.
func DescribeLibrary(module, initArguments string, command []string) (described Library, tokens []Info, err error) {
	err = withLibrary(module, initArguments, command, func(lib *library) error {
		info, err := lib.module.Info()
		if err != nil {
			return ckr.Failed("C_GetInfo", err)
		}
		described = Library{Manufacturer: info.ManufacturerID, Description: info.LibraryDescription,
			Version: version(info.LibraryVersion), Cryptoki: version(info.CryptokiVersion)}
		tokens, err = lib.tokens()
		return err
	})
	return described, tokens, err
}

// Tokens lists the initialised tokens that a module offers, without logging in. The arguments are
// those of Config.
func Tokens(module, initArguments string, command []string) (tokens []Info, err error) {
	err = withLibrary(module, initArguments, command, func(lib *library) (err error) {
		tokens, err = lib.tokens()
		return err
	})
	return tokens, err
}

// withLibrary lends a module to f.
func withLibrary(module, initArguments string, command []string, f func(*library) error) (err error) {
	lib, err := loadLibrary(module, initArguments, command)
	if err != nil {
		return err
	}
	defer func() {
		if released := lib.release(); err == nil {
			err = released
		}
	}()
	return f(lib)
}

// tokens lists the initialised tokens of a module.
func (l *library) tokens() (tokens []Info, err error) {
	slots, err := l.module.Slots()
	if err != nil {
		return nil, ckr.Failed("C_GetSlotList", err)
	}
	for _, slot := range slots {
		if info, err := l.module.TokenInfo(slot); err == nil && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			tokens = append(tokens, infoOf(info))
		}
	}
	return tokens, nil
}
