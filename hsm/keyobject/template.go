package keyobject

import (
	"slices"

	"github.com/miekg/pkcs11"
)

// SessionObject is the end of a session object's template.
func SessionObject() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // last: SoftHSM's C_UnwrapKey sets nothing after it
	}
}

// TokenObject is the end of a token object's template.
func TokenObject(id ID, label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // last: SoftHSM's C_UnwrapKey sets nothing after it
	}
}

// ReadableSecret is the template of a session object whose value is read. It is shared: nobody changes
// its attributes.
func ReadableSecret() []*pkcs11.Attribute { return readableSecret }

var readableSecret = slices.Clip([]*pkcs11.Attribute{
	pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
	pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
	pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
	pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
	pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
	pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
})

// SecretTemplate has the attributes that every secret key here has.
func SecretTemplate(keyType uint) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
	}
}

// DataKeyTemplate is WrappableTemplate of a generic secret. It is shared like ReadableSecret.
func DataKeyTemplate(size int) []*pkcs11.Attribute {
	if t, usual := usualDataKeys[size]; usual {
		return t
	}
	return WrappableTemplate(pkcs11.CKK_GENERIC_SECRET, size)
}

// usualDataKeys are the templates of AES_128 and AES_256, by their size in bytes.
var usualDataKeys = map[int][]*pkcs11.Attribute{
	16: slices.Clip(WrappableTemplate(pkcs11.CKK_GENERIC_SECRET, 16)),
	32: slices.Clip(WrappableTemplate(pkcs11.CKK_GENERIC_SECRET, 32)),
}

// WrappableTemplate is the template of a session object that can be wrapped but not read.
func WrappableTemplate(keyType uint, size int) []*pkcs11.Attribute {
	return append(SecretTemplate(keyType),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
}

// TestKeyTemplate is the template of a key that ends with its session.
func TestKeyTemplate(p Purpose) []*pkcs11.Attribute {
	return append(p.Template(),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.Size()))
}
