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

// Tokens lists the initialised tokens that a module offers, without logging in. The arguments are
// those of Config.
func Tokens(module, initArguments string, command []string) (tokens []Info, err error) {
	lib, err := loadLibrary(module, initArguments, command)
	if err != nil {
		return nil, err
	}
	defer func() {
		if released := lib.release(); err == nil {
			err = released
		}
	}()
	slots, err := lib.module.Slots()
	if err != nil {
		return nil, ckr.Failed("C_GetSlotList", err)
	}
	for _, slot := range slots {
		if info, err := lib.module.TokenInfo(slot); err == nil && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			tokens = append(tokens, infoOf(info))
		}
	}
	return tokens, nil
}
