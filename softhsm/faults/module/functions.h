// Every function of PKCS#11 v2.40 in the order of CK_FUNCTION_LIST, with its number of arguments and a letter for each:
//
//	s  session                       S  buffer for a session
//	o  object, k key, w wrapping key, u unwrapping key
//	O  buffer for an object          F  buffer for objects, then its length, and a buffer for how many were found
//	m  mechanism with parameter      M  mechanism type
//	t  template, then its length     v  template whose values are filled in, then its length
//	d  data, then its length         D  buffer for data, then one for its length
//	R  buffer for data, then its length
//	N  buffer for numbers, then one for how many there are
//	l  slot                          .  anything else
//
// A # is the length that belongs to the letter before. All arguments are as wide as a CK_ULONG, but for the CK_BBOOL of
// C_GetSlotList. The Go side reads the names from here.
#define FUNCTIONS(F) \
	F(C_Initialize, 1, ".") \
	F(C_Finalize, 1, ".") \
	F(C_GetInfo, 1, ".") \
	F(C_GetFunctionList, 1, ".") \
	F(C_GetSlotList, 3, ".N#") \
	F(C_GetSlotInfo, 2, "l.") \
	F(C_GetTokenInfo, 2, "l.") \
	F(C_GetMechanismList, 3, "lN#") \
	F(C_GetMechanismInfo, 3, "lM.") \
	F(C_InitToken, 4, "l...") \
	F(C_InitPIN, 3, "s..") \
	F(C_SetPIN, 5, "s....") \
	F(C_OpenSession, 5, "l...S") \
	F(C_CloseSession, 1, "s") \
	F(C_CloseAllSessions, 1, "l") \
	F(C_GetSessionInfo, 2, "s.") \
	F(C_GetOperationState, 3, "sD#") \
	F(C_SetOperationState, 5, "sd#kk") \
	F(C_Login, 4, "s...") \
	F(C_Logout, 1, "s") \
	F(C_CreateObject, 4, "st#O") \
	F(C_CopyObject, 5, "sot#O") \
	F(C_DestroyObject, 2, "so") \
	F(C_GetObjectSize, 3, "so.") \
	F(C_GetAttributeValue, 4, "sov#") \
	F(C_SetAttributeValue, 4, "sot#") \
	F(C_FindObjectsInit, 3, "st#") \
	F(C_FindObjects, 4, "sF##") \
	F(C_FindObjectsFinal, 1, "s") \
	F(C_EncryptInit, 3, "smk") \
	F(C_Encrypt, 5, "sd#D#") \
	F(C_EncryptUpdate, 5, "sd#D#") \
	F(C_EncryptFinal, 3, "sD#") \
	F(C_DecryptInit, 3, "smk") \
	F(C_Decrypt, 5, "sd#D#") \
	F(C_DecryptUpdate, 5, "sd#D#") \
	F(C_DecryptFinal, 3, "sD#") \
	F(C_DigestInit, 2, "sm") \
	F(C_Digest, 5, "sd#D#") \
	F(C_DigestUpdate, 3, "sd#") \
	F(C_DigestKey, 2, "sk") \
	F(C_DigestFinal, 3, "sD#") \
	F(C_SignInit, 3, "smk") \
	F(C_Sign, 5, "sd#D#") \
	F(C_SignUpdate, 3, "sd#") \
	F(C_SignFinal, 3, "sD#") \
	F(C_SignRecoverInit, 3, "smk") \
	F(C_SignRecover, 5, "sd#D#") \
	F(C_VerifyInit, 3, "smk") \
	F(C_Verify, 5, "sd#d#") \
	F(C_VerifyUpdate, 3, "sd#") \
	F(C_VerifyFinal, 3, "sd#") \
	F(C_VerifyRecoverInit, 3, "smk") \
	F(C_VerifyRecover, 5, "sd#D#") \
	F(C_DigestEncryptUpdate, 5, "sd#D#") \
	F(C_DecryptDigestUpdate, 5, "sd#D#") \
	F(C_SignEncryptUpdate, 5, "sd#D#") \
	F(C_DecryptVerifyUpdate, 5, "sd#D#") \
	F(C_GenerateKey, 5, "smt#O") \
	F(C_GenerateKeyPair, 8, "smt#t#OO") \
	F(C_WrapKey, 6, "smwkD#") \
	F(C_UnwrapKey, 8, "smud#t#O") \
	F(C_DeriveKey, 6, "smkt#O") \
	F(C_SeedRandom, 3, "sd#") \
	F(C_GenerateRandom, 3, "sR#") \
	F(C_GetFunctionStatus, 1, "s") \
	F(C_CancelFunction, 1, "s") \
	F(C_WaitForSlotEvent, 3, "...")

// Further functions, of PKCS#11 v3.2.
#define FUNCTIONS_3_2(F) \
	F(C_DecapsulateKey, 8, "smkt#d#O")
