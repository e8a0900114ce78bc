//go:build recipes

package recipes

// What the pages' Go programs import: go.mod and go.sum have it because it is here.
import (
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/aws/aws-sdk-go-v2/service/kms"
	_ "github.com/aws/aws-sdk-go/service/kms"
	_ "github.com/hashicorp/go-kms-wrapping/v2"
	_ "github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	_ "github.com/sigstore/sigstore/pkg/cryptoutils"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"
	_ "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	_ "github.com/tink-crypto/tink-go/v2/aead"
	_ "go.step.sm/crypto/kms/awskms"
	_ "go.step.sm/crypto/pemutil"
	_ "go.step.sm/crypto/x509util"
	_ "gocloud.dev/secrets/awskms"
	_ "google.golang.org/grpc"
	_ "k8s.io/kms/apis/v2"
	_ "k8s.io/kms/pkg/service"
)
