package registry

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"turbofan"
)

// MLflow's limits, in characters.
const (
	maxKey            = 250
	maxParamValue     = 6000 // longer ones are cut
	maxTagValue       = 8000 // longer ones are cut
	maxExperimentName = 500
	maxExperimentTag  = 20_000
	maxModelTagValue  = 100_000
	maxModelName      = 256
	maxAlias          = 255
	maxDescription    = 100_000
	maxDatasetName    = 500
	maxDatasetDigest  = 36
	maxDatasetSource  = 65_535
	maxDatasetSchema  = 1_048_575
	maxDatasetProfile = 16_777_215
	maxInputTagKey    = 255
	maxInputTagValue  = 500
	maxURI            = 2048
)

// invalidValue is MLflow's sentence about a value, which its own tests look for.
func invalidValue(field, value, why string) error {
	text, err := json.Marshal(value)
	if err != nil {
		text = []byte(strconv.Quote(value))
	}
	return invalid("Invalid value %s for parameter '%s' supplied: %s", text, field, why)
}

func tooLong(what string, limit int, value string) error {
	if len(value) > limit && utf8.RuneCountInString(value) > limit {
		return invalid("'%s' exceeds the maximum length of %d characters", what, limit)
	}
	return nil
}

// cut shortens a value to limit characters.
func cut(value string, limit int) string {
	if len(value) <= limit || utf8.RuneCountInString(value) <= limit {
		return value
	}
	return string([]rune(value)[:limit])
}

// checkKey checks the name of a metric, parameter or tag. Names may become file names, so a name must be a path that
// means itself.
func checkKey(field, key string) error {
	if key == "" {
		return invalid("Missing value for required parameter '%s'. A key name must be provided.", field)
	}
	for _, r := range key {
		if r != '_' && !strings.ContainsRune("/.- :", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return invalidValue(field, key, "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), "+
				"spaces ( ), colon(:) and slashes (/).")
		}
	}
	if clean := path.Clean(key); clean != key || clean == "." || strings.HasPrefix(clean, "..") || clean[0] == '/' {
		return invalidValue(field, key, fmt.Sprintf("Names may be treated as files in certain cases, and must not resolve to other names "+
			"when treated as such. This name would resolve to '%s'", clean))
	}
	return nil
}

func checkExperimentName(name string) error {
	if strings.TrimSpace(name) == "" {
		return invalid("Invalid experiment name: '%s'", name)
	}
	return tooLong("name", maxExperimentName, name)
}

func checkExperimentTags(tags []turbofan.KeyValue) error {
	for _, t := range tags {
		if err := checkKey("key", t.Key); err != nil {
			return err
		}
		if err := tooLong("key", maxKey, t.Key); err != nil {
			return err
		}
		if err := tooLong("value", maxExperimentTag, t.Value); err != nil {
			return err
		}
	}
	return nil
}

// checkRecord checks what a run says; it returns a copy where values that are too long are cut.
func checkRecord(rec turbofan.RunRecord) (turbofan.RunRecord, error) {
	for i, m := range rec.Metrics {
		at := fmt.Sprintf("metrics[%d]", i)
		if err := checkKey(at+".name", m.Key); err != nil {
			return rec, err
		}
		if err := tooLong("Metric name", maxKey, m.Key); err != nil {
			return rec, err
		}
		if m.At.UnixMilli() < 0 && !m.At.IsZero() {
			return rec, invalid("Invalid value %d for parameter '%s.timestamp' supplied: metric '%s'. "+
				"Timestamp must be a nonnegative long (64-bit integer) ", m.At.UnixMilli(), at, m.Key)
		}
	}
	params := make([]turbofan.KeyValue, len(rec.Params))
	seen := make(map[string]bool, len(rec.Params))
	for i, p := range rec.Params {
		if err := checkKey(fmt.Sprintf("params[%d].key", i), p.Key); err != nil {
			return rec, err
		}
		if err := tooLong("Param key", maxKey, p.Key); err != nil {
			return rec, err
		}
		if seen[p.Key] {
			return rec, invalid("Duplicate parameter keys have been submitted: ['%s']. Please ensure the request contains only one param value per param key.", p.Key)
		}
		seen[p.Key] = true
		params[i] = turbofan.KeyValue{Key: p.Key, Value: cut(p.Value, maxParamValue)}
	}
	tags, err := checkRunTags(rec.Tags)
	if err != nil {
		return rec, err
	}
	rec.Params, rec.Tags = params, tags
	for _, d := range rec.Datasets {
		if err := checkDataset(d); err != nil {
			return rec, err
		}
	}
	return rec, nil
}

func checkRunTags(given []turbofan.KeyValue) ([]turbofan.KeyValue, error) {
	tags := make([]turbofan.KeyValue, len(given))
	for i, t := range given {
		field := fmt.Sprintf("tags[%d].key", i)
		if err := checkKey(field, t.Key); err != nil {
			return nil, err
		}
		if err := tooLong(field, maxKey, t.Key); err != nil {
			return nil, err
		}
		tags[i] = turbofan.KeyValue{Key: t.Key, Value: cut(t.Value, maxTagValue)}
	}
	return tags, nil
}

func checkDataset(d turbofan.DatasetInput) error {
	for _, limit := range []struct {
		what, value string
		max         int
		required    bool
	}{
		{"Dataset name", d.Name, maxDatasetName, true},
		{"Dataset digest", d.Digest, maxDatasetDigest, true},
		{"Dataset source_type", d.SourceType, maxDatasetName, true},
		{"Dataset source", d.Source, maxDatasetSource, true},
		{"Dataset schema", d.Schema, maxDatasetSchema, false},
		{"Dataset profile", d.Profile, maxDatasetProfile, false},
	} {
		if limit.required && limit.value == "" {
			return invalid("%s cannot be None", limit.what)
		}
		if err := tooLong(limit.what, limit.max, limit.value); err != nil {
			return err
		}
	}
	for _, t := range d.Tags {
		if t.Key == "" {
			return invalid("InputTag key cannot be None")
		}
		if err := tooLong("InputTag key", maxInputTagKey, t.Key); err != nil {
			return err
		}
		if err := tooLong("InputTag value", maxInputTagValue, t.Value); err != nil {
			return err
		}
	}
	return nil
}

func checkModelName(name, field string) error {
	if strings.TrimSpace(name) == "" {
		return invalid("Missing value for required parameter '%s'.", field)
	}
	if strings.ContainsAny(name, "/:") {
		return invalid("Invalid model name '%s'. Names cannot contain '/' or ':'.", name)
	}
	if name == "." || strings.HasPrefix(name, "..") {
		return invalidValue(field, name, fmt.Sprintf("Names may be treated as files in certain cases, and must not resolve to other names "+
			"when treated as such. This name would resolve to '%s'", path.Clean(name)))
	}
	return tooLong(field, maxModelName, name)
}

func checkModelTags(tags map[string]string) error {
	for k, v := range tags {
		if err := checkKey("key", k); err != nil {
			return err
		}
		if err := tooLong("key", maxKey, k); err != nil {
			return err
		}
		if err := tooLong("value", maxModelTagValue, v); err != nil {
			return err
		}
	}
	return nil
}

func checkAlias(alias string) error {
	if alias == "" {
		return invalid("Registered model alias name cannot be empty.")
	}
	for _, r := range alias {
		if r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return invalid("Invalid alias name: '%s'. Names may only contain alphanumerics, underscores (_), and dashes (-).", alias)
		}
	}
	if err := tooLong("Registered model alias name", maxAlias, alias); err != nil {
		return err
	}
	if strings.EqualFold(alias, "latest") {
		return invalid("'latest' alias name (case insensitive) is reserved.")
	}
	if digits := alias[1:]; (alias[0] == 'v' || alias[0] == 'V') && digits != "" && strings.Trim(digits, "0123456789") == "" {
		return invalid("Version alias name '%s' is reserved.", alias)
	}
	return nil
}

func checkVersionNumber(version string) error {
	if n, err := strconv.ParseInt(version, 10, 64); err != nil || n > math.MaxInt32 {
		return invalid("Parameter 'version' must be an integer, got '%s'.", version)
	}
	return nil
}

func checkLoggedModelName(name string) error {
	if name == "" || strings.ContainsAny(name, "/:.%\"'") {
		return invalid(`Invalid model name ('%s') provided. Model name must be a non-empty string and cannot contain the following characters: ('/', ':', '.', '%%', '"', "'")`, name)
	}
	return tooLong("name", maxExperimentName, name)
}

// checkLocation checks where an experiment wants its files.
func checkLocation(uri string) error {
	if err := tooLong("artifact_location", maxURI, uri); err != nil {
		return err
	}
	scheme, _ := splitScheme(uri)
	if scheme == "runs" {
		return invalid("Artifact location cannot be a runs:/ URI. Given: '%s'", uri)
	}
	decoded := fullyDecoded(uri)
	if strings.ContainsAny(uri, "#;") || strings.ContainsRune(decoded, 0) {
		return invalid("'artifact_location' URL can't include fragments or params.")
	}
	for part := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return strings.ContainsRune(`/\?&=`, r) }) {
		if part == ".." {
			return invalid("Invalid artifact location '%s': it must not contain '..'", uri)
		}
	}
	return nil
}
