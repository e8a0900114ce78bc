package transport

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service"
)

// wellFormed has a value for each shape with a pattern, and for the least length of the others.
var wellFormed = map[string]string{
	"LogIndexType":  "7",
	"AccountIdType": "111122223333", "BackingKeyIdType": strings.Repeat("ab", 32),
	"ApprovalDigestType":           strings.Repeat("ab", 32),
	"CloudHsmClusterIdType":        "cluster-22222222222",
	"GrantConstraintSourceArnType": "arn:aws:s3:us-east-1:111122223333:b", "RegionType": "us-east-1",
	"ServicePrincipalType":                  "s3.amazonaws.com",
	"XksProxyAuthenticationAccessKeyIdType": strings.Repeat("A", 20), "XksProxyUriEndpointType": "https://example.com",
	"XksProxyUriPathType":                "/kms/xks/v1",
	"XksProxyVpcEndpointServiceNameType": "com.amazonaws.vpce.us-east-1.vpce-svc-0123",
}

// illFormed breaks the pattern of its shape, at a length that is in order. Shapes that are not here
// take every character but this one.
var illFormed = map[string]string{
	"AccountIdType": "11112222333x", "BackingKeyIdType": strings.Repeat("AB", 32),
	"ApprovalDigestType":           strings.Repeat("AB", 32),
	"CloudHsmClusterIdType":        "Cluster-22222222222",
	"GrantConstraintSourceArnType": "arn:gcp:s3:us-east-1:111122223333:b", "RegionType": "us-east",
	"ServicePrincipalType":    "amazonaws.com",
	"XksProxyUriEndpointType": "http://example.com", "XksProxyUriPathType": "/kms/xks/none",
	"XksProxyVpcEndpointServiceNameType":           "org.amazonaws.vpce.us-east-1.vpce-svc-0123",
	"XksProxyAuthenticationAccessKeyIdType":        strings.Repeat("a", 20),
	"XksProxyAuthenticationRawSecretAccessKeyType": strings.Repeat("!", 43),
}

const outsider = "\u4e00" // in no pattern

func illFormedValue(name string) string {
	if v, special := illFormed[name]; special {
		return v
	}
	return outsider
}

// valid returns a value that satisfies all constraints of a shape.
func valid(name string, t reflect.Type) any {
	s := shapes[name]
	switch {
	case t == reflect.TypeFor[service.Timestamp]():
		return 1
	case t.Kind() == reflect.Bool:
		return true
	case t.Kind() == reflect.Int32:
		return s.min
	case t.Kind() == reflect.Map:
		return map[string]string{"k": "v"}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return make([]byte, max(s.min, 1))
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return []any{validObject(t.Elem())}
	case t.Kind() == reflect.Slice:
		return []any{valid(s.member, t.Elem())}
	case t.Kind() == reflect.Pointer:
		return validObject(t.Elem())
	case len(s.values) > 0:
		return s.values[0]
	case wellFormed[name] != "":
		return wellFormed[name]
	}
	return strings.Repeat("a", max(s.min, 1))
}

func validObject(t reflect.Type) map[string]any {
	all := map[string]any{}
	for f := range t.Fields() {
		all[f.Name] = valid(f.Tag.Get("shape"), f.Type)
	}
	return all
}

// violation is a value that is not valid, and what AWS says of it, behind the number.
type violation struct {
	value   any // nil leaves the member out
	message string
}

// violationsOf returns those of one member that is neither a structure nor a list of structures.
func violationsOf(f reflect.StructField, path string) (all []violation) {
	name := f.Tag.Get("shape")
	s, t := shapes[name], f.Type
	add := func(value any, text, format string, args ...any) {
		all = append(all,
			violation{value, fmt.Sprintf("Value %sat '%s' failed to satisfy constraint: Member must ", text, path) +
				fmt.Sprintf(format, args...)})
	}
	if f.Tag.Get("required") == "true" {
		add(nil, "null ", "not be null")
	}
	shown := func(text string) string {
		if s.sensitive {
			return ""
		}
		if len(text) > 1024 {
			text = text[:1024] + "..."
		}
		return "'" + text + "' "
	}
	switch {
	case t.Kind() == reflect.Int32:
		add(s.min-1, shown(fmt.Sprint(s.min-1)), "have value greater than or equal to %d", s.min)
		add(s.max+1, shown(fmt.Sprint(s.max+1)), "have value less than or equal to %d", s.max)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		buffer := func(n int) string { return shown(fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", n, n)) }
		add([]byte{}, buffer(0), "have length greater than or equal to %d", s.min)
		add(make([]byte, s.max+1), buffer(s.max+1), "have length less than or equal to %d", s.max)
	case t.Kind() == reflect.Slice:
		if s.max > 0 {
			add(slices.Repeat([]string{"a"}, s.max+1), "'["+strings.Repeat("a, ", s.max)+"a]' ",
				"have length less than or equal to %d", s.max)
		}
		if m := shapes[s.member]; len(m.values) > 0 {
			all = append(all, violation{[]string{m.values[0], "none"},
				fmt.Sprintf("Value 'none' at '%s.2.member' failed to satisfy constraint: Member must satisfy enum value set: [%s]",
					path, strings.Join(m.values, ", "))})
		}
	case t.Kind() == reflect.String && len(s.values) > 0:
		add("none", shown("none"), "satisfy enum value set: [%s]", strings.Join(s.values, ", "))
	case t.Kind() == reflect.String:
		good := valid(name, t).(string)
		if s.pattern != "" {
			add(illFormedValue(name), shown(illFormedValue(name)), "satisfy regular expression pattern: %s", s.pattern)
		}
		if long := good + strings.Repeat(good[len(good)-1:], s.max+1-len(good)); s.max > 0 &&
			(s.match == nil || s.match.MatchString(long)) {
			add(long, shown(long), "have length less than or equal to %d", s.max)
		}
		if short := strings.Repeat("a", max(s.min-1, 0)); s.min > 0 && (s.match == nil || s.match.MatchString(short)) {
			add(short, shown(short), "have length greater than or equal to %d", s.min)
		}
	}
	return all
}

// TestEveryConstraint breaks each constraint of each member of each request by itself, and then all
// of a request at once.
func TestEveryConstraint(t *testing.T) {
	broken := 0
	for _, op := range slices.Sorted(maps.Keys(operations)) {
		t.Run(op, func(t *testing.T) {
			request := operations[op].Request
			d := newDecoder(request)
			check := func(body map[string]any, want string) {
				t.Helper()
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				got := d.decode(text, reflect.New(request).Interface())
				if want == "" {
					if got != nil {
						t.Errorf("%.200s: %v", text, got)
					}
					return
				}
				p := &problem{}
				if got != nil {
					p = problemOf(got)
				}
				if p.Type != "ValidationException" || p.Message != want {
					t.Errorf("%.200s\ngot  %s: %.500s\nwant %.500s", text, p.Type, p.Message, want)
				}
			}
			check(validObject(request), "")
			whole, messages := validObject(request), []string{}
			breakMembers(request, "", func(path []string, v violation) {
				body := validObject(request)
				put(body, path, v.value)
				check(body, "1 validation error detected: "+v.message)
				broken++
			})
			for f := range request.Fields() {
				if all := violationsOf(f, lowerFirst(f.Name)); len(all) > 0 {
					put(whole, []string{f.Name}, all[0].value)
					messages = append(messages, all[0].message)
				}
			}
			if len(messages) > 1 {
				check(whole, fmt.Sprintf("%d validation errors detected: %s", len(messages),
					strings.Join(messages, "; ")))
			}
		})
	}
	if broken < 300 {
		t.Errorf("only %d constraints were broken", broken)
	}
}

// breakMembers goes through a structure and those in it; path leads to the member that is to be broken.
func breakMembers(t reflect.Type, prefix string, f func(path []string, v violation)) {
	for m := range t.Fields() {
		path := prefix + lowerFirst(m.Name)
		for _, v := range violationsOf(m, path) {
			f([]string{m.Name}, v)
		}
		inner := structOf(m.Type)
		if inner == nil {
			continue
		}
		path += "."
		if m.Type.Kind() == reflect.Slice {
			path += "1.member."
		}
		breakMembers(inner, path, func(deeper []string, v violation) { f(append([]string{m.Name}, deeper...), v) })
	}
}

// put sets a member; in a list, that of the first element.
func put(body map[string]any, path []string, value any) {
	if len(path) > 1 {
		inner := body[path[0]]
		if list, ok := inner.([]any); ok {
			inner = list[0]
		}
		put(inner.(map[string]any), path[1:], value)
		return
	}
	if value == nil {
		delete(body, path[0])
		return
	}
	body[path[0]] = value
}
