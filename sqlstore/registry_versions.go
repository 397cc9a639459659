package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"turbofan"
)

const versionsFrom = "model_versions v JOIN registered_models m ON m.id = v.model_id"

func versionsTable() *searchTable {
	return &searchTable{
		from: versionsFrom,
		id:   "v.model_id",
		attributes: map[string]searchColumn{
			"name":                   {expr: "m.name"},
			"version_number":         {expr: "v.version", number: true},
			"run_id":                 {expr: "v.run_id"},
			"source_path":            {expr: "v.source"},
			"storage":                {expr: "v.storage"},
			"creation_timestamp":     {expr: "v.created_at", number: true},
			"last_updated_timestamp": {expr: "v.updated_at", number: true},
		},
		owned: map[turbofan.SearchEntity]ownedTable{
			turbofan.EntityTag: {"model_version_tags", "o.model_id = v.model_id AND o.version = v.version"},
		},
		order: []orderKey{{expr: "m.name"}, {expr: "v.version", desc: true}},
	}
}

const versionColumns = `v.model_id, v.version, m.name, v.run_id, v.source, v.storage, v.description, v.stage, v.logged_model_id,
	v.run_link, v.user_id, v.created_at, v.updated_at`

type versionKey struct{ model, version int64 }

type foundVersion struct {
	key     versionKey
	version turbofan.ModelVersion
}

func scanVersion(scan func(...any) error) (foundVersion, error) {
	var f foundVersion
	var created, updated int64
	v := &f.version
	err := scan(&f.key.model, &f.key.version, &v.Name, &v.RunID, &v.Source, &v.Storage, &v.Description, &v.Stage, &v.ModelID,
		&v.RunLink, &v.UserID, &created, &updated)
	v.Version = strconv.FormatInt(f.key.version, 10)
	v.CreatedAt, v.UpdatedAt = time.UnixMilli(created), time.UnixMilli(updated)
	return f, err
}

func noVersion(name, version string) error {
	return notFound("Model Version (name=%s, version=%s) not found", name, version)
}

// CreateModelVersion implements turbofan.VersionStore.
func (d *RegistryDB) CreateModelVersion(ctx context.Context, v turbofan.ModelVersion) (turbofan.ModelVersion, error) {
	err := d.update(ctx, func(tx *registryTx) error {
		key, err := tx.model(v.Name)
		if err != nil {
			return err
		}
		var number int64
		if err := tx.get([]any{&number}, "UPDATE registered_models SET last_version = last_version + 1, updated_at = ? WHERE id = ? RETURNING last_version",
			millis(v.CreatedAt), key); err != nil {
			return fmt.Errorf("number model version: %w", err)
		}
		v.Version = strconv.FormatInt(number, 10)
		if err := tx.exec(`INSERT INTO model_versions (model_id, version, run_id, source, storage, description, stage, logged_model_id,
			run_link, user_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			key, number, v.RunID, v.Source, v.Storage, v.Description, v.Stage, v.ModelID, v.RunLink, v.UserID,
			millis(v.CreatedAt), millis(v.UpdatedAt)); err != nil {
			return fmt.Errorf("create model version: %w", err)
		}
		return setVersionTags(tx, versionKey{key, number}, v.Tags)
	})
	return v, err
}

func setVersionTags(tx *registryTx, key versionKey, tags map[string]string) error {
	for k, v := range tags {
		if err := tx.exec(`INSERT INTO model_version_tags (model_id, version, key, value) VALUES (?, ?, ?, ?)
			ON CONFLICT (model_id, version, key) DO UPDATE SET value = excluded.value`, key.model, key.version, k, v); err != nil {
			return fmt.Errorf("set model version tag: %w", err)
		}
	}
	return nil
}

// ModelVersion implements turbofan.VersionStore.
func (d *RegistryDB) ModelVersion(ctx context.Context, name, version string) (turbofan.ModelVersion, error) {
	var v turbofan.ModelVersion
	err := d.view(ctx, func(q queryer) error {
		var err error
		v, err = loadVersion(ctx, q, name, version)
		return err
	})
	return v, err
}

func loadVersion(ctx context.Context, q queryer, name, version string) (turbofan.ModelVersion, error) {
	number, err := versionNumber(version)
	if err != nil {
		return turbofan.ModelVersion{}, noVersion(name, version)
	}
	var found []foundVersion
	err = each(ctx, q, func(rows *sql.Rows) error {
		f, err := scanVersion(rows.Scan)
		found = append(found, f)
		return err
	}, "SELECT "+versionColumns+" FROM "+versionsFrom+" WHERE m.name = ? AND v.version = ?", name, number)
	if err == nil && len(found) == 0 {
		err = noVersion(name, version)
	}
	if err == nil {
		err = loadVersions(ctx, q, found)
	}
	if err != nil {
		return turbofan.ModelVersion{}, err
	}
	return found[0].version, nil
}

func versionNumber(version string) (int64, error) { return strconv.ParseInt(version, 10, 32) }

func loadVersions(ctx context.Context, q queryer, found []foundVersion) error {
	at := make(map[versionKey]*turbofan.ModelVersion, len(found))
	var models []int64
	seen := map[int64]bool{}
	for i := range found {
		key := found[i].key
		at[key] = &found[i].version
		if !seen[key.model] {
			seen[key.model] = true
			models = append(models, key.model)
		}
	}
	return inChunks(models, func(part []int64) error {
		err := each(ctx, q, func(rows *sql.Rows) error {
			var key versionKey
			var k, v string
			if err := rows.Scan(&key.model, &key.version, &k, &v); err != nil {
				return err
			}
			if version, ok := at[key]; ok {
				putString(&version.Tags, k, v)
			}
			return nil
		}, "SELECT model_id, version, key, value FROM model_version_tags WHERE model_id IN ("+marks(len(part))+")", anys(part)...)
		if err != nil {
			return err
		}
		return each(ctx, q, func(rows *sql.Rows) error {
			var key versionKey
			var alias string
			if err := rows.Scan(&key.model, &key.version, &alias); err != nil {
				return err
			}
			if version, ok := at[key]; ok {
				version.Aliases = append(version.Aliases, alias)
			}
			return nil
		}, "SELECT model_id, version, alias FROM model_aliases WHERE model_id IN ("+marks(len(part))+") ORDER BY alias", anys(part)...)
	})
}

// SearchModelVersions implements turbofan.VersionStore.
func (d *RegistryDB) SearchModelVersions(ctx context.Context, query turbofan.SearchQuery) ([]turbofan.ModelVersion, string, error) {
	s, err := versionsTable().search(d.db.dialect, query.Where, query.OrderBy)
	if err != nil {
		return nil, "", err
	}
	found, next, err := searchPage(ctx, d, s, versionColumns, query, scanVersion, loadVersions)
	versions := make([]turbofan.ModelVersion, len(found))
	for i := range found {
		versions[i] = found[i].version
	}
	return versions, next, err
}

// version returns the number of a version that exists.
func (tx *registryTx) version(model int64, name, version string) (int64, error) {
	number, err := versionNumber(version)
	if err != nil {
		return 0, noVersion(name, version)
	}
	switch err := tx.get([]any{&number}, "SELECT version FROM model_versions WHERE model_id = ? AND version = ?", model, number); {
	case errors.Is(err, sql.ErrNoRows):
		return 0, noVersion(name, version)
	case err != nil:
		return 0, fmt.Errorf("read model version: %w", err)
	}
	return number, nil
}

// UpdateModelVersion implements turbofan.VersionStore.
func (d *RegistryDB) UpdateModelVersion(ctx context.Context, name, version string, u turbofan.VersionUpdate) (turbofan.ModelVersion, error) {
	var updated turbofan.ModelVersion
	err := d.update(ctx, func(tx *registryTx) error {
		model, err := tx.model(name)
		if err != nil {
			return err
		}
		number, err := tx.version(model, name, version)
		if err != nil {
			return err
		}
		key := versionKey{model, number}
		if err := updateVersionRow(tx, key, u); err != nil {
			return fmt.Errorf("update model version: %w", err)
		}
		if err := setVersionTags(tx, key, u.SetTags); err != nil {
			return err
		}
		for _, k := range u.DeleteTags {
			if err := tx.exec("DELETE FROM model_version_tags WHERE model_id = ? AND version = ? AND key = ?", model, number, k); err != nil {
				return fmt.Errorf("delete model version tag: %w", err)
			}
		}
		updated, err = loadVersion(context.Background(), tx, name, version)
		return err
	})
	return updated, err
}

func updateVersionRow(tx *registryTx, key versionKey, u turbofan.VersionUpdate) error {
	now := millis(time.Now())
	if u.Description != nil {
		if err := tx.exec("UPDATE model_versions SET description = ?, updated_at = ? WHERE model_id = ? AND version = ?",
			*u.Description, now, key.model, key.version); err != nil {
			return err
		}
	}
	if u.Stage != nil {
		if u.ArchiveOthers {
			if err := tx.exec("UPDATE model_versions SET stage = 'Archived', updated_at = ? WHERE model_id = ? AND stage = ? AND version <> ?",
				now, key.model, *u.Stage, key.version); err != nil {
				return err
			}
		}
		if err := tx.exec("UPDATE model_versions SET stage = ?, updated_at = ? WHERE model_id = ? AND version = ?",
			*u.Stage, now, key.model, key.version); err != nil {
			return err
		}
	}
	if u.Stage != nil {
		return tx.touchModel(key.model) // a description is the version's own affair
	}
	return nil
}

// DeleteModelVersion implements turbofan.VersionStore.
func (d *RegistryDB) DeleteModelVersion(ctx context.Context, name, version string) error {
	return d.update(ctx, func(tx *registryTx) error {
		model, err := tx.model(name)
		if err != nil {
			return err
		}
		number, err := tx.version(model, name, version)
		if err != nil {
			return err
		}
		for _, statement := range []string{
			"DELETE FROM model_aliases WHERE model_id = ? AND version = ?",
			"DELETE FROM model_version_tags WHERE model_id = ? AND version = ?",
			"DELETE FROM model_versions WHERE model_id = ? AND version = ?",
		} {
			if err := tx.exec(statement, model, number); err != nil {
				return fmt.Errorf("delete model version: %w", err)
			}
		}
		return tx.touchModel(model)
	})
}
