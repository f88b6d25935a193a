package wire

// TrustEnv returns the variables by which programs that do not look where all others do
// find what they are to trust.
func TrustEnv() []string {
	return []string{
		"SSL_CERT_FILE=" + TrustedFile,      // OpenSSL, Go, Python, Ruby, rustls
		"REQUESTS_CA_BUNDLE=" + TrustedFile, // Python's requests, which has its own
		"PIP_CERT=" + TrustedFile,           // so has pip
		"UV_NATIVE_TLS=1",                   // and uv
		"CARGO_HTTP_CAINFO=" + TrustedFile,  // and cargo
		"AWS_CA_BUNDLE=" + TrustedFile,      // and the AWS tools
		"NODE_EXTRA_CA_CERTS=" + AddedFile,  // Node and Bun, beside their own
		"DENO_TLS_CA_STORE=system,mozilla",
	}
}
