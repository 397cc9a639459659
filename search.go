package turbofan

// SearchEntity is a kind of thing that a search can ask about.
type SearchEntity string

// What a search can ask about.
const (
	EntityAttribute SearchEntity = "attribute"
	EntityMetric    SearchEntity = "metric"
	EntityParam     SearchEntity = "parameter"
	EntityTag       SearchEntity = "tag"
	EntityDataset   SearchEntity = "dataset"
)

// SearchOp compares what is stored with what was asked.
type SearchOp string

// The comparisons of MLflow's search grammar.
const (
	OpEqual        SearchOp = "="
	OpNotEqual     SearchOp = "!="
	OpLess         SearchOp = "<"
	OpLessEqual    SearchOp = "<="
	OpGreater      SearchOp = ">"
	OpGreaterEqual SearchOp = ">="
	OpLike         SearchOp = "LIKE"  // minds case
	OpILike        SearchOp = "ILIKE" // does not
	OpIn           SearchOp = "IN"
	OpNotIn        SearchOp = "NOT IN"
	OpIsNull       SearchOp = "IS NULL" // parameters and tags: there is none of that key
	OpIsNotNull    SearchOp = "IS NOT NULL"
)

// SearchTerm is one condition. Which of Text, Number and List holds the value follows from the entity and the operator:
// List for IN and NOT IN, Number for metrics and for attributes that are numbers or times in Unix milliseconds, else Text.
type SearchTerm struct {
	Entity SearchEntity
	Key    string
	Op     SearchOp
	Text   string
	Number float64
	List   []string
	// Datasets bind a metric condition of a logged-model search to data sets.
	Datasets []DatasetRef
}

// DatasetRef names a data set; an empty Digest means any.
type DatasetRef struct{ Name, Digest string }

// SearchOrder is one term of an order: attributes, metrics, parameters and tags can be ordered by.
type SearchOrder struct {
	Entity     SearchEntity
	Key        string
	Descending bool
	Dataset    DatasetRef // binds a metric in a logged-model search
}

// LifecycleView selects by lifecycle stage.
type LifecycleView string

// The views.
const (
	ViewActive  LifecycleView = "ACTIVE_ONLY"
	ViewDeleted LifecycleView = "DELETED_ONLY"
	ViewAll     LifecycleView = "ALL"
)

// SearchQuery selects experiments, runs, registered models or model versions. All of Where must hold. A search returns a page
// of at most Limit and the token of the next page, "" on the last one.
type SearchQuery struct {
	ExperimentIDs []string // runs only: the experiments to look in
	Where         []SearchTerm
	OrderBy       []SearchOrder
	View          LifecycleView // experiments and runs; empty means active ones
	Limit         int           // at least 1
	PageToken     string        // of the page, as the search for the page before returned it; "" is the first page
}

// LoggedModelQuery selects logged models.
type LoggedModelQuery struct {
	SearchQuery
	// Datasets, where there are any, bind every metric condition to these data sets.
	Datasets []DatasetRef
}

// MetricQuery selects the history of one metric.
type MetricQuery struct {
	RunID     string
	Key       string
	Limit     int // 0 means all
	PageToken string
}
