// What a module can lie about, in the order of Go's Field, which checks its names against these.
#define FIELDS(F) \
	F(COUNT) F(LENGTH) F(HANDLE) F(VALUE) F(ABSENT) F(SENSITIVE) \
	F(FLAGS) F(STATE) F(SLOT) F(DEVICE_ERROR) \
	F(MAX_SESSIONS) F(SESSIONS) F(MAX_RW_SESSIONS) F(RW_SESSIONS) F(MAX_PIN) F(MIN_PIN) \
	F(TOTAL_PUBLIC) F(FREE_PUBLIC) F(TOTAL_PRIVATE) F(FREE_PRIVATE) \
	F(LABEL) F(MANUFACTURER) F(MODEL) F(SERIAL) F(DESCRIPTION) F(CLOCK) \
	F(CRYPTOKI_VERSION) F(HARDWARE_VERSION) F(FIRMWARE_VERSION) \
	F(MIN_KEY) F(MAX_KEY)

// What functions can lie about: a function, the field, and for one of a structure that its caller
// gives the number of the argument, the structure, and the member. The Go side takes the pairs from
// here.
#define MEMBERS(M) \
	M(C_GetInfo, CRYPTOKI_VERSION, 0, CK_INFO, cryptokiVersion) \
	M(C_GetInfo, MANUFACTURER, 0, CK_INFO, manufacturerID) \
	M(C_GetInfo, FLAGS, 0, CK_INFO, flags) \
	M(C_GetInfo, DESCRIPTION, 0, CK_INFO, libraryDescription) \
	M(C_GetInfo, FIRMWARE_VERSION, 0, CK_INFO, libraryVersion) \
	M(C_GetSlotInfo, DESCRIPTION, 1, CK_SLOT_INFO, slotDescription) \
	M(C_GetSlotInfo, MANUFACTURER, 1, CK_SLOT_INFO, manufacturerID) \
	M(C_GetSlotInfo, FLAGS, 1, CK_SLOT_INFO, flags) \
	M(C_GetSlotInfo, HARDWARE_VERSION, 1, CK_SLOT_INFO, hardwareVersion) \
	M(C_GetSlotInfo, FIRMWARE_VERSION, 1, CK_SLOT_INFO, firmwareVersion) \
	M(C_GetTokenInfo, LABEL, 1, CK_TOKEN_INFO, label) \
	M(C_GetTokenInfo, MANUFACTURER, 1, CK_TOKEN_INFO, manufacturerID) \
	M(C_GetTokenInfo, MODEL, 1, CK_TOKEN_INFO, model) \
	M(C_GetTokenInfo, SERIAL, 1, CK_TOKEN_INFO, serialNumber) \
	M(C_GetTokenInfo, FLAGS, 1, CK_TOKEN_INFO, flags) \
	M(C_GetTokenInfo, MAX_SESSIONS, 1, CK_TOKEN_INFO, ulMaxSessionCount) \
	M(C_GetTokenInfo, SESSIONS, 1, CK_TOKEN_INFO, ulSessionCount) \
	M(C_GetTokenInfo, MAX_RW_SESSIONS, 1, CK_TOKEN_INFO, ulMaxRwSessionCount) \
	M(C_GetTokenInfo, RW_SESSIONS, 1, CK_TOKEN_INFO, ulRwSessionCount) \
	M(C_GetTokenInfo, MAX_PIN, 1, CK_TOKEN_INFO, ulMaxPinLen) \
	M(C_GetTokenInfo, MIN_PIN, 1, CK_TOKEN_INFO, ulMinPinLen) \
	M(C_GetTokenInfo, TOTAL_PUBLIC, 1, CK_TOKEN_INFO, ulTotalPublicMemory) \
	M(C_GetTokenInfo, FREE_PUBLIC, 1, CK_TOKEN_INFO, ulFreePublicMemory) \
	M(C_GetTokenInfo, TOTAL_PRIVATE, 1, CK_TOKEN_INFO, ulTotalPrivateMemory) \
	M(C_GetTokenInfo, FREE_PRIVATE, 1, CK_TOKEN_INFO, ulFreePrivateMemory) \
	M(C_GetTokenInfo, HARDWARE_VERSION, 1, CK_TOKEN_INFO, hardwareVersion) \
	M(C_GetTokenInfo, FIRMWARE_VERSION, 1, CK_TOKEN_INFO, firmwareVersion) \
	M(C_GetTokenInfo, CLOCK, 1, CK_TOKEN_INFO, utcTime) \
	M(C_GetSessionInfo, SLOT, 1, CK_SESSION_INFO, slotID) \
	M(C_GetSessionInfo, STATE, 1, CK_SESSION_INFO, state) \
	M(C_GetSessionInfo, FLAGS, 1, CK_SESSION_INFO, flags) \
	M(C_GetSessionInfo, DEVICE_ERROR, 1, CK_SESSION_INFO, ulDeviceError) \
	M(C_GetMechanismInfo, MIN_KEY, 2, CK_MECHANISM_INFO, ulMinKeySize) \
	M(C_GetMechanismInfo, MAX_KEY, 2, CK_MECHANISM_INFO, ulMaxKeySize) \
	M(C_GetMechanismInfo, FLAGS, 2, CK_MECHANISM_INFO, flags)
