package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"turbofan"
	"turbofan/console"
	"turbofan/drift"
	"turbofan/feedback"
	"turbofan/httpapi"
	"turbofan/mlflow"
	"turbofan/predict"
	"turbofan/registry"
	"turbofan/release"
	"turbofan/retrain"
	"turbofan/sqlstore"
	"turbofan/webhook"
)

// platform is the services of one process, each behind its own port. It is the only place that knows which of them
// share the process: a service is given either its neighbour or a client of it, and cannot tell.
type platform struct {
	cfg       config
	log       *slog.Logger
	schema    turbofan.Schema
	state     *sqlstore.State
	closers   []func() error // in order of opening
	registry  turbofan.Registry
	tracking  turbofan.Tracking
	predict   *predict.Service
	feedback  *feedback.Service
	retrain   *retrain.Service
	drift     *drift.Service
	events    turbofan.EventSink
	listeners map[string]net.Listener
	handlers  map[string]http.Handler
	signed    func(*http.Request) (holder string, carried, good bool) // tokens of the registry's addresses; nil without that role
	run       []func(context.Context) error                           // loops of the services
	lacksData atomic.Bool                                             // a first model was to be trained, and there is nothing to learn from
	keys      *httpapi.KeyRing                                        // nil where nobody is asked for one
	tls       *tls.Config                                             // nil without a certificate
	tracing   trace.TracerProvider                                    // nil where nothing is traced
}

// newPlatform opens the stores and ports and builds the services of cfg.Roles; nothing runs yet. On error everything
// that was opened is closed.
func newPlatform(ctx context.Context, cfg config, log *slog.Logger) (_ *platform, err error) {
	p := &platform{cfg: cfg, log: log, listeners: map[string]net.Listener{}, handlers: map[string]http.Handler{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.schema, err = cfg.schema(); err != nil {
		return nil, err
	}
	if err := makeDataDir(cfg); err != nil {
		return nil, err
	}
	if err := p.listen(); err != nil {
		return nil, err
	}
	if err := p.openTracing(ctx); err != nil {
		return nil, err
	}
	common := newMetrics()
	// Every file that a setting names is read before a store is opened: a start that is refused leaves the stores as they
	// were, and not in the schema of this program.
	if err := p.openAccess(); err != nil {
		return nil, err
	}
	if err := p.openWebhooks(common); err != nil {
		return nil, err
	}
	if p.cfg.Store.shared() {
		if _, err := p.cfg.Store.dsn(); err != nil {
			return nil, err
		}
	}
	if err := p.openRegistry(ctx, common); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(cfg.Roles, func(r string) bool { return r != roleRegistry && r != roleConsole }) {
		if err := p.openState(ctx, common); err != nil {
			return nil, err
		}
	}
	for _, build := range []struct {
		role string
		f    func(context.Context, *prometheus.Registry) error
	}{{rolePredict, p.buildPredict}, {roleFeedback, p.buildFeedback}, {roleRetrain, p.buildRetrain}, {roleDrift, p.buildDrift}, {roleConsole, p.buildConsole}} {
		if !p.has(build.role) {
			continue
		}
		reg := prometheus.NewRegistry()
		if err := reg.Register(forward{common}); err != nil {
			return nil, err
		}
		if err := build.f(ctx, reg); err != nil {
			return nil, fmt.Errorf("start %s: %w", build.role, err)
		}
	}
	return p, p.guard(common)
}

// newMetrics returns the metrics of a process, to which its parts add theirs.
func newMetrics() *prometheus.Registry {
	common := prometheus.NewRegistry()
	common.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return common
}

// openState opens the store of readings, predictions, outcomes, reports and jobs.
func (p *platform) openState(ctx context.Context, reg prometheus.Registerer) (err error) {
	c := sqlstore.Config{Path: p.cfg.path("state.db"), Logger: p.log, Registerer: reg}
	if p.cfg.Store.shared() {
		c.Path = ""
		if c.DSN, err = p.cfg.Store.dsn(); err != nil {
			return err
		}
	}
	if p.state, err = sqlstore.OpenState(ctx, c); err != nil {
		return err
	}
	p.closers = append(p.closers, p.state.Close)
	return nil
}

// maxSecret bounds a file that holds a secret.
const maxSecret = 4096

// readSecret reads the file that a setting names.
func readSecret(setting, file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", turbofan.Invalid(setting, "cannot read %s: %s", file, pathReason(err))
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" || len(secret) > maxSecret {
		return "", turbofan.Invalid(setting, "%s must hold a secret of 1 to %d characters", file, maxSecret)
	}
	return secret, nil
}

// openWebhooks makes the sink of the retraining's and the detector's events.
func (p *platform) openWebhooks(reg *prometheus.Registry) (err error) {
	c := p.cfg.Webhooks
	if !p.has(roleRetrain) && !p.has(roleDrift) {
		return nil
	}
	secret := ""
	if c.SecretFile != "" {
		if secret, err = readSecret("webhooks.secret_file", c.SecretFile); err != nil {
			return err
		}
	}
	var kinds []turbofan.EventKind
	for _, k := range c.Kinds {
		kinds = append(kinds, turbofan.EventKind(k))
	}
	var cfg webhook.Config
	for _, u := range c.URLs {
		cfg.Endpoints = append(cfg.Endpoints, webhook.Endpoint{URL: u, Secret: secret, Kinds: kinds})
	}
	sender, err := webhook.New(cfg, nil, reg, p.log.With("part", "webhooks"))
	if err != nil {
		return err
	}
	p.events = sender
	p.run = append(p.run, sender.Run)
	return nil
}

func makeDataDir(cfg config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return fmt.Errorf("the data directory %s cannot be made: %s; choose another with --data-dir", cfg.DataDir, pathReason(err))
	}
	return nil
}

// forward lets each role's /metrics show what the whole process measures, such as its store.
type forward struct{ g *prometheus.Registry }

func (f forward) Describe(ch chan<- *prometheus.Desc) { f.g.Describe(ch) }
func (f forward) Collect(ch chan<- prometheus.Metric) { f.g.Collect(ch) }

func (p *platform) has(role string) bool { return slices.Contains(p.cfg.Roles, role) }

// listen takes every port before anything else is opened, so that a port in use is the first thing said.
func (p *platform) listen() error {
	for _, role := range p.cfg.Roles {
		if err := p.listenFor(role, "--port "+role+"=NUMBER"); err != nil {
			return err
		}
	}
	return p.listenGRPC()
}

// listenFor takes a role's port; flag is what an error says to change it with.
func (p *platform) listenFor(role, flag string) error {
	if p.listeners[role] != nil {
		return nil
	}
	addr := net.JoinHostPort(p.cfg.Host, strconv.Itoa(p.cfg.Ports[role]))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return turbofan.Wrap(turbofan.EUnavailable, err, "%s cannot listen on %s; choose another port with %s", role, addr, flag)
	}
	p.listeners[role] = l
	p.closers = append(p.closers, func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// openRegistry takes the embedded registry where this process has that role, and otherwise speaks to the MLflow server
// at TrackingURI or to the process that has it.
func (p *platform) openRegistry(ctx context.Context, common *prometheus.Registry) error {
	uri := p.cfg.TrackingURI
	if p.has(roleRegistry) {
		db, own, err := p.openEmbedded(ctx, common)
		if err != nil {
			return err
		}
		log := p.log.With("role", roleRegistry)
		pages, err := console.NewRegistry(console.DefaultConfig(), own, log)
		if err != nil {
			return err
		}
		if err := p.addRegistry(own, mlflow.HandlerConfig{Logger: log, Pages: pages}, common, db.Ready); err != nil {
			return err
		}
		if uri == "" {
			p.registry, p.tracking = own, own
			return nil
		}
	}
	if uri == "" {
		uri = p.cfg.url(roleRegistry)
	}
	client, err := mlflow.NewClient(uri, registryClient(p.cfg.TrackingURI != ""))
	if err != nil {
		return err
	}
	p.registry, p.tracking = client, client
	return nil
}

// addRegistry puts MLflow's API over a registry on the role's port. With keys, the addresses that it hands out are signed.
func (p *platform) addRegistry(own turbofan.ModelServer, c mlflow.HandlerConfig, common *prometheus.Registry, ready func(context.Context) error) (err error) {
	if p.cfg.Auth.on() {
		c.SignFor = httpapi.KeyMark
	}
	h := mlflow.NewHandler(own, c)
	p.signed = h.Signed
	p.handlers[roleRegistry], err = registryHandler(h, common, ready)
	return err
}

func (p *platform) openEmbedded(ctx context.Context, reg prometheus.Registerer) (*sqlstore.RegistryDB, *registry.Registry, error) {
	db, own, err := openRegistryFiles(ctx, p.cfg, p.log, reg)
	if err != nil {
		return nil, nil, err
	}
	p.closers = append(p.closers, db.Close, own.Close)
	p.run = append(p.run, own.Tend)
	return db, own, nil
}

// openRegistryFiles opens the embedded registry of a data directory. reg takes its metrics; nil keeps none.
func openRegistryFiles(ctx context.Context, cfg config, log *slog.Logger, reg prometheus.Registerer) (*sqlstore.RegistryDB, *registry.Registry, error) {
	if err := makeDataDir(cfg); err != nil {
		return nil, nil, err
	}
	db, err := openRegistryDB(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	own, err := registry.Open(ctx, registry.Config{ArtifactRoot: cfg.path("artifacts"), Logger: log, Registerer: reg}, db)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, own, nil
}

func openRegistryDB(ctx context.Context, cfg config) (*sqlstore.RegistryDB, error) {
	if !cfg.Store.Registry {
		return sqlstore.OpenRegistry(ctx, cfg.path("registry.db"))
	}
	dsn, err := cfg.Store.dsn()
	if err != nil {
		return nil, err
	}
	return sqlstore.OpenRegistryPostgres(ctx, dsn)
}

func (p *platform) api(role string, reg *prometheus.Registry, ready func(context.Context) error) (httpapi.Config, httpapi.Options) {
	c := httpapi.DefaultConfig()
	c.Role, c.Version, c.Schema = role, readBuildInfo().Version, p.schema
	c.MaxBodyBytes, c.MaxReadings, c.Timeout = p.cfg.Limits.MaxBodyBytes, p.cfg.Limits.MaxReadings, time.Duration(p.cfg.Limits.Timeout)
	c.MaxConcurrency, c.MaxQueue = p.cfg.Limits.MaxConcurrency, p.cfg.Limits.MaxQueue
	c.Explain = p.cfg.Explain
	return c, httpapi.Options{Registry: reg, Logger: p.log.With("role", role), Ready: ready, Keys: p.cfg.Auth.on()}
}

// allReady is nil where all are.
func allReady(parts ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, ready := range parts {
			if err := ready(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *platform) buildPredict(_ context.Context, reg *prometheus.Registry) (err error) {
	c := predict.DefaultConfig()
	c.ModelName, c.CacheDir, c.RefreshEvery = p.cfg.Model.Name, p.cfg.path("serving"), time.Duration(p.cfg.Refresh)
	// Feedback in another process, or a replica, may ask for an answer as soon as its client has it: it must be in the
	// store by then. A store on a server is taken to be shared.
	c.Shared = !p.has(roleFeedback) || p.cfg.Store.shared()
	if err := p.lockUnits(c.Shared); err != nil {
		return err
	}
	c.Tracer = p.tracer(rolePredict)
	p.predict, err = predict.New(c, p.registry, predict.Stores{Readings: p.state, Predictions: p.state, Outcomes: p.state}, reg, p.log.With("role", rolePredict))
	if err != nil {
		return err
	}
	p.run = append(p.run, p.predict.Run)
	releases, err := release.New(release.Config{ModelName: p.cfg.Model.Name, WorkDir: p.cfg.path("checks")}, p.registry, p.predict, p.log.With("part", "releases"))
	if err != nil {
		return err
	}
	ready := p.ready
	if c.Shared { // an answer waits until it is stored
		ready = allReady(ready, p.state.Ready)
	}
	ac, ao := p.api(rolePredict, reg, ready)
	ao.Releases = releases
	p.handlers[rolePredict], err = httpapi.PredictionHandler(ac, p.predict, ao)
	return err
}

// ready is that of the prediction role. Where this process trains, it tells what a first start waits for.
func (p *platform) ready(ctx context.Context) error {
	err := p.predict.Ready(ctx)
	if err == nil || p.retrain == nil {
		return err
	}
	jobs, listErr := p.retrain.Jobs(ctx, 1)
	switch {
	case listErr != nil:
		return err
	case len(jobs) > 0 && jobs[0].Status.Active():
		return turbofan.Errorf(turbofan.EUnavailable, "%s; a training is under way: %.0f%% done, %s", turbofan.ErrorMessage(err), 100*jobs[0].Progress, cmp.Or(jobs[0].Stage, "about to begin"))
	case len(jobs) > 0 && jobs[0].Error != "":
		return turbofan.Errorf(turbofan.EUnavailable, "%s; the newest training has ended as %s: %s", turbofan.ErrorMessage(err), jobs[0].Status, jobs[0].Error)
	case p.lacksData.Load():
		return turbofan.Errorf(turbofan.EUnavailable, "%s, and there is no training data to make one: give --data, or register one by turbofan train", turbofan.ErrorMessage(err))
	}
	return err
}

func (p *platform) buildFeedback(_ context.Context, reg *prometheus.Registry) (err error) {
	var store turbofan.OutcomeStore = p.state
	if p.predict != nil {
		store = endings{p.state, p.predict}
	}
	p.feedback, err = feedback.New(feedback.Config{Cap: p.cfg.learner().Cap}, store, reg, p.log.With("role", roleFeedback))
	if err != nil {
		return err
	}
	ac, ao := p.api(roleFeedback, reg, p.state.Ready)
	p.handlers[roleFeedback], err = httpapi.FeedbackHandler(ac, p.feedback, ao)
	return err
}

// endings is a store that lets the prediction role of the same process hear which units' ends were stated or taken back.
type endings struct {
	turbofan.OutcomeStore
	predict *predict.Service
}

func (e endings) Record(ctx context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	receipts, err := e.OutcomeStore.Record(ctx, outcomes)
	for i, r := range receipts { // none on an error; the receipt knows the unit that a prediction stood for
		if outcomes[i].FailedAtCycle != nil {
			e.predict.Ended(r.UnitID)
		}
	}
	return receipts, err
}

func (p *platform) buildRetrain(ctx context.Context, reg *prometheus.Registry) (err error) {
	if err := p.claimStore(ctx); err != nil {
		return err
	}
	c := retrain.DefaultConfig()
	c.ModelName, c.Experiment, c.WorkDir, c.Model, c.MinNewUnits = p.cfg.Model.Name, p.cfg.Model.Name, p.cfg.path("training"), p.cfg.learner(), p.cfg.Retrain.MinNewUnits
	c.Every, c.Events = time.Duration(p.cfg.Retrain.Every), p.events
	c.Watch, c.Lease = retrain.Watch{Units: p.cfg.Retrain.WatchUnits, Confidence: p.cfg.Retrain.WatchConfidence}, time.Duration(p.cfg.Retrain.Lease)
	c.Model.NJobs = runtime.GOMAXPROCS(0) // the processors, before serve asks for more threads than that
	c.RunTags, c.Illustrate = sourceTags("serve"), drawModel
	p.retrain, err = retrain.New(c, p.registry, p.tracking, retrain.Stores{Readings: p.state, Outcomes: p.state, Jobs: p.state, Leases: p.state},
		lazyBaseline(p.cfg), reg, p.log.With("role", roleRetrain))
	if err != nil {
		return err
	}
	p.run = append(p.run, p.endLeft, p.bootstrap, p.retrain.Run)
	ac, ao := p.api(roleRetrain, reg, p.state.Ready)
	p.handlers[roleRetrain], err = httpapi.RetrainingHandler(ac, p.retrain, ao)
	return err
}

// bootstrap asks for a first model where the registry has none, so that a bare `turbofan serve` ends up serving. A
// registry in another process may start after this one: it is asked until it answers.
func (p *platform) bootstrap(ctx context.Context) error {
	if !p.cfg.Retrain.Bootstrap {
		return nil
	}
	wait := time.Second
	for {
		_, err := p.registry.Version(ctx, p.cfg.Model.Name, "@"+turbofan.ChampionAlias)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if turbofan.ErrorCode(err) == turbofan.ENotFound {
			break
		}
		p.log.Warn("ask the registry for a champion", "error", err, "again_in", wait)
		if pause(ctx, wait) != nil {
			return nil
		}
		wait = min(2*wait, 30*time.Second)
	}
	if err := p.cfg.findBaseline(); err != nil {
		p.lacksData.Store(true)
		p.log.Warn("no model and no training data: /predict answers 503 until a model is registered", "error", err)
		return nil
	}
	_, err := p.retrain.Submit(ctx, turbofan.RetrainRequest{Trigger: "bootstrap", Reason: "the registry has no champion yet"})
	if err != nil && turbofan.ErrorCode(err) != turbofan.EConflict && ctx.Err() == nil {
		p.log.Error("ask for a first model", "error", err)
	}
	return nil
}

func (p *platform) buildDrift(_ context.Context, reg *prometheus.Registry) (err error) {
	var job turbofan.RetrainingService
	if p.cfg.Drift.Retrain {
		job = httpapi.NewRetrainingClient(p.cfg.url(roleRetrain), apiClient())
		if p.retrain != nil {
			job = p.retrain
		}
	}
	c := p.cfg.detector()
	c.Events = p.events
	p.drift, err = drift.New(c, p.registry, drift.Stores{Readings: p.state, Predictions: p.state, Outcomes: p.state, Reports: p.state, Leases: p.state}, job, reg, p.log.With("role", roleDrift))
	if err != nil {
		return err
	}
	p.run = append(p.run, p.drift.Run)
	ac, ao := p.api(roleDrift, reg, p.drift.Ready)
	p.handlers[roleDrift], err = httpapi.DriftHandler(ac, p.drift, ao)
	return err
}

// buildConsole gives the console its neighbours, or clients of the processes that have them.
func (p *platform) buildConsole(_ context.Context, reg *prometheus.Registry) error {
	s := console.Services{Registry: p.registry, Predict: p.predict, Feedback: p.feedback, Retrain: p.retrain, Drift: p.drift}
	if p.predict == nil {
		s.Predict = httpapi.NewPredictionClient(p.cfg.url(rolePredict), apiClient())
	}
	if p.feedback == nil {
		s.Feedback = httpapi.NewFeedbackClient(p.cfg.url(roleFeedback), apiClient())
	}
	if p.retrain == nil {
		s.Retrain = httpapi.NewRetrainingClient(p.cfg.url(roleRetrain), apiClient())
	}
	if p.drift == nil {
		s.Drift = httpapi.NewDriftClient(p.cfg.url(roleDrift), apiClient())
	}
	c := console.DefaultConfig()
	c.ModelName = p.cfg.Model.Name
	pages, err := console.New(c, s, reg, p.log.With("role", roleConsole))
	if err != nil {
		return err
	}
	p.handlers[roleConsole] = withProbes(pages, reg, nil)
	return nil
}

// url returns where a role of this process answers.
func (p *platform) url(role string) string {
	return p.cfg.TLS.scheme() + "://" + p.listeners[role].Addr().String()
}

// serve runs everything until ctx ends, then drains: the ports first, then the loops, then the stores. A loop that
// fails ends the others at once, and then all.
func (p *platform) serve(ctx context.Context) error {
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	ctx, end := context.WithCancel(ctx)
	defer end()
	var background errgroup.Group
	for _, f := range p.run {
		background.Go(func() error {
			err := f(loops)
			if err != nil {
				p.log.Error("this process ends", "error", err)
				stopLoops()
				end()
			}
			return err
		})
	}
	web, webCtx := errgroup.WithContext(ctx)
	for role, h := range p.handlers {
		l := p.listeners[role]
		if p.tls != nil {
			l = tls.NewListener(l, p.tls)
		}
		web.Go(func() error {
			o := httpapi.ServeOptions{Logger: p.log, DrainDelay: time.Duration(p.cfg.DrainDelay)}
			if err := httpapi.Serve(webCtx, l, h, o); err != nil {
				return fmt.Errorf("serve %s: %w", role, err)
			}
			return nil
		})
	}
	if l := p.listeners[doorGRPC]; l != nil {
		web.Go(func() error { return p.serveGRPC(webCtx, l) })
	}
	defer context.AfterFunc(webCtx, func() {
		p.log.Info("stopping: requests under way are answered, then everything is closed; a second signal ends at once")
	})()
	err := web.Wait()
	stopLoops()
	err = errors.Join(err, background.Wait(), p.close())
	p.log.Info("stopped")
	return err
}

// close gives back what was opened, the newest first. It may be called twice.
func (p *platform) close() error {
	var errs []error
	for _, f := range slices.Backward(p.closers) {
		errs = append(errs, f())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// start runs the platform in the background and returns a function that stops it and waits.
func (p *platform) start(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.serve(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

// describe says where everything answers, a line a role.
func (p *platform) describe() string {
	var b strings.Builder
	for _, role := range allRoles() {
		if p.listeners[role] != nil {
			fmt.Fprintf(&b, "  %-9s %s\n", role, p.url(role))
		}
	}
	if l := p.listeners[doorGRPC]; l != nil {
		fmt.Fprintf(&b, "  %-9s %s\n", doorGRPC, l.Addr())
	}
	return b.String()
}

// place says where everything is kept.
func (p *platform) place() string {
	if p.state == nil || p.cfg.Store == (storeConfig{}) {
		return p.cfg.DataDir
	}
	return p.cfg.DataDir + " and PostgreSQL at " + p.state.Name()
}
