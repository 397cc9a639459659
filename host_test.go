package turbofan_test

import (
	"testing"

	"turbofan"
)

func TestPrivateHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:3000": true, "127.0.0.1": true, "[::1]:3000": true, "[::1]": true, "::1": true, "localhost:3000": true, "LOCALHOST": true, "prediction-api:3000": true,
		"turbofan.localhost": true, "plant.local:80": true, "predict.ns.svc.cluster.local": true, "": true,
		"evil.example": false, "evil.example:3000": false, "127.0.0.1.evil.example": false, "localhost.evil.example.": false, "evil.example:80:80": false,
	} {
		if got := turbofan.PrivateHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
