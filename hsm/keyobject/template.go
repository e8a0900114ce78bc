package keyobject

import "github.com/miekg/pkcs11"

// SessionObject is the end of a template.
func SessionObject() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // last: SoftHSM's C_UnwrapKey sets nothing after it
	}
}

// TokenObject is the end of a template.
func TokenObject(id ID, label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // last: SoftHSM's C_UnwrapKey sets nothing after it
	}
}

// ReadableSecret is a session object that is only there to be read.
func ReadableSecret() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}
}

// SecretTemplate has the attributes that every secret key here has.
func SecretTemplate(keyType uint) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
	}
}

// DataKeyTemplate is wrappableTemplate of a generic secret.
func DataKeyTemplate(size int) []*pkcs11.Attribute {
	return WrappableTemplate(pkcs11.CKK_GENERIC_SECRET, size)
}

// WrappableTemplate is a session object that can be wrapped but not read.
func WrappableTemplate(keyType uint, size int) []*pkcs11.Attribute {
	return append(SecretTemplate(keyType),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
}

func TestKeyTemplate(p Purpose) []*pkcs11.Attribute {
	return append(p.Template(),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.Size()))
}
