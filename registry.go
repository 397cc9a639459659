package turbofan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// ChampionAlias names the version that serves.
const ChampionAlias = "champion"

// ModelVersion is an immutable model in the registry. Names are MLflow's.
type ModelVersion struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"` // a whole number from 1, as MLflow writes it
	RunID       string            `json:"run_id,omitempty"`
	Source      string            `json:"source"` // URI of the artifact directory
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Aliases     []string          `json:"aliases,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at,omitzero"`
	// Stage is MLflow's older way to name the version that serves: None, Staging, Production or Archived.
	Stage string `json:"stage,omitempty"`
	// ModelID is the logged model that the version was made of, where there is one.
	ModelID string `json:"model_id,omitempty"`
	RunLink string `json:"run_link,omitempty"`
	UserID  string `json:"user_id,omitempty"`
	// Storage is the URI of the files: Source itself, unless Source names another model, such as models:/rul/3.
	Storage string `json:"-"`
}

// ManifestFile is the file of a model's artifact that holds the digests of all others.
const ManifestFile = "model.json"

// CheckArtifact compares the manifest of a fetched artifact, nil where it has none, with the digest that the version was
// registered with, and returns EInvalid where they differ: the files were edited, or others stand in their place. A
// version without TagDigest, as other tools register them, is taken.
func (v ModelVersion) CheckArtifact(manifest []byte) error {
	want := v.Tags[TagDigest]
	if want == "" {
		return nil
	}
	was := "they have no " + ManifestFile
	if manifest != nil {
		sum := sha256.Sum256(manifest)
		got := hex.EncodeToString(sum[:])
		if got == want {
			return nil
		}
		was = fmt.Sprintf("their digest is %.12s…", got)
	}
	return Errorf(EInvalid, "version %s of model %q: the files at %s are not those that were registered: %s, its tag %s says %.12s…; they were edited or replaced",
		v.Version, v.Name, v.Source, was, TagDigest, want)
}

// Registry keeps model versions and says which one is champion. The embedded registry and the client of any MLflow
// server implement it.
type Registry interface {
	// CreateVersion registers the artifact directory dir under the next version of name, creating the registered
	// model when it is new. The directory is copied whole before the version is visible.
	CreateVersion(ctx context.Context, v ModelVersion, dir string) (ModelVersion, error)
	// Version resolves ref: a version number such as "3", or an alias such as "@champion". ENotFound when there is none.
	Version(ctx context.Context, name, ref string) (ModelVersion, error)
	// Versions lists all versions of name, oldest first; an unknown name has none.
	Versions(ctx context.Context, name string) ([]ModelVersion, error)
	// SetAlias points alias at a version that exists.
	SetAlias(ctx context.Context, name, alias, version string) error
	// DeleteAlias takes alias away from whatever version has it; an alias that is not there is no error.
	DeleteAlias(ctx context.Context, name, alias string) error
	// SetVersionTags adds or replaces tags of a version.
	SetVersionTags(ctx context.Context, name, version string, tags map[string]string) error
	// Fetch copies the artifact directory of v into dir, which must not exist yet. An artifact that is not the one that was
	// registered is EInvalid, see ModelVersion.CheckArtifact, and leaves nothing behind.
	Fetch(ctx context.Context, v ModelVersion, dir string) error
}

// RegisteredModel is a name under which versions are kept.
type RegisteredModel struct {
	Name        string
	Description string
	Tags        map[string]string
	Aliases     map[string]string // alias to version
	CreatedAt   time.Time
	UpdatedAt   time.Time
	// Latest is the highest version of each stage.
	Latest []ModelVersion
}

// ModelUpdate says what changes of a registered model; nil and empty fields change nothing.
type ModelUpdate struct {
	Name          *string
	Description   *string
	SetTags       map[string]string
	DeleteTags    []string
	SetAliases    map[string]string // alias to version
	DeleteAliases []string
}

// VersionUpdate says what changes of a model version; nil and empty fields change nothing.
type VersionUpdate struct {
	Description *string
	Stage       *string
	// ArchiveOthers moves the other versions of Stage to Archived.
	ArchiveOthers bool
	SetTags       map[string]string
	DeleteTags    []string
}

// ModelStore keeps registered models. Unknown names are ENotFound.
type ModelStore interface {
	// CreateModel is an EConflict when the name is taken.
	CreateModel(ctx context.Context, m RegisteredModel) (RegisteredModel, error)
	Model(ctx context.Context, name string) (RegisteredModel, error)
	// SearchModels returns a page and the token of the next; see SearchQuery.
	SearchModels(ctx context.Context, q SearchQuery) ([]RegisteredModel, string, error)
	// UpdateModel changes what u names, all of it or nothing.
	UpdateModel(ctx context.Context, name string, u ModelUpdate) (RegisteredModel, error)
	// DeleteModel deletes the model with its versions and aliases.
	DeleteModel(ctx context.Context, name string) error
}

// VersionStore keeps the versions of registered models. Unknown ones are ENotFound.
type VersionStore interface {
	// CreateModelVersion stores v under the next number of its model; numbers of deleted versions are not used again.
	CreateModelVersion(ctx context.Context, v ModelVersion) (ModelVersion, error)
	ModelVersion(ctx context.Context, name, version string) (ModelVersion, error)
	// SearchModelVersions returns a page and the token of the next; see SearchQuery.
	SearchModelVersions(ctx context.Context, q SearchQuery) ([]ModelVersion, string, error)
	// UpdateModelVersion changes what u names, all of it or nothing.
	UpdateModelVersion(ctx context.Context, name, version string, u VersionUpdate) (ModelVersion, error)
	// DeleteModelVersion deletes a version and the aliases that name it.
	DeleteModelVersion(ctx context.Context, name, version string) error
}

// LoggedModel is a model as a run wrote it, before anyone registers it; MLflow 3 has them.
type LoggedModel struct {
	ID            string // "m-" and 32 hexadecimal digits
	ExperimentID  string
	Name          string
	ModelType     string
	SourceRunID   string
	ArtifactURI   string
	Status        string // LOGGED_MODEL_PENDING, LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED
	StatusMessage string
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Tags          []KeyValue
	Params        []KeyValue
	Metrics       []Metric
}

// The states of a logged model.
const (
	LoggedModelPending = "LOGGED_MODEL_PENDING"
	LoggedModelReady   = "LOGGED_MODEL_READY"
	LoggedModelFailed  = "LOGGED_MODEL_UPLOAD_FAILED"
)

// LoggedModelUpdate says what changes of a logged model; nil and empty fields change nothing.
type LoggedModelUpdate struct {
	Status     *string
	SetTags    []KeyValue
	DeleteTags []string
	AddParams  []KeyValue
}

// LoggedModelStore keeps logged models. Unknown and deleted ones are ENotFound.
type LoggedModelStore interface {
	CreateLoggedModel(ctx context.Context, m LoggedModel) (LoggedModel, error)
	LoggedModel(ctx context.Context, id string) (LoggedModel, error)
	SearchLoggedModels(ctx context.Context, q LoggedModelQuery) ([]LoggedModel, string, error)
	UpdateLoggedModel(ctx context.Context, id string, u LoggedModelUpdate) (LoggedModel, error)
	DeleteLoggedModel(ctx context.Context, id string) error
}

// Artifact is a file or a folder that a run or a model left.
type Artifact struct {
	Path  string // its name within the folder that was listed
	IsDir bool
	Size  int64 // of a file
}

// ArtifactStore keeps files by URI, such as mlflow-artifacts:/1/abc/artifacts/model/MLmodel. A URI outside of what the
// store serves is EInvalid, an absent file ENotFound.
type ArtifactStore interface {
	// ListArtifacts lists the folder at uri, sorted by name; a file or nothing there is an empty list.
	ListArtifacts(ctx context.Context, uri string) ([]Artifact, error)
	OpenArtifact(ctx context.Context, uri string) (io.ReadSeekCloser, Artifact, error)
	// PutArtifact writes the file whole or not at all, replacing one that is there.
	PutArtifact(ctx context.Context, uri string, r io.Reader) error
	// DeleteArtifact deletes a file or a tree; nothing there is no error.
	DeleteArtifact(ctx context.Context, uri string) error
}

// UploadPart names a part of an upload by its number, from 1, and the tag that it was given.
type UploadPart struct {
	Number int
	Tag    string
}

// UploadStore takes one large file in parts, which may arrive at the same time and in any order. An upload that is
// not known is ENotFound.
type UploadStore interface {
	// StartUpload begins a file at uri. The identifier it returns cannot be guessed: who knows it may add to the upload.
	StartUpload(ctx context.Context, uri string) (string, error)
	// PutPart writes part number whole or not at all and returns its tag.
	PutPart(ctx context.Context, upload string, number int, r io.Reader) (string, error)
	// CompleteUpload joins the parts, whose numbers must ascend, into the file, and ends the upload.
	CompleteUpload(ctx context.Context, uri, upload string, parts []UploadPart) error
	// AbortUpload forgets an upload; one that is not known is no error.
	AbortUpload(ctx context.Context, uri, upload string) error
}

// RegistryStore is the database of the registry.
type RegistryStore interface {
	ExperimentStore
	RunStore
	ModelStore
	VersionStore
	LoggedModelStore
}

// ModelServer is all that an MLflow server has to answer from. The embedded registry implements it: a RegistryStore
// with MLflow's rules and defaults before it and the files beside it.
type ModelServer interface {
	RegistryStore
	ArtifactStore
	UploadStore
}
