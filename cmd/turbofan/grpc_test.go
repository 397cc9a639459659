package main

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"turbofan/grpcapi/inference"
)

// TestServesGRPC asks the prediction role through its second door, before it has a model.
func TestServesGRPC(t *testing.T) {
	cfg := defaultConfig()
	cfg.DataDir, cfg.Retrain.Bootstrap, cfg.GRPC = t.TempDir(), false, grpcConfig{Enabled: true}
	for role := range cfg.Ports {
		cfg.Ports[role] = 0
	}
	p, err := newPlatform(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := p.start(t.Context())
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient(p.listeners[doorGRPC].Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := inference.NewGRPCInferenceServiceClient(conn)
	live, err := c.ServerLive(t.Context(), &inference.ServerLiveRequest{})
	if err != nil || !live.GetLive() {
		t.Errorf("live: %v %v", live, err)
	}
	ready, err := c.ServerReady(t.Context(), &inference.ServerReadyRequest{})
	if err != nil || ready.GetReady() {
		t.Errorf("ready: %v %v", ready, err)
	}
}
