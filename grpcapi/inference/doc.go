// Package inference holds the messages and the service of the Open Inference Protocol, generated from inference.proto by
// scripts/proto.sh.
package inference
