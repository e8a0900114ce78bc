//go:build recipes

package recipes

// What the pages' Go programs import: go.mod and go.sum have it because it is here.
import (
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/aws/aws-sdk-go-v2/service/kms"
)
