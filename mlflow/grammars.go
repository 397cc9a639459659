package mlflow

import "turbofan"

func runGrammar() *grammar {
	text := func(name string) attribute { return attribute{name: name, text: true, order: true} }
	number := func(name string) attribute { return attribute{name: name, number: true, order: true} }
	return &grammar{
		entities: []turbofan.SearchEntity{turbofan.EntityMetric, turbofan.EntityParam, turbofan.EntityTag, turbofan.EntityAttribute, turbofan.EntityDataset},
		nulls:    true,
		attributes: map[string]attribute{
			"run_id":   {name: "run_id", text: true, list: true, order: true},
			"run_name": text("run_name"), "run name": text("run_name"), "Run name": text("run_name"), "Run Name": text("run_name"),
			"status": text("status"), "user_id": text("user_id"), "artifact_uri": text("artifact_uri"),
			"start_time": number("start_time"), "created": number("start_time"), "Created": number("start_time"),
			"end_time": number("end_time"),
		},
	}
}

func experimentGrammar() *grammar {
	return &grammar{
		entities: []turbofan.SearchEntity{turbofan.EntityAttribute, turbofan.EntityTag},
		attributes: map[string]attribute{
			"name":             {name: "name", text: true, order: true},
			"experiment_id":    {name: "experiment_id", number: true, order: true},
			"creation_time":    {name: "creation_time", number: true, order: true},
			"last_update_time": {name: "last_update_time", number: true, order: true},
		},
	}
}

func modelGrammar() *grammar {
	return &grammar{
		entities: []turbofan.SearchEntity{turbofan.EntityAttribute, turbofan.EntityTag},
		attributes: map[string]attribute{
			"name":                   {name: "name", text: true, order: true},
			"creation_timestamp":     {name: "creation_timestamp", number: true, order: true},
			"timestamp":              {name: "last_updated_timestamp", number: true, order: true},
			"last_updated_timestamp": {name: "last_updated_timestamp", number: true, order: true},
		},
	}
}

func versionGrammar() *grammar {
	return &grammar{
		entities: []turbofan.SearchEntity{turbofan.EntityAttribute, turbofan.EntityTag},
		attributes: map[string]attribute{
			"name":                   {name: "name", text: true, list: true, order: true},
			"version_number":         {name: "version_number", number: true, order: true},
			"run_id":                 {name: "run_id", text: true, list: true, order: true},
			"source_path":            {name: "source_path", text: true},
			"creation_timestamp":     {name: "creation_timestamp", number: true, order: true},
			"last_updated_timestamp": {name: "last_updated_timestamp", number: true, order: true},
		},
	}
}

func loggedModelGrammar() *grammar {
	text := func(name string) attribute { return attribute{name: name, text: true, list: true, order: true} }
	number := func(name string) attribute { return attribute{name: name, number: true, order: true} }
	return &grammar{
		entities: []turbofan.SearchEntity{turbofan.EntityMetric, turbofan.EntityParam, turbofan.EntityTag, turbofan.EntityAttribute},
		nulls:    true,
		attributes: map[string]attribute{
			"name": text("name"), "model_name": text("name"), "model_id": text("model_id"), "model_type": text("model_type"),
			"status": text("status"), "source_run_id": text("source_run_id"),
			"creation_timestamp": number("creation_timestamp"), "creation_time": number("creation_timestamp"),
			"creation_timestamp_ms": number("creation_timestamp"), "last_updated_timestamp": number("last_updated_timestamp"),
			"last_updated_timestamp_ms": number("last_updated_timestamp"), "last_updated_time": number("last_updated_timestamp"),
		},
	}
}
