package console

import "reflect"

// Reference is what the pages are made of: the operations, and the constraints on the members of
// their requests. It comes from the descriptions that validation and authorisation use, so that the
// pages can't say anything else.
type Reference struct {
	Operations []Operation // in the order of their names
	Families   []string    // of operations, in the order of the index; others come behind them
	// Constraint gives the constraint that a member's tag shape names.
	Constraint func(shape string) Constraint
}

// Operation describes one operation.
type Operation struct {
	Name   string
	Family string // heading in the index
	Target string // value of X-Amz-Target
	OfAWS  bool   // AWS KMS has the operation, so that AWS's clients do

	// Request and Response are structures. A field's name is its member's; the tags shape, required
	// and json are those of package service.
	Request, Response reflect.Type

	Permissions []string // that a caller needs, such as kms:Encrypt
	Conditions  []string // condition keys of its requests; one that ends in ":" or "/" has a name behind it
	Usages      []string // KeyUsage must be one of them; empty for any
	States      []State  // of the key; empty for an operation without one
	Errors      []string // codes of its errors, such as NotFoundException
}

// State says what an operation does with a key in a key state.
type State struct {
	Name  string
	Error string // the exception; empty when the operation works
}

// Constraint is the constraint on a member. A zero limit is none.
type Constraint struct {
	Min, Max  int      // of the length in characters, bytes or elements, or of the number
	Pattern   string   // as AWS prints it
	Values    []string // that are allowed
	Sensitive bool
	Element   string // shape of a list's elements
}
