package service

import "encoding/json"

// defaultPolicy is the key policy of a key that was created without one (AWS page "Default key policy").
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + rootARN(account) + `"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

func checkPolicy(text string) error {
	if len(text) > maxPolicy {
		return refuse(CodeLimitExceeded, "The policy has %d bytes; %d are the most that it can have.", len(text), maxPolicy)
	}
	var object map[string]json.RawMessage
	if text != "" && json.Unmarshal([]byte(text), &object) != nil {
		return refuse(CodeMalformedPolicyDocument, "The policy is not a JSON object.")
	}
	return nil
}
