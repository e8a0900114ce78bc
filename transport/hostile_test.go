package transport_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/verenc/kms/transport"
)

// fortress is a server under attack. After each request it checks that what must be there is, and
// nothing else.
type fortress struct {
	*server
	*kms.Client // of the listener whose log is looked at

	url     string
	log     *lockedBuffer
	serving sync.WaitGroup // requests in the handler: its log line comes after the answer
	id, arn string
	wrapped []byte // a ciphertext of form 2
	sealed  []byte // a ciphertext of form 1, of sealedText
	key     []byte // the data key in wrapped
}

const sealedText = "sixteen bytes !!"

func newFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{server: newServer(t, options{}), log: &lockedBuffer{}}
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(f.log),
		zap.DebugLevel))
	h, err := transport.New(transport.Config{Service: f.Service, Log: log, Metrics: prometheus.NewRegistry(),
		Regions: []string{region}, Now: f.Now})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.serving.Add(1)
		defer f.serving.Done()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	f.url = listener.URL
	f.Client = kms.New(f.server.Options(), func(o *kms.Options) { o.BaseEndpoint = &f.url })
	f.id, f.arn = f.newKey(t)
	made, err := f.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &f.id, KeySpec: types.DataKeySpecAes128})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := f.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &f.id, Plaintext: []byte(sealedText)})
	if err != nil {
		t.Fatal(err)
	}
	f.wrapped, f.key, f.sealed = made.CiphertextBlob, opened.Plaintext, sealed.CiphertextBlob
	return f
}

// stands checks that nothing is lost: the key decrypts what it decrypted before.
func (f *fortress) stands(t *testing.T) {
	t.Helper()
	out, err := f.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.wrapped})
	if err != nil || !bytes.Equal(out.Plaintext, f.key) {
		t.Errorf("the key does not work any more: %v", err)
	}
}

// logged returns what was logged since the last time, about requests that are answered.
func (f *fortress) logged() string {
	f.serving.Wait()
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	defer f.log.b.Reset()
	return f.log.b.String()
}

// words are the parts of a body that no log line may repeat.
var words = regexp.MustCompile(`[A-Za-z0-9+/=]{10,}`)

// attack is a request and the answer that it must get.
type attack struct {
	name    string
	target  string // without its prefix; default DescribeKey
	body    string
	before  func(*http.Request) // signing
	after   func(*http.Request) // signing
	at      time.Duration       // of the signature, from now
	status  int                 // default 400
	code    string              // "" for a success
	message string              // "*" for any
}

// repel sends the attacks and checks the answers, the log, and that the key is still there.
func (f *fortress) repel(t *testing.T, attacks ...attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			target := "DescribeKey"
			if a.target != "" {
				target = a.target
			}
			r := post(t, f.url, jsonType, "TrentService."+target, a.body)
			if a.before != nil {
				a.before(r)
			}
			signRequest(t, r, f.Secret, "kms", a.body, time.Now().Add(a.at))
			if a.after != nil {
				a.after(r)
			}
			f.expect(t, r, a)
			f.stands(t)
		})
	}
}

func (f *fortress) expect(t *testing.T, r *http.Request, a attack) {
	t.Helper()
	f.logged() // what came before
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, body := send(t, client, r)
	var answer struct {
		Type    string `json:"__type"`
		Message string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	status := a.status
	switch {
	case a.code == "" && status == 0:
		status = http.StatusOK
	case status == 0:
		status = http.StatusBadRequest
	}
	if resp.StatusCode != status || answer.Type != a.code || (a.message != "*" && answer.Message != a.message) {
		t.Errorf("got %d %s: %q\nwant %d %s: %q", resp.StatusCode, answer.Type, answer.Message, status,
			a.code, a.message)
	}
	text := f.logged()
	f.checkLog(t, text, resp.Header.Get("X-Amzn-Requestid"), a.code)
	f.checkSecrets(t, text, r.Header, a.body)
}

// checkLog expects one line about the request.
func (f *fortress) checkLog(t *testing.T, text, requestID, code string) {
	t.Helper()
	var line struct {
		Msg       string
		RequestID string `json:"request_id"`
		Error     string
	}
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("not one line of JSON: %q", text)
	}
	if line.Msg != "request" || line.RequestID == "" || line.RequestID != requestID || line.Error != code {
		t.Errorf("request %s that ended in %q was logged as %s", requestID, code, text)
	}
}

// checkSecrets expects nothing in a log line that the client sent as content or as proof.
func (f *fortress) checkSecrets(t *testing.T, text string, h http.Header, body string) {
	t.Helper()
	never := append(words.FindAllString(body, -1), f.Secret.SecretAccessKey, string(f.key),
		base64.StdEncoding.EncodeToString(f.key),
		base64.StdEncoding.EncodeToString(f.wrapped), base64.StdEncoding.EncodeToString(f.sealed), sealedText)
	for _, auth := range h["Authorization"] {
		if _, signature, ok := strings.Cut(auth, "Signature="); ok {
			never = append(never, signature)
		}
	}
	for _, secret := range never {
		if secret != "" && secret != account && strings.Contains(text, secret) {
			t.Errorf("%q is in the log: %s", secret, text)
		}
	}
}

func TestHostileRequests(t *testing.T) {
	f := newFortress(t)
	t.Run("size", f.attackBySize)
	t.Run("form", f.attackByForm)
	t.Run("member", f.attackByMember)
	t.Run("target", f.attackByTarget)
	t.Run("signature", f.attackBySignature)
	t.Run("text", f.attackByText)
	t.Run("number", f.attackByNumber)
	t.Run("ciphertext", f.attackByCiphertext)
	t.Run("context", f.attackByContext)
}

const mostBytes = 64 << 10

// chunked has the body sent without its length.
func chunked(r *http.Request) {
	r.ContentLength = -1
	r.Body = io.NopCloser(struct{ io.Reader }{r.Body})
}

func (f *fortress) attackBySize(t *testing.T) {
	padded := func(n int) string {
		body := fmt.Sprintf(`{"KeyId":%q}`, f.id)
		return body + strings.Repeat(" ", n-len(body))
	}
	tooLarge := attack{status: http.StatusRequestEntityTooLarge, code: "RequestEntityTooLargeException",
		message: "The request body must not be larger than 65536 bytes."}
	with := func(a attack, name, body string, before func(*http.Request)) attack {
		a.name, a.body, a.before = name, body, before
		return a
	}
	f.repel(t,
		with(attack{}, "as large as may be", padded(mostBytes), nil),
		with(attack{}, "as large as may be, chunked", padded(mostBytes), chunked),
		with(tooLarge, "a byte larger", padded(mostBytes+1), nil),
		with(tooLarge, "a byte larger, chunked", padded(mostBytes+1), chunked),
		with(tooLarge, "one string", `{"KeyId":"`+strings.Repeat("k", mostBytes)+`"}`, nil))
	t.Run("a terabyte announced", func(t *testing.T) {
		f.logged()
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn,
			"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.Decrypt\r\nContent-Length: %d\r\n\r\n", 1<<40)
		answer := make([]byte, len("HTTP/1.1 413"))
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 413" {
			t.Errorf("%s, %v", answer, err)
		}
		if n := strings.Count(f.logged(), "\n"); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
	})
}

func (f *fortress) attackByForm(t *testing.T) {
	bad := func(name, body, message string) attack {
		return attack{name: name, body: body, code: "SerializationException", message: message}
	}
	const (
		notJSON = "The request body is not valid JSON."
		unfit   = "Unexpected field type"
	)
	missing := attack{name: "empty", code: "ValidationException",
		message: "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"}
	blank, null := missing, missing
	blank.name, blank.body = "blank", " \n"
	null.name, null.body = "null member", `{"KeyId":null}`
	otherCase := missing
	otherCase.name, otherCase.body = "names in another case", fmt.Sprintf(`{"keyid":%q,"KEYID":%q}`, f.id, f.id)
	f.repel(t, missing, blank, null, otherCase,
		bad("text", "hello", unfit),
		bad("null", "null", unfit),
		bad("string", `"KeyId"`, unfit),
		bad("number", "1", unfit),
		bad("list", "[]", "Start of list found where not expected."),
		bad("cut off", `{"KeyId":"`, notJSON),
		bad("cut off at a member", `{"KeyId":`, notJSON),
		bad("two values", `{"KeyId":"x"} {}`, notJSON),
		bad("trailing comma", `{"KeyId":"x",}`, notJSON),
		bad("single quotes", `{'KeyId':'x'}`, notJSON),
		bad("comment", `{"KeyId":"x"/* */}`, notJSON),
		bad("byte order mark", "\ufeff"+`{"KeyId":"x"}`, unfit),
		bad("form", "Action=DescribeKey&KeyId=x", unfit),
		bad("CBOR", "\xa1\x65KeyId\x61x", "The request body is not UTF-8."),
		bad("deep lists", `{"KeyId":`+strings.Repeat("[", 30000)+strings.Repeat("]", 30000)+"}", notJSON),
		bad("deep lists that nobody reads", `{"Ignored":`+strings.Repeat("[", 30000)+strings.Repeat("]", 30000)+
			"}", notJSON),
		bad("less deep lists", `{"KeyId":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+"}",
			"Start of list found where not expected."),
		bad("deep objects, cut off", strings.Repeat(`{"KeyId":`, 6000), notJSON),
		attack{name: "unknown member", body: fmt.Sprintf(`{"KeyId":%q,"Nonsense":{"a":[1,{"b":null}]}}`, f.id)},
		attack{name: "the last of two members counts", body: fmt.Sprintf(`{"KeyId":"alias/none","KeyId":%q}`, f.id)},
		attack{name: "the last of two members counts, even if it is wrong",
			body: fmt.Sprintf(`{"KeyId":%q,"KeyId":"nonsense"}`, f.id),
			code: "NotFoundException", message: "Invalid keyId 'nonsense'"},
		attack{name: "two spellings of one name", body: fmt.Sprintf(`{"KeyId":"alias/none","\u004beyId":%q}`, f.id)},
	)
}

// attackByMember gives each kind of member a value of another kind.
func (f *fortress) attackByMember(t *testing.T) {
	values := map[string]string{"string": `"sixteen letters."`, "number": "7", "true": "true", "list": "[1]",
		"structure": `{"a":1}`}
	const list, structure = "Start of list found where not expected.",
		"Start of structure or map found where not expected."
	for _, m := range []struct {
		kind, target, member string
		wrong                map[string]string // kind of the value -> message
	}{
		{"string", "DescribeKey", "KeyId", map[string]string{"number": "NUMBER_VALUE can not be converted to a String",
			"true": "TRUE_VALUE can not be converted to a String", "list": list, "structure": structure}},
		{"boolean", "Encrypt", "DryRun", map[string]string{"number": "NUMBER_VALUE can not be converted to a Boolean",
			"string": "STRING_VALUE can not be converted to a Boolean", "list": list, "structure": structure}},
		{"integer", "ListKeys", "Limit", map[string]string{"true": "TRUE_VALUE can not be converted to an Integer",
			"string": "STRING_VALUE can not be converted to an Integer", "list": list, "structure": structure}},
		{"blob", "Decrypt", "CiphertextBlob", map[string]string{"number": "NUMBER_VALUE can not be converted to a Blob",
			"true": "TRUE_VALUE can not be converted to a Blob", "list": list, "structure": structure,
			"string": "Member 'ciphertextBlob' is not valid Base64."}},
		{"list", "DescribeKey", "GrantTokens",
			map[string]string{"number": "Unexpected field type", "true": "Unexpected field type",
				"string": "Unexpected field type", "structure": structure,
				"list": "NUMBER_VALUE can not be converted to a String"}},
		{"list of structures", "CreateKey", "Tags",
			map[string]string{"number": "Unexpected field type", "true": "Unexpected field type",
				"string": "Unexpected field type", "structure": structure, "list": "Unexpected field type"}},
		{"map", "Encrypt", "EncryptionContext",
			map[string]string{"number": "Unexpected field type", "true": "Unexpected field type",
				"string": "Unexpected field type", "list": list,
				"structure": "NUMBER_VALUE can not be converted to a String"}},
		{"structure", "GenerateRandom", "Recipient",
			map[string]string{"number": "Unexpected field type", "true": "Unexpected field type",
				"string": "Unexpected field type", "list": list}},
	} {
		for kind, message := range m.wrong {
			f.repel(t, attack{name: m.kind + " as " + kind, target: m.target,
				body: fmt.Sprintf(`{%q:%s}`, m.member, values[kind]),
				code: "SerializationException", message: message})
		}
	}
	f.repel(t,
		attack{name: "null in a list", body: fmt.Sprintf(`{"KeyId":%q,"GrantTokens":[null]}`, f.id),
			code: "SerializationException", message: "NULL_VALUE can not be converted to a String"},
		attack{name: "null in a map", target: "Encrypt",
			body:    fmt.Sprintf(`{"KeyId":%q,"Plaintext":"eA==","EncryptionContext":{"k":null}}`, f.id),
			code:    "ValidationException",
			message: "1 validation error detected: Value null at 'encryptionContext.k.member' failed to satisfy constraint: Member must not be null"},
		attack{name: "tag without value", target: "CreateKey", body: `{"Tags":[{"TagKey":"a"}]}`,
			code:    "ValidationException",
			message: "1 validation error detected: Value null at 'tags.1.member.tagValue' failed to satisfy constraint: Member must not be null"},
		attack{name: "11 grant tokens", body: fmt.Sprintf(`{"KeyId":%q,"GrantTokens":["a"%s]}`, f.id,
			strings.Repeat(`,"a"`, 10)), code: "ValidationException",
			message: "1 validation error detected: Value '[a, a, a, a, a, a, a, a, a, a, a]' at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10"},
		attack{name: "base64 of another alphabet", target: "Decrypt", body: `{"CiphertextBlob":"_-_-"}`,
			code:    "SerializationException",
			message: "Member 'ciphertextBlob' is not valid Base64."},
		attack{name: "a plaintext too long", target: "Encrypt", code: "ValidationException",
			body: fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q}`, f.id,
				base64.StdEncoding.EncodeToString(make([]byte, 4097))),
			message: "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		attack{name: "a ciphertext too long", target: "Decrypt", code: "ValidationException",
			body:    fmt.Sprintf(`{"CiphertextBlob":%q}`, base64.StdEncoding.EncodeToString(make([]byte, 6145))),
			message: "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=6145 cap=6145]' at 'ciphertextBlob' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		attack{name: "no ciphertext", target: "Decrypt", body: `{"CiphertextBlob":""}`, code: "ValidationException",
			message: "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=0 cap=0]' at 'ciphertextBlob' failed to satisfy constraint: Member must have length greater than or equal to 1"},
	)
}

func (f *fortress) attackByTarget(t *testing.T) {
	body := fmt.Sprintf(`{"KeyId":%q}`, f.id)
	unknown := func(name string, before func(*http.Request)) attack {
		return attack{name: name, body: body, before: before, code: "UnknownOperationException"}
	}
	set := func(targets ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["X-Amz-Target"] = targets }
	}
	elsewhere := func(name, method, path string) attack {
		return attack{name: name, body: body, status: http.StatusNotFound, code: "UnknownOperationException",
			message: "Send requests as POST /.",
			before:  func(r *http.Request) { r.Method, r.URL.Path = method, path }}
	}
	f.repel(t,
		unknown("none", set()),
		unknown("empty", set("")),
		unknown("unknown", set("TrentService.Nonsense")),
		unknown("of another service", set("DynamoDB_20120810.DescribeKey")),
		unknown("without prefix", set("DescribeKey")),
		unknown("prefix only", set("TrentService.")),
		unknown("prefix twice", set("TrentService.TrentService.DescribeKey")),
		unknown("in another case", set("TrentService.describekey")),
		unknown("in a path", set("TrentService.DescribeKey/x")),
		unknown("two", set("TrentService.DescribeKey", "TrentService.DescribeKey")),
		unknown("two in one", set("TrentService.DescribeKey, TrentService.DescribeKey")),
		elsewhere("GET", http.MethodGet, "/"),
		elsewhere("PUT", http.MethodPut, "/"),
		elsewhere("DELETE", http.MethodDelete, "/"),
		elsewhere("a path", http.MethodPost, "/kms"),
		elsewhere("two slashes", http.MethodPost, "//"),
		elsewhere("dots", http.MethodPost, "/../"),
		elsewhere("POST /healthz", http.MethodPost, "/healthz"),
		elsewhere("metrics", http.MethodGet, "/metrics"),
	)
}

func (f *fortress) attackByText(t *testing.T) {
	encrypt := func(context string) string {
		return fmt.Sprintf(`{"KeyId":%q,"Plaintext":"eA==","EncryptionContext":%s}`, f.id, context)
	}
	const notUTF8, half = "The request body is not UTF-8.", "The request body is not valid JSON."
	bad := func(name, body, message string) attack {
		return attack{name: name, target: "Encrypt", body: body, code: "SerializationException", message: message}
	}
	f.repel(t,
		bad("not UTF-8", encrypt("{\"k\":\"\xff\"}"), notUTF8),
		bad("overlong", encrypt("{\"k\":\"\xc0\xaf\"}"), notUTF8),
		bad("surrogate in UTF-8", encrypt("{\"k\":\"\xed\xa0\x80\"}"), notUTF8),
		bad("first half of a pair", encrypt(`{"k":"\ud83d"}`), half),
		bad("second half of a pair", encrypt(`{"k":"\uDE00"}`), half),
		bad("halves in the wrong order", encrypt(`{"\ude00\ud83d":"v"}`), half),
		bad("half of a pair in what nobody reads", `{"Nonsense":"\udbff\\udc00"}`, half),
		bad("raw NUL", encrypt("{\"k\":\"\x00\"}"), "The request body is not valid JSON."),
		attack{name: "a pair", target: "Encrypt", body: encrypt(`{"k":"\ud83d\uDE00"}`)},
		attack{name: "no escape at all", target: "Encrypt", body: encrypt(`{"k":"\\ud83d"}`)},
		attack{name: "NUL", target: "Encrypt", body: encrypt(`{"\u0000":"\u0000"}`)},
		attack{name: "NUL in a key id", body: `{"KeyId":"\u0000"}`, code: "NotFoundException",
			message: "Invalid keyId '\x00'"},
		attack{name: "NUL behind a key id", body: fmt.Sprintf(`{"KeyId":"%s\u0000"}`, f.id), code: "NotFoundException",
			message: "Invalid keyId '" + f.id + "\x00'"},
		attack{name: "line end behind a key id", body: fmt.Sprintf(`{"KeyId":"%s\n"}`, f.id), code: "NotFoundException",
			message: "Invalid keyId '" + f.id + "\n'"},
		attack{name: "SQL", body: `{"KeyId":"alias/' OR 1=1 --"}`, code: "NotFoundException", message: "*"},
		attack{name: "a path", body: `{"KeyId":"alias/../../etc/passwd"}`, code: "NotFoundException", message: "*"},
		attack{name: "format verbs", body: `{"KeyId":"%s%n%x"}`, code: "NotFoundException",
			message: "Invalid keyId '%s%n%x'"},
		attack{name: "NUL in an alias", target: "CreateAlias",
			body: fmt.Sprintf(`{"AliasName":"alias/a\u0000","TargetKeyId":%q}`, f.id), code: "ValidationException",
			message: "1 validation error detected: Value 'alias/a\x00' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
	)
	if out, err := f.ListAliases(t.Context(), &kms.ListAliasesInput{}); err != nil || len(out.Aliases) != 0 {
		t.Errorf("aliases %v, %v", out, err)
	}
}

func (f *fortress) attackByNumber(t *testing.T) {
	list := func(name, limit, code, message string) attack {
		return attack{name: name, target: "ListKeys", body: `{"Limit":` + limit + `}`, code: code, message: message}
	}
	const (
		least  = "1 validation error detected: Value '%s' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"
		most   = "1 validation error detected: Value '%s' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000"
		number = "NUMBER_VALUE can not be converted to an Integer"
	)
	f.repel(t,
		list("0", "0", "ValidationException", fmt.Sprintf(least, "0")),
		list("negative", "-1", "ValidationException", fmt.Sprintf(least, "-1")),
		list("most negative", "-2147483647", "ValidationException", fmt.Sprintf(least, "-2147483647")),
		list("1001", "1001", "ValidationException", fmt.Sprintf(most, "1001")),
		list("largest", "2147483647", "ValidationException", fmt.Sprintf(most, "2147483647")),
		list("a bit larger", "2147483648", "SerializationException", number),
		list("64 bits", "18446744073709551617", "SerializationException", number),
		list("huge", "1e400", "SerializationException", number),
		list("a thousand digits", strings.Repeat("9", 1000), "SerializationException", number),
		list("fraction", "1.5", "SerializationException", number),
		list("tiny", "1e-400", "ValidationException", fmt.Sprintf(least, "0")),
		list("exponent", "1e3", "", ""),
		list("NaN", "NaN", "SerializationException", "The request body is not valid JSON."),
		list("hexadecimal", "0x10", "SerializationException", "The request body is not valid JSON."),
		list("leading zero", "010", "SerializationException", "The request body is not valid JSON."),
		list("plus", "+1", "SerializationException", "The request body is not valid JSON."),
		attack{name: "random bytes", target: "GenerateRandom", body: `{"NumberOfBytes":1025}`,
			code:    "ValidationException",
			message: "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
	)
}
