package httpapi

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"turbofan"
)

// appendFloat appends v in the shortest form that reads back as v; NaN and the infinities, which JSON cannot say, as null.
func appendFloat(dst []byte, v float64) []byte {
	abs := math.Abs(v)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	if abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

func appendFloats(dst []byte, vs []float64) []byte {
	dst = append(dst, '[')
	for i, v := range vs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendFloat(dst, v)
	}
	return append(dst, ']')
}

// appendTime appends t as RFC 3339 with what it has of a second's fraction.
func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendString appends s as a JSON string. Bytes that are not UTF-8 become the replacement character.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		dst = appendEscape(dst, c)
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, `\n`...)
	case c == '\t':
		return append(dst, `\t`...)
	case c == '\r':
		return append(dst, `\r`...)
	case c >= utf8.RuneSelf:
		return append(dst, `\ufffd`...)
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// appendPrediction appends p with the fields of its JSON tags. It is the answer of the hot path and written by hand for
// it; a test holds it to what encoding/json makes of the tags.
func appendPrediction(dst []byte, p *turbofan.Prediction) []byte {
	dst = append(dst, `{"prediction_id":`...)
	dst = appendString(dst, p.ID)
	dst = append(dst, `,"unit_id":`...)
	dst = appendString(dst, p.UnitID)
	dst = append(dst, `,"cycle":`...)
	dst = strconv.AppendInt(dst, int64(p.Cycle), 10)
	dst = append(dst, `,"rul_prediction":`...)
	dst = appendFloat(dst, p.RUL)
	dst = append(dst, `,"rul_lower":`...)
	dst = appendFloat(dst, p.Lower)
	dst = append(dst, `,"rul_upper":`...)
	dst = appendFloat(dst, p.Upper)
	dst = append(dst, `,"failure_probability":`...)
	dst = appendFloat(dst, p.FailureProbability)
	dst = append(dst, `,"failure_horizon":`...)
	dst = strconv.AppendInt(dst, int64(p.FailureHorizon), 10)
	dst = append(dst, `,"health":`...)
	dst = appendString(dst, string(p.Health))
	if len(p.Drivers) > 0 {
		dst = appendDrivers(dst, p.Drivers)
	}
	dst = append(dst, `,"model_name":`...)
	dst = appendString(dst, p.ModelName)
	dst = append(dst, `,"model_version":`...)
	dst = appendString(dst, p.ModelVersion)
	dst = append(dst, `,"condition":`...)
	dst = strconv.AppendInt(dst, int64(p.Condition), 10)
	if len(p.Warnings) > 0 {
		dst = append(dst, `,"warnings":[`...)
		for i, w := range p.Warnings {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, w)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"predicted_at":`...)
	dst = appendTime(dst, p.At)
	return append(dst, '}')
}

func appendDrivers(dst []byte, drivers []turbofan.Driver) []byte {
	dst = append(dst, `,"drivers":[`...)
	for i := range drivers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"feature":`...)
		dst = appendString(dst, drivers[i].Feature)
		dst = append(dst, `,"value":`...)
		dst = appendFloat(dst, float64(drivers[i].Value))
		dst = append(dst, `,"contribution":`...)
		dst = appendFloat(dst, float64(drivers[i].Contribution))
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func appendPredictions(dst []byte, ps []turbofan.Prediction) []byte {
	dst = append(dst, `{"predictions":[`...)
	for i := range ps {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPrediction(dst, &ps[i])
	}
	return append(dst, "]}"...)
}

// appendReading appends r as a client sends it: NaN, a missing sensor, as null.
func appendReading(dst []byte, r *turbofan.Reading) []byte {
	dst = append(dst, `{"unit_id":`...)
	dst = appendString(dst, r.UnitID)
	dst = append(dst, `,"cycle":`...)
	dst = strconv.AppendInt(dst, int64(r.Cycle), 10)
	dst = append(dst, `,"settings":`...)
	dst = appendFloats(dst, r.Settings)
	dst = append(dst, `,"sensors":`...)
	dst = appendFloats(dst, r.Sensors)
	return append(dst, '}')
}

func appendReadings(dst []byte, rs []turbofan.Reading) []byte {
	dst = append(dst, '[')
	for i := range rs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendReading(dst, &rs[i])
	}
	return append(dst, ']')
}

// appendError appends the body of an error answer.
func appendError(dst []byte, code, field, message string) []byte {
	dst = append(dst, `{"error":`...)
	dst = appendString(dst, message)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, code)
	if field != "" {
		dst = append(dst, `,"field":`...)
		dst = appendString(dst, field)
	}
	return append(dst, '}')
}
