package policy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// permissionsOf are the permissions of operations that have others than their names.
var permissionsOf = map[string][]string{"ReEncrypt": {"ReEncryptFrom", "ReEncryptTo"}}

// TestCrossAccountActions compares the operations with what AWS says of each ("Cross-account use:
// Yes"), as the comments of its SDK for Go have it.
func TestCrossAccountActions(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/kms").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "api_op_*.go"))
	if err != nil || len(files) < 50 {
		t.Fatalf("%d operations, %v", len(files), err)
	}
	use := regexp.MustCompile(`Cross-account\s+(?://\s+)?use:?\s+(?://\s+)?(Yes|No)`)
	want := map[string]bool{"sts:assumerole": true}
	told := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := use.FindSubmatch(text)
		if m == nil {
			continue
		}
		told++
		if string(m[1]) == "No" {
			continue
		}
		op := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "api_op_"), ".go")
		permissions := permissionsOf[op]
		if permissions == nil {
			permissions = []string{op}
		}
		for _, p := range permissions {
			want["kms:"+strings.ToLower(p)] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(crossAccountActions)),
		slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Errorf("operations across accounts\n got %v\nwant %v", got, want)
	}
	if told < 45 {
		t.Errorf("only %d operations have a word on cross-account use", told)
	}
}
