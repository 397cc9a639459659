package retrain

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

type metrics struct {
	jobs       *prometheus.CounterVec
	promotions prometheus.Counter
	seconds    prometheus.Histogram
	rollbacks  prometheus.Counter
	champion   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, jobs turbofan.JobStore, log *slog.Logger) (metrics, error) {
	m := metrics{
		jobs:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_retraining_jobs_total", Help: "Retraining jobs that ended, by how."}, []string{"status"}),
		promotions: prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_promotions_total", Help: "Challengers that became champion."}),
		rollbacks:  prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_rollbacks_total", Help: "Champions that were taken back because their live error was worse."}),
		seconds:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "turbofan_retraining_seconds", Help: "Time from the start to the end of a retraining job.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)}),
		champion:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "turbofan_gate_rmse", Help: "RMSE at the last gate, in cycles, of champion and challenger by group of units."}, []string{"model", "group"}),
	}
	// From the start, so that the first failure is an increase.
	for _, status := range []turbofan.JobStatus{turbofan.JobSuccess, turbofan.JobFailure, turbofan.JobRefused, turbofan.JobCancelled} {
		m.jobs.WithLabelValues(string(status))
	}
	if reg == nil {
		return m, nil
	}
	last := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "turbofan_retraining_success", Help: "0 where the job that ended last failed, 1 where it succeeded or was refused, NaN where none has ended."},
		func() float64 { return lastJob(jobs, log) })
	return m, errors.Join(reg.Register(last), reg.Register(m.jobs), reg.Register(m.promotions), reg.Register(m.rollbacks), reg.Register(m.seconds), reg.Register(m.champion))
}

const (
	// scrapeTimeout bounds how long a scrape waits for the store.
	scrapeTimeout = 5 * time.Second
	// jobsBack is how many jobs are looked through for the one that ended last: those that wait, run or were cancelled are few.
	jobsBack = 20
)

// lastJob says whether the job that ended last failed, as the store knows it: an alert about it outlives a restart, and
// ends with a job that does not fail, whichever process works on it. A job that was cancelled says nothing.
func lastJob(store turbofan.JobStore, log *slog.Logger) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	jobs, err := store.Jobs(ctx, jobsBack)
	if err != nil {
		log.Warn("end of the last retraining not read", "error", err)
	}
	for i := range jobs {
		switch jobs[i].Status {
		case turbofan.JobFailure:
			return 0
		case turbofan.JobSuccess, turbofan.JobRefused:
			return 1
		}
	}
	return math.NaN()
}
