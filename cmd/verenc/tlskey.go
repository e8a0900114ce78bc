package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/pkcs11uri"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/transport/tlsfiles"
)

// tlsShare is the part of the token's sessions that TLS handshakes may take: one in so many.
const tlsShare = 4

// keySigners makes the signers of the token's keys for TLS.
type keySigners struct{ *hsm.Signers }

// signingToken is a *hsm.Token or a *hsm.Group.
type signingToken interface {
	SignNamed(ctx context.Context, key hsm.NamedKey, t hsm.KeyType, s hsm.Scheme, message []byte) ([]byte, error)
}

func tlsSigners(c *Config, token signingToken) keySigners {
	return keySigners{hsm.NewSigners(token, c.Token.Sessions/tlsShare, c.Token.CallTimeout)}
}

// of returns what makes the signer of a key, given its public half.
func (s keySigners) of(key *pkcs11uri.Key) func(crypto.PublicKey) (crypto.Signer, error) {
	name := hsm.NamedKey{Token: key.Token, Manufacturer: key.Manufacturer, Model: key.Model, Serial: key.Serial,
		Label: key.Object, ID: key.ID}
	return func(public crypto.PublicKey) (crypto.Signer, error) {
		signer, err := s.Signer(name, public)
		if err != nil {
			return nil, fmt.Errorf("key in the token, %s: %w", key, err)
		}
		return signer, nil
	}
}

// addTLSSignatures adds the metric of a TLS key in the token.
func addTLSSignatures(r *prometheus.Registry, signers keySigners) {
	for outcome, value := range map[string]func(hsm.SignersStats) uint64{
		"signed":  func(s hsm.SignersStats) uint64 { return s.Signed },
		"failed":  func(s hsm.SignersStats) uint64 { return s.Failed },
		"crowded": func(s hsm.SignersStats) uint64 { return s.Crowded },
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "verenc_tls_signatures_total",
			Help:        "Signatures of TLS handshakes with a key in the token.",
			ConstLabels: prometheus.Labels{"outcome": outcome}},
			func() float64 { return float64(value(signers.Stats())) }))
	}
}

// usedAsTLSKey says whether a TLS key in the token is that of the setting.
func usedAsTLSKey(c *Config, o hsm.Object) string {
	k := c.run.tlsKey
	if k != nil && (k.Object == "" || k.Object == o.Label) && (k.ID == "" || k.ID == string(o.ID[:])) {
		return "that of tls_key"
	}
	return "not that of tls_key: another server's, or one that waits for its certificate"
}

// examineTLSKey checks that a TLS key in the token is that of the certificate.
func (e *examination) examineTLSKey(c *Config, token *hsm.Token) {
	if c.TLSCert == "" || c.run.tlsKey == nil || token == nil {
		return
	}
	files := tlsConfig(c, tlsSigners(c, token).of(c.run.tlsKey))
	if _, err := tlsfiles.Open(files); err != nil {
		e.bad("TLS key", err, "correct tls_key and tls_cert; verenc doctor --reconcile lists the TLS keys that "+
			"verenc tls csr has made")
		return
	}
	e.ok("TLS key", "the token signs with that of the certificate, %s", c.run.tlsKey)
}

// csrOptions are the flags of verenc tls csr.
type csrOptions struct {
	name, keyType string
	commonName    string
	organization  string
	dns           []string
	ips           []net.IP
	renew         bool
}

// tlsKeyTypes are the types that --type names.
var tlsKeyTypes = map[string]hsm.KeyType{"ec-p256": hsm.P256, "ec-p384": hsm.P384, "rsa-2048": hsm.RSA2048,
	"rsa-3072": hsm.RSA3072, "rsa-4096": hsm.RSA4096}

func newTLSCommand(with withConfig) *cobra.Command {
	var o csrOptions
	csr := &cobra.Command{
		Use: "csr", Args: cobra.NoArgs,
		Short: "Make a TLS key in the token, and print a certificate request that it has signed",
		Long: `Make a TLS key in the token and print a certificate request (PKCS#10, in PEM) that it has signed. The key can sign, and
can neither be read nor leave the token. What to write into the settings is printed to standard error.

With --renew, no key is made: the request is for the key and the certificate of the settings tls_key and tls_cert.`,
		RunE: with(func(cmd *cobra.Command, c *Config) error {
			return certificateRequest(cmd.Context(), c, &o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
	}
	f := csr.Flags()
	f.StringVar(&o.name, "name", "kms", "name of the key: its label is "+evidence.TLSLabelPrefix+"NAME")
	f.StringVar(&o.keyType, "type", "ec-p256", "ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096")
	f.StringVar(&o.commonName, "cn", "", "common name of the subject; default the first DNS name")
	f.StringVar(&o.organization, "organization", "", "organization of the subject")
	f.StringSliceVar(&o.dns, "dns", nil, "DNS name of the server; may be repeated")
	f.IPSliceVar(&o.ips, "ip", nil, "IP address of the server; may be repeated")
	f.BoolVar(&o.renew, "renew", false, "make a request for the key of tls_key, without a new key")
	return group("tls", "Make TLS keys in the token", csr)
}

// tlsKeyName is what the names of TLS keys may have, so that they need no escapes but one.
var tlsKeyName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,20}$`)

func certificateRequest(ctx context.Context, c *Config, o *csrOptions, out, hints io.Writer) (err error) {
	if len(o.dns) == 0 && len(o.ips) == 0 && !o.renew {
		return errors.New("tls csr: name the server by --dns or --ip: clients compare no other names")
	}
	keyType, known := tlsKeyTypes[o.keyType]
	if !known {
		return fmt.Errorf("tls csr: --type: %q is none of ec-p256, ec-p384, rsa-2048, rsa-3072 and rsa-4096", o.keyType)
	}
	if !tlsKeyName.MatchString(o.name) {
		return fmt.Errorf("tls csr: --name: %q is not 1 to 20 letters, digits, dots, underscores and hyphens", o.name)
	}
	if o.renew && c.run.tlsKey == nil {
		return errors.New("tls csr: --renew needs tls_key and tls_cert with a key in the token")
	}
	p, err := openForCommand(ctx, c, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	request := &x509.CertificateRequest{DNSNames: o.dns, IPAddresses: o.ips,
		Subject: pkix.Name{CommonName: o.commonName}}
	if o.organization != "" {
		request.Subject.Organization = []string{o.organization}
	}
	if o.commonName == "" && len(o.dns) > 0 {
		request.Subject.CommonName = o.dns[0]
	}
	if o.renew {
		return renewalRequest(c, p, request, out)
	}
	return newKeyRequest(ctx, c, p, o, keyType, request, out, hints)
}

// newKeyRequest makes a key. It is destroyed again when there is no request.
func newKeyRequest(ctx context.Context, c *Config, p *components, o *csrOptions, keyType hsm.KeyType,
	request *x509.CertificateRequest, out, hints io.Writer) (err error) {
	label := evidence.TLSLabelPrefix + o.name
	objects, err := p.token.Objects(ctx, label)
	if err != nil {
		return fmt.Errorf("look for the TLS key: %w", err)
	}
	for _, there := range objects {
		if there.Label == label {
			return fmt.Errorf("tls csr: the token has a key with the label %s: choose another --name, or --renew",
				label)
		}
	}
	info, err := p.token.Info()
	if err != nil {
		return err
	}
	key := hsm.KeyPair{Label: label, Type: keyType, Purpose: hsm.SignPair}
	if _, err := io.ReadFull(rand.Reader, key.ID[:]); err != nil {
		return fmt.Errorf("draw an object id: %w", err)
	}
	named := pkcs11uri.Key{Token: info.Label, Object: label}
	command := &record.Command{Name: "CreateTLSKey", Everywhere: true, Parameters: audit.Object{
		{Name: "label", Value: label}, {Name: "type", Value: keyType.String()},
		{Name: "objectId", Value: key.ID.String()}}, Drawn: []string{"objectId"}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.token.Destroy(context.WithoutCancel(ctx), key.ID))
		}
	}()
	var spki []byte
	err = p.service.Records().Run(ctx, command, func(ctx context.Context) error {
		// The record comes first: a key that nobody knows of must not be made.
		if err := record.BeforeChange(ctx); err != nil {
			return err
		}
		spki, err = p.token.GenerateKeyPair(ctx, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the TLS key: %w", err)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return fmt.Errorf("read the TLS key's public half: %w", err)
	}
	if err := writeRequest(c, p, &named, public, request, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(hints, "have an authority issue a certificate for this request, and set\n"+
		"tls_cert: FILE OF THE CERTIFICATE AND ITS CHAIN\ntls_key: %q\n", named)
	return err
}

// renewalRequest makes a request with the names of the certificate, unless flags give others.
func renewalRequest(c *Config, p *components, request *x509.CertificateRequest, out io.Writer) error {
	text, err := os.ReadFile(c.TLSCert)
	if err != nil {
		return fmt.Errorf("read tls_cert: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("read tls_cert: %s holds no certificate in PEM", c.TLSCert)
	}
	old, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("read tls_cert: %w", err)
	}
	if len(request.DNSNames) == 0 && len(request.IPAddresses) == 0 {
		request.DNSNames, request.IPAddresses = old.DNSNames, old.IPAddresses
	}
	if request.Subject.CommonName == "" && len(request.Subject.Organization) == 0 {
		request.RawSubject = old.RawSubject
	}
	return writeRequest(c, p, c.run.tlsKey, old.PublicKey, request, out)
}

func writeRequest(c *Config, p *components, key *pkcs11uri.Key, public crypto.PublicKey,
	request *x509.CertificateRequest, out io.Writer) error {
	signer, err := tlsSigners(c, p.token).of(key)(public)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, signer)
	if err != nil {
		return fmt.Errorf("make a certificate request: %w", err)
	}
	return pem.Encode(out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
