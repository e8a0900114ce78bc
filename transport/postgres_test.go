package transport_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/service/store/postgrestest"
)

// TestOnPostgres runs the tests that concern the store once more, with it in PostgreSQL.
func TestOnPostgres(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"main job": TestMainJob, "list": TestListKeysInPages, "aliases": TestAliases, "states": TestKeyStates,
		"deletion": TestDeletionDestroysTheMaterial, "tags": TestTags, "description": TestDescriptionAndPolicy,
		"rotation": TestAutomaticRotation, "on demand": TestRotationOnDemand, "last usage": TestKeyLastUsage,
		"grants": TestCreateGrant, "list grants": TestListGrants, "retire": TestRetireAndRevoke,
		"multi-Region": TestMultiRegionKeys, "primary": TestUpdatePrimaryRegion,
		"deletion of multi-Region": TestDeletionOfMultiRegionKeys, "import": TestImport,
		"expiry": TestImportedMaterialExpires, "key stores": TestCustomKeyStores, "leases": TestLeasesAreNotLost,
		"wrapped": TestResidencyWrapped, "principals": TestRevivedRole,
	} {
		t.Run(name, test)
	}
}

// databaseOf is where the metadata of a test's server is to be.
func databaseOf(t testing.TB) store.Config {
	if strings.HasPrefix(t.Name(), "TestOnPostgres/") {
		return store.Config{Path: postgrestest.NewDatabase(t), Create: true}
	}
	return store.Config{Path: filepath.Join(t.TempDir(), "kms.db"), Create: true}
}
