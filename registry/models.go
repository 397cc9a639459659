package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"turbofan"
)

// Stages of versions, as MLflow's older clients know them.
const (
	stageNone       = "None"
	stageStaging    = "Staging"
	stageProduction = "Production"
	stageArchived   = "Archived"
)

// CreateModel implements turbofan.ModelStore: m needs a name only.
func (r *Registry) CreateModel(ctx context.Context, m turbofan.RegisteredModel) (turbofan.RegisteredModel, error) {
	if err := checkModelName(m.Name, "name"); err != nil {
		return m, err
	}
	if err := checkModelTags(m.Tags); err != nil {
		return m, err
	}
	if err := tooLong("description", maxDescription, m.Description); err != nil {
		return m, err
	}
	m.CreatedAt = r.now()
	m.UpdatedAt = m.CreatedAt
	return r.store.CreateModel(ctx, m)
}

// UpdateModel implements turbofan.ModelStore.
func (r *Registry) UpdateModel(ctx context.Context, name string, u turbofan.ModelUpdate) (turbofan.RegisteredModel, error) {
	if u.Name != nil {
		if err := checkModelName(*u.Name, "new_name"); err != nil {
			return turbofan.RegisteredModel{}, err
		}
	}
	if u.Description != nil {
		if err := tooLong("description", maxDescription, *u.Description); err != nil {
			return turbofan.RegisteredModel{}, err
		}
	}
	if err := checkModelTags(u.SetTags); err != nil {
		return turbofan.RegisteredModel{}, err
	}
	for alias, version := range u.SetAliases {
		if err := checkAlias(alias); err != nil {
			return turbofan.RegisteredModel{}, err
		}
		if err := checkVersionNumber(version); err != nil {
			return turbofan.RegisteredModel{}, err
		}
	}
	return r.store.UpdateModel(ctx, name, u)
}

// ModelVersion implements turbofan.VersionStore.
func (r *Registry) ModelVersion(ctx context.Context, name, version string) (turbofan.ModelVersion, error) {
	if err := checkVersionNumber(version); err != nil {
		return turbofan.ModelVersion{}, err
	}
	return r.store.ModelVersion(ctx, name, version)
}

// UpdateModelVersion implements turbofan.VersionStore.
func (r *Registry) UpdateModelVersion(ctx context.Context, name, version string, u turbofan.VersionUpdate) (turbofan.ModelVersion, error) {
	if err := checkVersionNumber(version); err != nil {
		return turbofan.ModelVersion{}, err
	}
	if err := checkModelTags(u.SetTags); err != nil {
		return turbofan.ModelVersion{}, err
	}
	if u.Description != nil {
		if err := tooLong("description", maxDescription, *u.Description); err != nil {
			return turbofan.ModelVersion{}, err
		}
	}
	if u.Stage != nil {
		stage, err := canonicalStage(*u.Stage)
		if err != nil {
			return turbofan.ModelVersion{}, err
		}
		if u.ArchiveOthers && stage != stageStaging && stage != stageProduction {
			return turbofan.ModelVersion{}, invalid("Model version transition cannot archive existing model versions because '%s' is not an Active stage. "+
				"Valid stages are Staging, Production", stage)
		}
		u.Stage = &stage
	}
	return r.store.UpdateModelVersion(ctx, name, version, u)
}

func canonicalStage(stage string) (string, error) {
	for _, s := range []string{stageNone, stageStaging, stageProduction, stageArchived} {
		if strings.EqualFold(s, stage) {
			return s, nil
		}
	}
	return "", invalid("Invalid Model Version stage: %s. Value must be one of None, Staging, Production, Archived.", stage)
}

// DeleteModelVersion implements turbofan.VersionStore.
func (r *Registry) DeleteModelVersion(ctx context.Context, name, version string) error {
	if err := checkVersionNumber(version); err != nil {
		return err
	}
	return r.store.DeleteModelVersion(ctx, name, version)
}

// CreateModelVersion implements turbofan.VersionStore for artifacts that are already somewhere: v.Source says where.
// A source on this machine's disk must be among the files of v's run or logged model.
func (r *Registry) CreateModelVersion(ctx context.Context, v turbofan.ModelVersion) (turbofan.ModelVersion, error) {
	if err := checkModelName(v.Name, "name"); err != nil {
		return v, err
	}
	if err := r.checkSource(ctx, v); err != nil {
		return v, err
	}
	// A run's files are looked for when they are asked for, as MLflow does: the run may be another server's.
	v.Storage = v.Source
	if scheme, _ := splitScheme(v.Source); scheme == "models" {
		storage, err := r.storageOf(ctx, v.Source)
		if err != nil {
			return v, err
		}
		v.Storage = storage
	}
	if err := r.inherit(ctx, &v); err != nil {
		return v, err
	}
	created, err := r.insertVersion(ctx, v)
	if err == nil && v.ModelID != "" {
		err = r.noteRegistration(ctx, created)
	}
	return created, err
}

// inherit completes v with the logged model and the run that its source comes from, where nobody said so.
func (r *Registry) inherit(ctx context.Context, v *turbofan.ModelVersion) error {
	head, tail, _ := strings.Cut(strings.TrimPrefix(v.Source, "models:/"), "/")
	if head != "" && strings.HasPrefix(v.Source, "models:/") && v.ModelID == "" {
		if strings.HasPrefix(head, "m-") {
			v.ModelID = head
		} else if v.RunID == "" {
			from, err := r.sourceVersion(ctx, head, tail)
			if err != nil {
				return err
			}
			v.RunID = from.RunID
		}
	}
	if v.ModelID == "" || v.RunID != "" {
		return nil
	}
	m, err := r.store.LoggedModel(ctx, v.ModelID)
	v.RunID = m.SourceRunID
	return err
}

func (r *Registry) insertVersion(ctx context.Context, v turbofan.ModelVersion) (turbofan.ModelVersion, error) {
	if err := checkModelTags(v.Tags); err != nil {
		return v, err
	}
	if err := tooLong("description", maxDescription, v.Description); err != nil {
		return v, err
	}
	v.CreatedAt = r.now()
	v.UpdatedAt, v.Stage, v.Aliases = v.CreatedAt, stageNone, nil
	v, err := r.store.CreateModelVersion(ctx, v)
	if err == nil {
		r.versions.Inc()
	}
	return v, err
}

// tagRegistrations lists, on a logged model, the versions that were made of it.
const tagRegistrations = "mlflow.modelVersions"

func (r *Registry) noteRegistration(ctx context.Context, v turbofan.ModelVersion) error {
	m, err := r.store.LoggedModel(ctx, v.ModelID)
	if err != nil {
		return err
	}
	var list []string
	for _, t := range m.Tags {
		var known []json.RawMessage
		if t.Key != tagRegistrations || json.Unmarshal([]byte(t.Value), &known) != nil {
			continue // what is no list of a client's is replaced
		}
		for _, k := range known {
			list = append(list, string(k))
		}
	}
	name, err := json.Marshal(v.Name)
	if err != nil {
		return fmt.Errorf("note registration: %w", err)
	}
	// The spaces are Python's: clients compare the text.
	list = append(list, fmt.Sprintf(`{"name": %s, "version": %s}`, name, v.Version))
	_, err = r.store.UpdateLoggedModel(ctx, v.ModelID, turbofan.LoggedModelUpdate{
		SetTags: []turbofan.KeyValue{{Key: tagRegistrations, Value: "[" + strings.Join(list, ", ") + "]"}},
	})
	return err
}

// checkSource refuses sources that could make the server hand out files that are not a model's.
func (r *Registry) checkSource(ctx context.Context, v turbofan.ModelVersion) error {
	if err := tooLong("source", maxURI, v.Source); err != nil {
		return err
	}
	if r.sources != nil && !r.sources.MatchString(v.Source) {
		return invalid("Invalid model version source: '%s'.", v.Source)
	}
	scheme, _ := splitScheme(v.Source)
	if scheme == "" || scheme == "file" {
		return r.checkLocalSource(ctx, v)
	}
	decoded := v.Source
	for range 32 {
		next, err := url.QueryUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		decoded = next
	}
	bad := strings.ContainsAny(decoded, "\x00\\")
	for part := range strings.SplitSeq(decoded, "/") {
		bad = bad || part == ".." || part == "."
	}
	if bad {
		return invalid("Invalid model version source: '%s'. If supplying a source as an http, https, local file path, ftp, objectstore, or "+
			"mlflow-artifacts uri, an absolute path must be provided without relative path references present. Please provide an absolute path.", v.Source)
	}
	return nil
}

func (r *Registry) checkLocalSource(ctx context.Context, v turbofan.ModelVersion) error {
	if u, err := url.Parse(v.Source); err == nil && u.Scheme == "file" && u.Host != "" && u.Host != "localhost" {
		// MLflow answers this one with an internal error, and its own tests hold it to that.
		return &turbofan.Error{Code: turbofan.EInternal, Message: v.Source + " is not a valid remote uri. For remote access on windows, " +
			"please consider using a different scheme such as SMB (e.g. smb://<hostname>/<path>)."}
	}
	owner, uri := "run_id", ""
	switch {
	case v.ModelID != "":
		m, err := r.store.LoggedModel(ctx, v.ModelID)
		if err != nil {
			return err
		}
		owner, uri = "model_id", m.ArtifactURI
	case v.RunID != "":
		run, err := r.store.Run(ctx, v.RunID)
		if err != nil {
			return err
		}
		uri = run.ArtifactURI
	}
	source, ok := localPath(v.Source)
	if ok && uri != "" && fullyDecoded(v.Source) == v.Source {
		if base, local := localPath(uri); local {
			if _, within := relativeTo(base, source); within {
				return nil
			}
		}
	}
	return invalid("Invalid model version source: '%s'. To use a local path as a model version source, the %s request parameter has to be "+
		"specified and the local path has to be contained within the artifact directory of the run specified by the %s.", v.Source, owner, owner)
}

// versionURI is where the files of a version made by CreateVersion are.
func versionURI(id string) string { return proxyScheme + ":/" + registryDir + "/" + id }

// CreateVersion implements turbofan.Registry.
func (r *Registry) CreateVersion(ctx context.Context, v turbofan.ModelVersion, dir string) (turbofan.ModelVersion, error) {
	if err := checkModelName(v.Name, "name"); err != nil {
		return v, err
	}
	if _, err := r.CreateModel(ctx, turbofan.RegisteredModel{Name: v.Name}); err != nil && turbofan.ErrorCode(err) != turbofan.EConflict {
		return v, err
	}
	staged, n, err := r.stage(ctx, dir)
	if err != nil {
		return v, err
	}
	id := newID()
	place := path.Join(registryDir, id)
	if err := r.publish(staged, place); err != nil {
		r.discard(staged)
		return v, err
	}
	v.Source = versionURI(id)
	v.Storage = v.Source
	aliases := v.Aliases
	created, err := r.insertVersion(ctx, v)
	if err != nil {
		r.discard(place)
		return v, err
	}
	r.bytes.Add(float64(n))
	for _, alias := range aliases {
		if err := r.SetAlias(ctx, created.Name, alias, created.Version); err != nil {
			return created, err
		}
	}
	created.Aliases = aliases
	r.log.Info("registered model version", "name", created.Name, "version", created.Version, "bytes", n)
	return created, nil
}

// discard deletes a folder that never became a version's. What it cannot delete the next Open will.
func (r *Registry) discard(name string) {
	if err := r.files.RemoveAll(name); err != nil {
		r.log.Warn("cannot delete artifacts of a version that failed", "path", name, "error", err)
	}
}

// Version implements turbofan.Registry.
func (r *Registry) Version(ctx context.Context, name, ref string) (turbofan.ModelVersion, error) {
	alias, isAlias := strings.CutPrefix(ref, "@")
	if !isAlias {
		return r.store.ModelVersion(ctx, name, ref)
	}
	m, err := r.store.Model(ctx, name)
	if err != nil {
		return turbofan.ModelVersion{}, err
	}
	version, ok := m.Aliases[alias]
	if !ok {
		return turbofan.ModelVersion{}, turbofan.Errorf(turbofan.ENotFound, "Registered model alias %s not found.", alias)
	}
	return r.store.ModelVersion(ctx, name, version)
}

// Versions implements turbofan.Registry.
func (r *Registry) Versions(ctx context.Context, name string) ([]turbofan.ModelVersion, error) {
	q := turbofan.SearchQuery{
		Where:   []turbofan.SearchTerm{{Entity: turbofan.EntityAttribute, Key: "name", Op: turbofan.OpEqual, Text: name}},
		OrderBy: []turbofan.SearchOrder{{Entity: turbofan.EntityAttribute, Key: "version_number"}},
		Limit:   1000,
	}
	var all []turbofan.ModelVersion
	for {
		page, next, err := r.store.SearchModelVersions(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		q.PageToken = next
	}
}

// SetAlias implements turbofan.Registry.
func (r *Registry) SetAlias(ctx context.Context, name, alias, version string) error {
	_, err := r.UpdateModel(ctx, name, turbofan.ModelUpdate{SetAliases: map[string]string{alias: version}})
	return err
}

// DeleteAlias implements turbofan.Registry.
func (r *Registry) DeleteAlias(ctx context.Context, name, alias string) error {
	_, err := r.UpdateModel(ctx, name, turbofan.ModelUpdate{DeleteAliases: []string{alias}})
	return err
}

// SetVersionTags implements turbofan.Registry.
func (r *Registry) SetVersionTags(ctx context.Context, name, version string, tags map[string]string) error {
	_, err := r.UpdateModelVersion(ctx, name, version, turbofan.VersionUpdate{SetTags: tags})
	return err
}

// Fetch implements turbofan.Registry.
func (r *Registry) Fetch(ctx context.Context, v turbofan.ModelVersion, dir string) error {
	storage := v.Storage
	if v.Name != "" && v.Version != "" {
		known, err := r.store.ModelVersion(ctx, v.Name, v.Version)
		if err != nil {
			return err
		}
		v, storage = known, known.Storage
	}
	if storage == "" {
		storage = v.Source
	}
	p, err := r.find(ctx, storage)
	if err != nil {
		return err
	}
	return fetchTree(ctx, p.root, p.rel, dir, v.CheckArtifact)
}
