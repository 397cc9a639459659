// Package httpapi is both ends of the wire: for each service of package turbofan a handler that offers it over HTTP and
// a client that implements the same interface by calling that handler. A caller that holds the interface cannot tell
// whether the service stands in its own process or behind a client: the answers are the same, and so are the errors,
// with code, field and message.
//
// The habits of the wire are BentoML's: an API is a POST whose JSON object is keyed by argument name, /livez, /readyz and
// /healthz answer for the orchestrator, /metrics for Prometheus, /schema.json for BentoML's Python clients, /docs.json
// is an OpenAPI document, and the root shows it in a Swagger UI that fetches nothing from elsewhere. Where BentoML is
// loose the package is strict: an error is always a JSON object, an unknown field is refused by name, labels are bounded.
//
// A NaN or an infinity travels as null, and null reads back as NaN wherever a number is expected: "not known" never
// becomes zero on the way.
package httpapi
