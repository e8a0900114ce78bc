package service

import (
	"fmt"
	"maps"
	"slices"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

// commands are the operators' commands that the guard of an account decides on. They change principals, keys, guards
// and what opens accounts, or copy the database.
var commands = []string{
	"Backup", "CreateAccessKey", "CreateRole", "CreateTLSKey", "CreateUser", "DeleteAccessKey", "DeleteRole",
	"DeleteUser", "InitBreakGlass", "MapCertificate", "MigrateKey", "PutGuard", "UnmapCertificate", "UpdateAccessKey",
	"UpdateRole", "UpdateUser",
}

// Actions are those that guards decide on, with their prefixes: of AWS KMS, of AWS STS, and of operators' commands.
func Actions() []string {
	all := slices.Collect(maps.Keys(permissionOwners))
	all = append(append(all, approve), iam.Actions()...)
	for _, name := range commands {
		all = append(all, commandAction(name))
	}
	slices.Sort(all)
	return all
}

func commandAction(name string) string { return "verenc:" + name }

// checkCommand refuses a command that no guard could name.
func checkCommand(c *record.Command) error {
	if !slices.Contains(commands, c.Name) {
		return fmt.Errorf("the command %s is not one that guards can name", c.Name)
	}
	return nil
}
