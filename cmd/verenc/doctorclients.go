package main

// examineClients adds which AWS clients the configured form of ARNs suits.
func (e *examination) examineClients(c *Config) {
	if c.ARNFormat == "aws" {
		e.ok("clients", "arn_format aws suits every AWS client")
		return
	}
	e.findings = append(e.findings, finding{mark: markNote, check: "clients",
		result: "arn_format verenc is for clients that do not parse ARNs: the AWS CLI and SDKs, boto3, the Vault seal",
		advice: "set arn_format: aws for SOPS, cosign, Terraform, the AWS Encryption SDKs and other clients that parse ARNs"})
}
