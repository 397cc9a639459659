// Package sqlstore is the only place that speaks SQL. It keeps a platform's state (readings, predictions, outcomes,
// drift reports and jobs) in one SQLite file, or in PostgreSQL where several replicas share it, and the registry's
// tables in a SQLite file of their own.
//
// Every write of a [State] goes through one goroutine that commits in groups: a prediction is queued and costs its
// caller no disk access, an outcome, a report or a job is on disk when the call that stores it returns, and however
// many of them wait, they share one commit.
//
// The values of a reading are stored as one BLOB: the number of settings and the number of sensors as unsigned
// varints, then each value as a little-endian IEEE 754 double, settings first. NaN, a missing sensor value, keeps its
// bits. Elsewhere an unknown number is NULL, and a moment is whole nanoseconds since 1970 UTC.
package sqlstore
