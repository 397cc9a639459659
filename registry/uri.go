package registry

import (
	"context"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"turbofan"
)

// place is a file or folder below one of the folders that the registry serves.
type place struct {
	root *os.Root
	rel  string // "." is the root itself
}

func (p place) isRoot() bool { return p.rel == "." }

// locate turns a URI into a place. Only what lies below the artifact root, or below a shared default root, has one.
func (r *Registry) locate(uri string) (place, error) {
	scheme, rest := splitScheme(uri)
	switch scheme {
	case proxyScheme:
		return r.locateBelow(r.files, stripHost(rest))
	case "http", "https":
		// A client may name the proxy by its address.
		if _, p, ok := strings.Cut(rest, "/mlflow-artifacts/artifacts"); ok {
			return r.locateBelow(r.files, p)
		}
	case "file", "":
		local, ok := localPath(uri)
		if !ok {
			break
		}
		if p, ok := relativeTo(r.filesPath, local); ok {
			return r.locateBelow(r.files, p)
		}
		if r.shared != nil {
			if p, ok := relativeTo(r.sharedPath, local); ok {
				return r.locateBelow(r.shared, p)
			}
		}
	}
	return place{}, invalid("The artifact location '%s' is not served here", uri)
}

// find is locate for a URI that may name a run, a logged model or a version instead of a place.
func (r *Registry) find(ctx context.Context, uri string) (place, error) {
	uri, err := r.storageOf(ctx, uri)
	if err != nil {
		return place{}, err
	}
	return r.locate(uri)
}

func (r *Registry) locateBelow(root *os.Root, p string) (place, error) {
	rel, err := SafePath(strings.TrimLeft(p, "/"))
	if err != nil {
		return place{}, err
	}
	if root == r.files && (rel == stagingDir || strings.HasPrefix(rel, stagingDir+"/")) {
		return place{}, invalid("Invalid path")
	}
	return place{root, rel}, nil
}

// splitScheme parts a URI at its colon; a path has no scheme.
func splitScheme(uri string) (string, string) {
	i := strings.IndexByte(uri, ':')
	if i < 1 || strings.ContainsAny(uri[:i], "/\\") {
		return "", uri
	}
	return strings.ToLower(uri[:i]), uri[i+1:]
}

// stripHost drops the host of //host/path.
func stripHost(rest string) string {
	after, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return rest
	}
	if i := strings.IndexByte(after, '/'); i >= 0 {
		return after[i:]
	}
	return ""
}

// localPath returns the path of a file: URI of this machine, or of a path.
func localPath(uri string) (string, bool) {
	scheme, _ := splitScheme(uri)
	if scheme == "" {
		return filepath.Clean(uri), filepath.IsAbs(uri)
	}
	u, err := url.Parse(uri)
	if err != nil || scheme != "file" || u.Host != "" && u.Host != "localhost" {
		return "", false
	}
	p := filepath.FromSlash(u.Path)
	return filepath.Clean(p), filepath.IsAbs(p)
}

// relativeTo returns target below base, with slashes.
func relativeTo(base, target string) (string, bool) {
	rel, err := filepath.Rel(base, target)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// SafePath cleans a relative path with slashes and refuses, with EInvalid, one that could name anything outside of
// the folder that it is relative to, also after decoding it as often as it can be decoded.
func SafePath(p string) (string, error) {
	decoded := fullyDecoded(p)
	bad := strings.ContainsAny(decoded, "\x00\\#") || strings.HasPrefix(decoded, "/") || len(p) > 4096 ||
		len(decoded) > 1 && decoded[1] == ':'
	for part := range strings.SplitSeq(decoded, "/") {
		bad = bad || part == ".."
	}
	if scheme, _ := splitScheme(decoded); scheme == "file" {
		bad = true
	}
	if bad {
		return "", invalid("Invalid path")
	}
	for _, c := range p {
		if c < 0x20 || c == 0x7f {
			return "", invalid("Invalid path")
		}
	}
	return path.Clean(p), nil
}

// fullyDecoded undoes percent encoding until nothing changes.
func fullyDecoded(s string) string {
	for range 32 {
		t, err := url.PathUnescape(s)
		if err != nil || t == s {
			return s
		}
		s = t
	}
	return s
}

// join adds a relative path to a URI.
func join(uri, rel string) string {
	rel = strings.Trim(rel, "/")
	if rel == "" || rel == "." {
		return uri
	}
	return strings.TrimRight(uri, "/") + "/" + rel
}

// storageOf follows a source that names a run, a logged model or another version to where its files are. A source of
// any other kind is where its files are.
func (r *Registry) storageOf(ctx context.Context, source string) (string, error) {
	scheme, rest := splitScheme(source)
	if scheme != "runs" && scheme != "models" {
		return source, nil
	}
	head, tail, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if scheme == "runs" {
		return r.storageOfRun(ctx, head, tail)
	}
	if strings.HasPrefix(head, "m-") {
		m, err := r.store.LoggedModel(ctx, head)
		if err != nil {
			return "", err
		}
		return join(m.ArtifactURI, tail), nil
	}
	v, err := r.sourceVersion(ctx, head, tail)
	if err != nil {
		return "", err
	}
	if scheme, _ := splitScheme(v.Storage); scheme == "models" {
		return "", invalid("The source '%s' leads to another one", source) // CreateModelVersion never stores such a one
	}
	return v.Storage, nil
}

// sourceVersion is the version that models:/name/1 or models:/name@alias names.
func (r *Registry) sourceVersion(ctx context.Context, head, tail string) (turbofan.ModelVersion, error) {
	if at := strings.LastIndexByte(head, '@'); at > 0 {
		return r.Version(ctx, head[:at], head[at:])
	}
	return r.Version(ctx, head, tail)
}

// storageOfRun finds a path below a run's files. MLflow 3 keeps a run's models beside it: where the run has no such
// folder, its logged model of that name is meant.
func (r *Registry) storageOfRun(ctx context.Context, runID, rel string) (string, error) {
	run, err := r.store.Run(ctx, runID)
	if err != nil {
		return "", err
	}
	uri := join(run.ArtifactURI, rel)
	if p, err := r.locate(uri); err == nil {
		if _, err := p.root.Stat(filepath.FromSlash(p.rel)); err == nil {
			return uri, nil
		}
	}
	models, _, err := r.store.SearchLoggedModels(ctx, turbofan.LoggedModelQuery{SearchQuery: turbofan.SearchQuery{
		ExperimentIDs: []string{run.ExperimentID}, Limit: 1,
		Where: []turbofan.SearchTerm{
			{Entity: turbofan.EntityAttribute, Key: "source_run_id", Op: turbofan.OpEqual, Text: runID},
			{Entity: turbofan.EntityAttribute, Key: "name", Op: turbofan.OpEqual, Text: rel},
		},
	}})
	if err != nil || len(models) == 0 {
		return uri, err
	}
	return models[0].ArtifactURI, nil
}
