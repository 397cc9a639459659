package sqlstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"turbofan"
)

// encodeChannels writes a reading's values as the package comment describes.
func encodeChannels(settings, sensors []float64) []byte {
	b := make([]byte, 0, 2*binary.MaxVarintLen16+8*(len(settings)+len(sensors)))
	b = binary.AppendUvarint(b, uint64(len(settings)))
	b = binary.AppendUvarint(b, uint64(len(sensors)))
	for _, v := range settings {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	for _, v := range sensors {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

// decodeChannels is the inverse of encodeChannels; both slices share one allocation.
func decodeChannels(b []byte) (settings, sensors []float64, err error) {
	nSettings, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, errors.New("decode channels: the number of settings is damaged")
	}
	b = b[n:]
	nSensors, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, errors.New("decode channels: the number of sensors is damaged")
	}
	b = b[n:]
	if nSettings > turbofan.MaxChannels || nSensors > turbofan.MaxChannels || uint64(len(b)) != 8*(nSettings+nSensors) {
		return nil, nil, fmt.Errorf("decode channels: %d settings and %d sensors do not fit %d bytes", nSettings, nSensors, len(b))
	}
	values := make([]float64, nSettings+nSensors)
	for i := range values {
		values[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return values[:nSettings:nSettings], values[nSettings:], nil
}

// encodeDrivers returns nil for no drivers, else their JSON. An infinite number is an error. It is written
// by hand, for every explained answer comes here.
func encodeDrivers(drivers []turbofan.Driver) (any, error) {
	if len(drivers) == 0 {
		return nil, nil
	}
	b := append(make([]byte, 0, 96*len(drivers)), '[')
	for i := range drivers {
		d := &drivers[i]
		if math.IsInf(float64(d.Value), 0) || math.IsInf(float64(d.Contribution), 0) {
			return nil, fmt.Errorf("encode drivers: %s has an infinite number", d.Feature)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"feature":`...)
		if plain(d.Feature) {
			b = append(append(append(b, '"'), d.Feature...), '"')
		} else {
			name, err := json.Marshal(d.Feature)
			if err != nil {
				return nil, fmt.Errorf("encode drivers: %w", err)
			}
			b = append(b, name...)
		}
		b = appendNumber(append(b, `,"value":`...), float64(d.Value))
		b = appendNumber(append(b, `,"contribution":`...), float64(d.Contribution))
		b = append(b, '}')
	}
	return string(append(b, ']')), nil
}

// plain tells that JSON writes s as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendNumber appends v, or null for NaN.
func appendNumber(b []byte, v float64) []byte {
	if math.IsNaN(v) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

func decodeDrivers(text string) ([]turbofan.Driver, error) {
	if text == "" {
		return nil, nil
	}
	var drivers []turbofan.Driver
	if err := json.Unmarshal([]byte(text), &drivers); err != nil {
		return nil, fmt.Errorf("decode drivers: %w", err)
	}
	return drivers, nil
}

// encodeWarnings returns nil for no warnings, else their JSON.
func encodeWarnings(warnings []string) (any, error) {
	if len(warnings) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(warnings)
	if err != nil {
		return nil, fmt.Errorf("encode warnings: %w", err)
	}
	return string(b), nil
}

func decodeWarnings(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var warnings []string
	if err := json.Unmarshal([]byte(text), &warnings); err != nil {
		return nil, fmt.Errorf("decode warnings: %w", err)
	}
	return warnings, nil
}
