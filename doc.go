// Package turbofan names the things a predictive-maintenance platform speaks of and the services it is made of.
//
// A unit (an engine, a pump, a press) sends one [Reading] a cycle: its settings and its sensors. A model turns a unit's
// readings into a [Prediction]: how many cycles of useful life remain (RUL), with an interval and the probability that
// the unit fails within a horizon. An [Outcome] says later what really happened. A [DriftReport] says whether the
// readings of today still look like those the model learned from. A [Job] trains a challenger, and the registry's alias
// "champion" says which [ModelVersion] serves.
//
// Every service that may live in another process is an interface here, implemented twice: by the service itself and by
// its HTTP client. Stores are interfaces here too, so that a service never knows which database is behind it.
//
// Read reading.go, prediction.go, outcome.go, drift.go and job.go first. registry.go, tracking.go and search.go speak MLflow's
// language; error.go, event.go, lease.go and number.go hold what all share.
//
// The package imports the standard library only, and of it neither os, net nor log: it may be read, and tested, alone.
package turbofan
