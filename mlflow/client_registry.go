package mlflow

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

type wireVersion struct {
	Name        string              `json:"name"`
	Version     string              `json:"version"`
	Created     wireInt             `json:"creation_timestamp"`
	Updated     wireInt             `json:"last_updated_timestamp"`
	Stage       string              `json:"current_stage"`
	Description string              `json:"description"`
	Source      string              `json:"source"`
	RunID       string              `json:"run_id"`
	RunLink     string              `json:"run_link"`
	UserID      string              `json:"user_id"`
	ModelID     string              `json:"model_id"`
	Tags        []turbofan.KeyValue `json:"tags"`
	Aliases     []string            `json:"aliases"`
}

func (v wireVersion) version() turbofan.ModelVersion {
	out := turbofan.ModelVersion{Name: v.Name, Version: v.Version, RunID: v.RunID, Source: v.Source, Description: v.Description,
		Aliases: v.Aliases, CreatedAt: v.Created.time(), UpdatedAt: v.Updated.time(), Stage: v.Stage, ModelID: v.ModelID,
		RunLink: v.RunLink, UserID: v.UserID}
	if len(v.Tags) > 0 {
		out.Tags = make(map[string]string, len(v.Tags))
		for _, t := range v.Tags {
			out.Tags[t.Key] = t.Value
		}
	}
	return out
}

// CreateVersion implements turbofan.Registry. The files are uploaded below the artifacts of the version's run, where
// MLflow wants a model to be; a version without a run gets one in the experiment of the model's name.
func (c *Client) CreateVersion(ctx context.Context, v turbofan.ModelVersion, dir string) (turbofan.ModelVersion, error) {
	if strings.TrimSpace(v.Name) == "" || strings.ContainsAny(v.Name, "/:") {
		return v, invalid("Invalid model name '%s'. Names cannot be empty, nor contain '/' or ':'.", v.Name)
	}
	if err := checkFolder(dir); err != nil {
		return v, err
	}
	err := c.call(ctx, send{method: http.MethodPost, path: "registered-models/create", body: map[string]string{"name": v.Name}}, nil)
	if err != nil && turbofan.ErrorCode(err) != turbofan.EConflict {
		return v, err
	}
	root, err := c.versionRoot(ctx, &v)
	if err != nil {
		return v, err
	}
	source := joinURI(root, "model-"+randomHex(8))
	if err := c.uploadTree(ctx, source, dir); err != nil {
		c.discard(ctx, source)
		return v, err
	}
	var out struct {
		Version wireVersion `json:"model_version"`
	}
	err = c.call(ctx, send{method: http.MethodPost, path: "model-versions/create", once: true, body: map[string]any{
		"name": v.Name, "source": source, "run_id": v.RunID, "description": v.Description, "tags": sortedKeyValues(v.Tags),
	}}, &out)
	if err != nil {
		c.discard(ctx, source)
		return v, err
	}
	created := out.Version.version()
	for _, alias := range v.Aliases {
		if err := c.SetAlias(ctx, v.Name, alias, created.Version); err != nil {
			return created, err
		}
	}
	created.Aliases = v.Aliases
	return created, nil
}

// versionRoot returns the artifact root of the version's run, starting one when it has none.
func (c *Client) versionRoot(ctx context.Context, v *turbofan.ModelVersion) (string, error) {
	if v.RunID != "" {
		run, err := c.run(ctx, v.RunID)
		return run.ArtifactURI, err
	}
	run, err := c.StartRun(ctx, v.Name, "", map[string]string{"mlflow.source.type": "LOCAL", "reason": "register a model"}, time.Time{})
	if err != nil {
		return "", err
	}
	v.RunID = run.ID
	return run.ArtifactURI, c.EndRun(ctx, run.ID, turbofan.RunFinished)
}

// Version implements turbofan.Registry.
func (c *Client) Version(ctx context.Context, name, ref string) (turbofan.ModelVersion, error) {
	var out struct {
		Version wireVersion `json:"model_version"`
	}
	alias, isAlias := strings.CutPrefix(ref, "@")
	if !isAlias {
		if _, err := strconv.ParseInt(ref, 10, 32); err != nil {
			return turbofan.ModelVersion{}, turbofan.Errorf(turbofan.ENotFound, "Model Version (name=%s, version=%s) not found", name, ref)
		}
		err := c.call(ctx, send{method: http.MethodGet, path: "model-versions/get", query: url.Values{"name": {name}, "version": {ref}}}, &out)
		return out.Version.version(), err
	}
	err := c.call(ctx, send{method: http.MethodGet, path: "registered-models/alias", query: url.Values{"name": {name}, "alias": {alias}}}, &out)
	if turbofan.ErrorCode(err) == turbofan.EInvalid && strings.Contains(err.Error(), "not found") {
		// MLflow calls an alias that is not there a bad parameter.
		return turbofan.ModelVersion{}, turbofan.Errorf(turbofan.ENotFound, "%s", turbofan.ErrorMessage(err))
	}
	return out.Version.version(), err
}

// Versions implements turbofan.Registry.
func (c *Client) Versions(ctx context.Context, name string) ([]turbofan.ModelVersion, error) {
	quote := "'"
	if strings.Contains(name, "'") {
		quote = `"`
	}
	if strings.Contains(name, quote) {
		return nil, invalid("Invalid model name '%s': MLflow cannot search for both kinds of quotes", name)
	}
	query := url.Values{"filter": {"name=" + quote + name + quote}, "max_results": {"1000"}, "order_by": {"version_number ASC"}}
	var all []turbofan.ModelVersion
	for {
		var page struct {
			Versions []wireVersion `json:"model_versions"`
			Next     string        `json:"next_page_token"`
		}
		if err := c.call(ctx, send{method: http.MethodGet, path: "model-versions/search", query: query}, &page); err != nil {
			return nil, err
		}
		for _, v := range page.Versions {
			all = append(all, v.version())
		}
		if page.Next == "" {
			break
		}
		query.Set("page_token", page.Next)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, c.addAliases(ctx, name, all)
}

// addAliases completes search results, which MLflow sends without aliases.
func (c *Client) addAliases(ctx context.Context, name string, versions []turbofan.ModelVersion) error {
	var out struct {
		Model struct {
			Aliases []struct {
				Alias   string `json:"alias"`
				Version string `json:"version"`
			} `json:"aliases"`
		} `json:"registered_model"`
	}
	if err := c.call(ctx, send{method: http.MethodGet, path: "registered-models/get", query: url.Values{"name": {name}}}, &out); err != nil {
		return err
	}
	for i := range versions {
		versions[i].Aliases = nil
		for _, a := range out.Model.Aliases {
			if a.Version == versions[i].Version {
				versions[i].Aliases = append(versions[i].Aliases, a.Alias)
			}
		}
		slices.Sort(versions[i].Aliases)
	}
	return nil
}

// SetAlias implements turbofan.Registry.
func (c *Client) SetAlias(ctx context.Context, name, alias, version string) error {
	return c.call(ctx, send{method: http.MethodPost, path: "registered-models/alias",
		body: map[string]string{"name": name, "alias": alias, "version": version}}, nil)
}

// DeleteAlias implements turbofan.Registry.
func (c *Client) DeleteAlias(ctx context.Context, name, alias string) error {
	return c.call(ctx, send{method: http.MethodDelete, path: "registered-models/alias",
		body: map[string]string{"name": name, "alias": alias}}, nil)
}

// SetVersionTags implements turbofan.Registry.
func (c *Client) SetVersionTags(ctx context.Context, name, version string, tags map[string]string) error {
	for _, t := range sortedKeyValues(tags) {
		if err := c.call(ctx, send{method: http.MethodPost, path: "model-versions/set-tag",
			body: map[string]string{"name": name, "version": version, "key": t.Key, "value": t.Value}}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Fetch implements turbofan.Registry.
func (c *Client) Fetch(ctx context.Context, v turbofan.ModelVersion, dir string) error {
	uri := v.Source
	if v.Name != "" && v.Version != "" {
		var out struct {
			URI string `json:"artifact_uri"`
		}
		if err := c.call(ctx, send{method: http.MethodGet, path: "model-versions/get-download-uri",
			query: url.Values{"name": {v.Name}, "version": {v.Version}}}, &out); err != nil {
			return err
		}
		uri = out.URI
	}
	uri, err := c.resolve(ctx, uri)
	if err != nil {
		return err
	}
	return c.downloadTree(ctx, uri, dir, v.CheckArtifact)
}

// resolve follows a URI that names a run or a logged model to its files.
func (c *Client) resolve(ctx context.Context, uri string) (string, error) {
	if rest, ok := strings.CutPrefix(uri, "runs:/"); ok {
		id, rel, _ := strings.Cut(rest, "/")
		run, err := c.run(ctx, id)
		return joinURI(run.ArtifactURI, rel), err
	}
	if rest, ok := strings.CutPrefix(uri, "models:/m-"); ok {
		id, rel, _ := strings.Cut(rest, "/")
		var out struct {
			Model struct {
				Info struct {
					URI string `json:"artifact_uri"`
				} `json:"info"`
			} `json:"model"`
		}
		err := c.call(ctx, send{method: http.MethodGet, path: "logged-models/m-" + id}, &out)
		return joinURI(out.Model.Info.URI, rel), err
	}
	return uri, nil
}
