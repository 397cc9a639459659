package turbofan

import (
	"context"
	"time"
)

// The aliases beside ChampionAlias under which a version meets production before it is champion.
const (
	// CanaryAlias names the version that answers a share of the units in the champion's place.
	CanaryAlias = "canary"
	// ChallengerAlias names the version that answers every unit silently: its answers are logged, never sent.
	ChallengerAlias = "challenger"
)

// The tags by which versions tell the history of champions, readable on any MLflow server.
const (
	// TagChampionSince is when the version last became champion (RFC 3339).
	TagChampionSince = "turbofan.champion_since"
	// TagChampionReplaced is the version that was champion before it, where one was: what a rollback goes back to.
	TagChampionReplaced = "turbofan.champion_replaced"
	// TagChampionBecause is why it became champion.
	TagChampionBecause = "turbofan.champion_because"
	// TagRolledBack is why the version was taken back.
	TagRolledBack = "turbofan.rolled_back"
	// TagCanaryShare is the share of units, from 0 to 1, that the version answers while it is canary.
	TagCanaryShare = "turbofan.canary_share"
	// TagDigest is the digest of the version's artifact: the SHA-256 of its ManifestFile, which holds those of its files.
	TagDigest = "turbofan.digest"
)

// MaxReason bounds the reason of a change, in bytes: what every MLflow server takes as the value of a tag.
const MaxReason = 1000

// ModelChange is one change of champion.
type ModelChange struct {
	ModelName string    `json:"model_name"`
	From      string    `json:"from,omitempty"` // the champion before; "" when there was none
	To        string    `json:"to"`
	Rollback  bool      `json:"rollback"`
	Because   string    `json:"because,omitempty"`
	At        time.Time `json:"at"`
	// Serving is the version that the process that was asked answers with after the change; "" where it serves none.
	// Other processes take the change when they next ask the registry.
	Serving string `json:"serving,omitempty"`
}

// Record writes the change down on the versions it concerns. The alias is moved first: a process that dies in between
// leaves a champion without history, which a rollback can tell from one with a wrong history.
func (c ModelChange) Record(ctx context.Context, r Registry) error {
	why := c.Because
	if len(why) > MaxReason {
		why = why[:MaxReason]
	}
	tags := map[string]string{TagChampionSince: c.At.UTC().Format(time.RFC3339Nano), TagChampionBecause: why}
	if !c.Rollback && c.From != "" {
		tags[TagChampionReplaced] = c.From
	}
	if err := r.SetVersionTags(ctx, c.ModelName, c.To, tags); err != nil {
		return err
	}
	if c.Rollback && c.From != "" {
		return r.SetVersionTags(ctx, c.ModelName, c.From, map[string]string{TagRolledBack: "rolled back to version " + c.To + ": " + why})
	}
	return nil
}

// ModelSummary is a version as the one who releases it sees it.
type ModelSummary struct {
	Version   string    `json:"version"`
	Aliases   []string  `json:"aliases,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	Digest    string    `json:"digest,omitempty"`
	RunID     string    `json:"run_id,omitempty"`
	// ChampionSince, Replaced and Because tell when it last became champion, in whose place and why.
	ChampionSince time.Time `json:"champion_since,omitzero"`
	Replaced      string    `json:"replaced,omitempty"`
	Because       string    `json:"because,omitempty"`
	RolledBack    string    `json:"rolled_back,omitempty"` // why it was taken back
	// CanaryShare is the share of units that it answers as canary.
	CanaryShare float64 `json:"canary_share,omitempty"`
}

// ModelList is all versions of a model with those that have a part in production.
type ModelList struct {
	ModelName  string         `json:"model_name"`
	Champion   string         `json:"champion,omitempty"`
	Canary     string         `json:"canary,omitempty"`
	Challenger string         `json:"challenger,omitempty"`
	Serving    string         `json:"serving,omitempty"` // the version that the process that was asked answers with
	Versions   []ModelSummary `json:"versions"`          // oldest first
}

// ModelDetail is one version, opened.
type ModelDetail struct {
	ModelSummary
	// Problem says why the version could not serve; "" when it answered its golden histories and reads the champion's
	// channels. The fields below are known only then.
	Problem string  `json:"problem,omitempty"`
	Kind    string  `json:"kind,omitempty"`
	Schema  string  `json:"schema,omitempty"`
	Columns int     `json:"columns,omitempty"`
	Units   int     `json:"train_units,omitempty"`
	RMSE    float64 `json:"rmse,omitempty"` // cross-validated, in cycles
}

// PromoteRequest asks for another champion.
type PromoteRequest struct {
	Version string
	Reason  string
}

// Trial gives a version a part beside the champion, or ends one.
type Trial struct {
	Alias   string // CanaryAlias or ChallengerAlias
	Version string // "" ends the trial
	// Share is the share of units, above 0 and at most 1, that a canary answers.
	Share float64
}

// ReleaseService says which versions answer in production. Every version passes its golden histories before it is given
// a part; a request that is refused changes nothing.
type ReleaseService interface {
	// Models lists the versions.
	Models(ctx context.Context) (ModelList, error)
	// Model opens one version: a number, or an alias such as "@champion".
	Model(ctx context.Context, ref string) (ModelDetail, error)
	// Promote makes a version champion. It ends the trial that the version was in.
	Promote(ctx context.Context, req PromoteRequest) (ModelChange, error)
	// Rollback makes the champion before the present one champion again; EConflict when none is known.
	Rollback(ctx context.Context, reason string) (ModelChange, error)
	// Try begins, changes or ends a trial.
	Try(ctx context.Context, t Trial) (ModelList, error)
}
