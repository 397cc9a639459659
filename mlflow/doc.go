// Package mlflow speaks MLflow's REST API at both ends.
//
// [NewHandler] answers it over a [turbofan.ModelServer], so that the stock Python client works against this platform:
// tracking, model registry, logged models, and the mlflow-artifacts proxy. [NewClient] speaks it to any MLflow server,
// and is a turbofan.Registry and a turbofan.Tracking like the embedded ones.
package mlflow
