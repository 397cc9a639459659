package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// makeKey asks the command for a key and returns it with its line for the file.
func makeKey(t *testing.T, name, access string) (secret, line string) {
	t.Helper()
	var out, said bytes.Buffer
	if code := run(t.Context(), []string{"keys", "new", name, "--access", access}, &out, &said); code != exitOK {
		t.Fatalf("%d %s", code, said.String())
	}
	return strings.TrimSpace(said.String()), out.String()
}

// certificate writes a self-signed one for loopback, with its key beside it.
func certificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "turbofan test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		// Renamed into place, as whoever renews certificates does.
		if err := os.WriteFile(file+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}

// served returns the serial number of the certificate that address shows, by at most the TLS version.
func served(address string, version uint16) (int64, error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version}) // #nosec: it looks at the certificate itself
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// Keys and a certificate hold on every port, for people, devices and the commands, and both are renewed without a restart.
func TestServeWithKeysAndTLS(t *testing.T) {
	dir, files := dataDir(t), t.TempDir()
	cert, key, keys := filepath.Join(files, "cert.pem"), filepath.Join(files, "key.pem"), filepath.Join(files, "keys")
	certificate(t, cert, key, 1)
	device, deviceLine := makeKey(t, "gateway", "device")
	operator, operatorLine := makeKey(t, "ops", "operator")
	if err := os.WriteFile(keys, []byte(deviceLine+operatorLine), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serve(t, quick, "--data-dir", dir, "--keys-file", keys, "--tls-cert", cert, "--tls-key", key)
	pool := x509.NewCertPool()
	pemText, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(pemText) {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	ask := func(method, url, secret, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s %s: HTTP/%d %v", method, url, resp.ProtoMajor, err)
		}
		return resp.StatusCode, string(text)
	}
	predict := p.urls[rolePredict]
	p.until("it is ready", func() bool { code, _ := ask("GET", predict+"/readyz", "", ""); return code == http.StatusOK })
	for role, url := range p.urls {
		if code, _ := ask("GET", url+"/livez", "", ""); code != http.StatusOK {
			t.Errorf("%s: /livez answers %d", role, code)
		}
		if code, _ := ask("GET", url+"/metrics", "", ""); code != http.StatusUnauthorized {
			t.Errorf("%s: /metrics answers %d without a key", role, code)
		}
		if code, text := ask("GET", url+"/metrics", device, ""); code != http.StatusOK || !strings.Contains(text, `turbofan_auth_refusals_total{reason="missing",role="`+role+`"} 1`) {
			t.Errorf("%s: /metrics answers %d with a key, or does not count refusals", role, code)
		}
	}
	unit := histories(t, "FD001")[0]
	one := httpapi.NewPredictionClient(predict, &http.Client{Transport: withKey{transport, device}})
	if _, err := one.Predict(t.Context(), turbofan.PredictRequest{Readings: unit.Readings[:1]}); err != nil {
		t.Error(err)
	}
	if code, text := ask("POST", predict+"/models/rollback", device, ""); code != http.StatusForbidden {
		t.Errorf("a device rolls back: %d %s", code, text)
	}
	if code, text := ask("POST", predict+"/models/rollback", operator, ""); code != http.StatusConflict {
		t.Errorf("an operator rolls back: %d %s", code, text)
	}
	// The commands take their key from the environment.
	env := []string{"SSL_CERT_FILE=" + cert}
	if c := start(t, env, "models", "list", "--url", predict); c.wait() != exitFailure || !strings.Contains(c.log(), "this needs an API key") {
		t.Errorf("without a key: %s", c.log())
	}
	if c := start(t, append(env, "TURBOFAN_API_KEY="+operator), "models", "list", "--url", predict); c.wait() != exitOK {
		t.Errorf("with a key: %s", c.log())
	}
	// A new certificate and a new key are taken, the old key is not.
	address := strings.TrimPrefix(predict, "https://")
	if n, err := served(address, tls.VersionTLS13); err != nil || n != 1 {
		t.Errorf("certificate %d, %v", n, err)
	}
	if n, err := served(address, tls.VersionTLS11); err == nil {
		t.Errorf("TLS 1.1 is answered with certificate %d", n)
	}
	certificate(t, cert, key, 2)
	_, renewed := makeKey(t, "gateway", "device")
	if err := os.WriteFile(keys, []byte("no key at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.await("load what was changed; what was there stays")
	if code, _ := ask("GET", predict+"/units", device, ""); code != http.StatusOK {
		t.Errorf("a broken file of keys locks out: %d", code)
	}
	if err := os.WriteFile(keys, []byte(renewed+operatorLine), 0o600); err != nil {
		t.Fatal(err)
	}
	p.until("the old key is refused", func() bool {
		code, _ := ask("GET", predict+"/units", device, "")
		return code == http.StatusUnauthorized
	})
	p.until("the new certificate is shown", func() bool { n, err := served(address, tls.VersionTLS12); return err == nil && n == 2 })
	if log := p.log(); strings.Contains(log, device) || strings.Contains(log, operator) {
		t.Error("the log tells a key")
	}
}

// withKey sends a key on another transport than the client's own.
type withKey struct {
	http.RoundTripper
	secret string
}

func (w withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Api-Key", w.secret)
	return w.RoundTripper.RoundTrip(r)
}

// Roles in processes of their own ask each other with the key in TURBOFAN_API_KEY.
func TestRolesAskWithTheirKey(t *testing.T) {
	secret, line := makeKey(t, "platform", "viewer")
	env := append([]string{"TURBOFAN_AUTH_KEYS=" + strings.TrimSpace(line), "TURBOFAN_API_KEY=" + secret}, quick...)
	registry := serve(t, env, "--data-dir", dataDir(t), "--role", roleRegistry)
	if code, _ := registry.get(roleRegistry, "/api/2.0/mlflow/registered-models/get?name=rul"); code != http.StatusUnauthorized {
		t.Errorf("the registry answers %d without a key", code)
	}
	predict := serve(t, append(env, "TURBOFAN_URLS_REGISTRY="+registry.urls[roleRegistry]), "--data-dir", t.TempDir(), "--role", rolePredict)
	predict.ready(rolePredict)
}

func TestAccessSettings(t *testing.T) {
	_, line := makeKey(t, "a", "viewer")
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("a viewer plain-text"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := []string{"--data-dir", t.TempDir(), "--role", "registry", "--port", "registry=0"}
	for _, c := range []struct {
		env  [2]string
		args []string
		want string
	}{
		{args: []string{"--host", "0.0.0.0"}, want: "host: \"0.0.0.0\" is not a loopback address and there are no API keys"},
		{args: []string{"--keys-file", file}, want: ":1: the digest of a must be sha256:"},
		{args: []string{"--keys-file", file + "x"}, want: "auth.keys_file: cannot read"},
		{env: [2]string{"TURBOFAN_AUTH_KEYS", line}, args: []string{"--keys-file", file}, want: "auth.keys: is given beside auth.keys_file"},
		{env: [2]string{"TURBOFAN_LIMITS_RATE", "10"}, want: "limits.rate: bounds each API key, and there are none"},
		{args: []string{"--tls-cert", file}, want: "tls: needs both cert and key"},
		{args: []string{"--tls-cert", file, "--tls-key", file}, want: "tls: cannot use"},
		{env: [2]string{"TURBOFAN_LIMITS_MAX_CONCURRENCY", "0"}, want: "limits.max_concurrency: must be at least 1"},
	} {
		if c.env[0] != "" {
			t.Setenv(c.env[0], c.env[1])
		}
		var said bytes.Buffer
		if code := run(t.Context(), append(append([]string{"serve"}, dir...), c.args...), io.Discard, &said); code != exitUsage || !strings.Contains(said.String(), c.want) {
			t.Errorf("%v %v: %d %s, want %s", c.env, c.args, code, said.String(), c.want)
		}
		if c.env[0] != "" {
			t.Setenv(c.env[0], "")
		}
	}
}
