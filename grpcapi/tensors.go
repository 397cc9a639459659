package grpcapi

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"turbofan/grpcapi/inference"
)

// head is the JSON of a request in the protocol's REST form.
type head struct {
	ID         string         `json:"id,omitempty"`
	Parameters map[string]any `json:"parameters"`
	Inputs     []tensor       `json:"inputs"`
	Outputs    []tensor       `json:"outputs,omitempty"`
}

// tensor is a tensor whose data follow the JSON, or one that is asked for.
type tensor struct {
	Name       string         `json:"name"`
	Datatype   string         `json:"datatype,omitempty"`
	Shape      []int64        `json:"shape,omitempty"`
	Parameters map[string]any `json:"parameters,omitempty"`
}

// sizeKey is the parameter that says how many bytes of binary data a tensor has.
const sizeKey = "binary_data_size"

// encode turns a call into the REST form: a JSON head and the binary data of each tensor.
func encode(req *inference.ModelInferRequest) ([]byte, [][]byte, error) {
	raw := req.GetRawInputContents()
	if len(raw) > 0 && len(raw) != len(req.GetInputs()) {
		return nil, nil, fmt.Errorf("raw_input_contents: must have one entry for each of %d inputs; it has %d", len(req.GetInputs()), len(raw))
	}
	h := head{ID: req.GetId(), Parameters: plain(req.GetParameters()), Inputs: []tensor{}}
	h.Parameters["binary_data_output"] = true
	var tail [][]byte
	for i, in := range req.GetInputs() {
		at := "inputs[" + strconv.Itoa(i) + "]"
		var data []byte
		var err error
		switch {
		case len(raw) > 0 && in.GetContents() != nil:
			return nil, nil, fmt.Errorf("%s.contents: is given beside raw_input_contents; send one of them", at)
		case len(raw) > 0:
			data = raw[i]
		default:
			if data, err = pack(in.GetDatatype(), in.GetContents()); err != nil {
				return nil, nil, fmt.Errorf("%s.%w", at, err)
			}
		}
		parameters := plain(in.GetParameters())
		parameters[sizeKey] = len(data)
		h.Inputs = append(h.Inputs, tensor{in.GetName(), in.GetDatatype(), in.GetShape(), parameters})
		tail = append(tail, data)
	}
	for _, out := range req.GetOutputs() {
		h.Outputs = append(h.Outputs, tensor{Name: out.GetName()})
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, nil, fmt.Errorf("parameters: %w", err) // a double that is no JSON number
	}
	return text, tail, nil
}

// plain returns parameters as values of JSON.
func plain(in map[string]*inference.InferParameter) map[string]any {
	out := make(map[string]any, len(in)+1)
	for name, p := range in {
		switch v := p.GetParameterChoice().(type) {
		case *inference.InferParameter_BoolParam:
			out[name] = v.BoolParam
		case *inference.InferParameter_Int64Param:
			out[name] = v.Int64Param
		case *inference.InferParameter_StringParam:
			out[name] = v.StringParam
		case *inference.InferParameter_DoubleParam:
			out[name] = v.DoubleParam
		case *inference.InferParameter_Uint64Param:
			out[name] = v.Uint64Param
		}
	}
	return out
}

// pack writes the contents of a tensor as its binary data.
func pack(datatype string, c *inference.InferTensorContents) ([]byte, error) {
	le := binary.LittleEndian
	var out []byte
	switch datatype {
	case "INT8", "INT16", "INT32":
		for _, v := range c.GetIntContents() {
			width := width(datatype)
			if limit := int64(1) << (8*width - 1); int64(v) >= limit || int64(v) < -limit {
				return nil, fmt.Errorf("contents.int_contents: %d is no %s", v, datatype)
			}
			out = append(out, le.AppendUint32(nil, uint32(v))[:width]...)
		}
	case "UINT8", "UINT16", "UINT32":
		for _, v := range c.GetUintContents() {
			width := width(datatype)
			if uint64(v) >= 1<<(8*width) {
				return nil, fmt.Errorf("contents.uint_contents: %d is no %s", v, datatype)
			}
			out = append(out, le.AppendUint32(nil, v)[:width]...)
		}
	case "INT64":
		for _, v := range c.GetInt64Contents() {
			out = le.AppendUint64(out, uint64(v))
		}
	case "UINT64":
		for _, v := range c.GetUint64Contents() {
			out = le.AppendUint64(out, v)
		}
	case "FP32":
		for _, v := range c.GetFp32Contents() {
			out = le.AppendUint32(out, math.Float32bits(v))
		}
	case "FP64":
		for _, v := range c.GetFp64Contents() {
			out = le.AppendUint64(out, math.Float64bits(v))
		}
	case "BYTES":
		for _, v := range c.GetBytesContents() {
			out = append(le.AppendUint32(out, uint32(len(v))), v...)
		}
	default:
		return nil, fmt.Errorf("datatype: %q has no contents; send it in raw_input_contents", datatype)
	}
	return out, nil
}

// width returns the bytes of one value.
func width(datatype string) int {
	switch datatype {
	case "INT8", "UINT8":
		return 1
	case "INT16", "UINT16":
		return 2
	}
	return 4
}

// decode reads an answer of the REST form.
func decode(a *answer) (*inference.ModelInferResponse, error) {
	body := a.body.Bytes()
	n, err := strconv.Atoi(a.header.Get(inferenceLength))
	if err != nil || n < 0 || n > len(body) {
		return nil, errShort
	}
	var text struct {
		Name    string `json:"model_name"`
		Version string `json:"model_version"`
		ID      string `json:"id"`
		Outputs []struct {
			tensor
			Parameters struct {
				Size int `json:"binary_data_size"`
			} `json:"parameters"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal(body[:n], &text); err != nil {
		return nil, err
	}
	out := &inference.ModelInferResponse{ModelName: text.Name, ModelVersion: text.Version, Id: text.ID}
	body = body[n:]
	for _, o := range text.Outputs {
		if o.Parameters.Size < 0 || o.Parameters.Size > len(body) {
			return nil, errShort
		}
		out.Outputs = append(out.Outputs, &inference.ModelInferResponse_InferOutputTensor{Name: o.Name, Datatype: o.Datatype, Shape: o.Shape})
		out.RawOutputContents = append(out.RawOutputContents, body[:o.Parameters.Size])
		body = body[o.Parameters.Size:]
	}
	return out, nil
}

// unpack moves raw outputs into the contents of their tensors.
func unpack(out *inference.ModelInferResponse) error {
	le := binary.LittleEndian
	for i, o := range out.GetOutputs() {
		data := out.GetRawOutputContents()[i]
		c := &inference.InferTensorContents{}
		for len(data) > 0 {
			switch {
			case o.GetDatatype() == "BYTES" && len(data) >= 4 && uint64(le.Uint32(data)) <= uint64(len(data)-4):
				n := le.Uint32(data)
				c.BytesContents = append(c.BytesContents, data[4:4+n])
				data = data[4+n:]
			case o.GetDatatype() == "INT64" && len(data) >= 8:
				c.Int64Contents = append(c.Int64Contents, int64(le.Uint64(data)))
				data = data[8:]
			case o.GetDatatype() == "FP64" && len(data) >= 8:
				c.Fp64Contents = append(c.Fp64Contents, math.Float64frombits(le.Uint64(data)))
				data = data[8:]
			default:
				return errShort
			}
		}
		o.Contents = c
	}
	out.RawOutputContents = nil
	return nil
}
