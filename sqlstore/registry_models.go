package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"turbofan"
)

func modelsTable() *searchTable {
	return &searchTable{
		from: "registered_models m",
		id:   "m.id",
		attributes: map[string]searchColumn{
			"name":                   {expr: "m.name"},
			"creation_timestamp":     {expr: "m.created_at", number: true},
			"last_updated_timestamp": {expr: "m.updated_at", number: true},
		},
		owned: map[turbofan.SearchEntity]ownedTable{
			turbofan.EntityTag: {"registered_model_tags", "o.model_id = m.id"},
		},
		order: []orderKey{{expr: "m.name"}},
	}
}

const modelColumns = "m.id, m.name, m.description, m.created_at, m.updated_at"

type foundModel struct {
	key   int64
	model turbofan.RegisteredModel
}

func scanModel(scan func(...any) error) (foundModel, error) {
	var f foundModel
	var created, updated int64
	err := scan(&f.key, &f.model.Name, &f.model.Description, &created, &updated)
	f.model.CreatedAt, f.model.UpdatedAt = time.UnixMilli(created), time.UnixMilli(updated)
	return f, err
}

func noModel(name string) error { return notFound("Registered Model with name=%s not found", name) }

// CreateModel implements turbofan.ModelStore.
func (d *RegistryDB) CreateModel(ctx context.Context, m turbofan.RegisteredModel) (turbofan.RegisteredModel, error) {
	err := d.update(ctx, func(tx *registryTx) error {
		key, err := tx.next("registered_models")
		if err != nil {
			return err
		}
		n, err := tx.changed(`INSERT INTO registered_models (id, name, description, created_at, updated_at, last_version)
			VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (name) DO NOTHING`, key, m.Name, m.Description, millis(m.CreatedAt), millis(m.UpdatedAt))
		if err != nil {
			return fmt.Errorf("create registered model: %w", err)
		}
		if n == 0 {
			return turbofan.Errorf(turbofan.EConflict, "Registered Model (name=%s) already exists.", m.Name)
		}
		return setModelTags(tx, key, m.Tags)
	})
	return m, err
}

func setModelTags(tx *registryTx, key int64, tags map[string]string) error {
	for k, v := range tags {
		if err := tx.exec(`INSERT INTO registered_model_tags (model_id, key, value) VALUES (?, ?, ?)
			ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value`, key, k, v); err != nil {
			return fmt.Errorf("set registered model tag: %w", err)
		}
	}
	return nil
}

// Model implements turbofan.ModelStore.
func (d *RegistryDB) Model(ctx context.Context, name string) (turbofan.RegisteredModel, error) {
	var m turbofan.RegisteredModel
	err := d.view(ctx, func(q queryer) error {
		var err error
		m, err = loadModel(ctx, q, name)
		return err
	})
	return m, err
}

func loadModel(ctx context.Context, q queryer, name string) (turbofan.RegisteredModel, error) {
	var found []foundModel
	err := each(ctx, q, func(rows *sql.Rows) error {
		f, err := scanModel(rows.Scan)
		found = append(found, f)
		return err
	}, "SELECT "+modelColumns+" FROM registered_models m WHERE m.name = ?", name)
	if err == nil && len(found) == 0 {
		err = noModel(name)
	}
	if err == nil {
		err = loadModels(ctx, q, found)
	}
	if err != nil {
		return turbofan.RegisteredModel{}, err
	}
	return found[0].model, nil
}

func loadModels(ctx context.Context, q queryer, found []foundModel) error {
	at := make(map[int64]*turbofan.RegisteredModel, len(found))
	keys := make([]int64, len(found))
	for i := range found {
		at[found[i].key], keys[i] = &found[i].model, found[i].key
	}
	if err := loadKeyValues(ctx, q, "registered_model_tags", "model_id", keys, func(id int64, kv turbofan.KeyValue) {
		putString(&at[id].Tags, kv.Key, kv.Value)
	}); err != nil {
		return err
	}
	return inChunks(keys, func(part []int64) error {
		err := each(ctx, q, func(rows *sql.Rows) error {
			var id, version int64
			var alias string
			if err := rows.Scan(&id, &alias, &version); err != nil {
				return err
			}
			putString(&at[id].Aliases, alias, strconv.FormatInt(version, 10))
			return nil
		}, "SELECT model_id, alias, version FROM model_aliases WHERE model_id IN ("+marks(len(part))+")", anys(part)...)
		if err != nil {
			return err
		}
		return loadLatestVersions(ctx, q, part, at)
	})
}

func putString(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
}

func loadLatestVersions(ctx context.Context, q queryer, part []int64, at map[int64]*turbofan.RegisteredModel) error {
	var found []foundVersion
	err := each(ctx, q, func(rows *sql.Rows) error {
		f, err := scanVersion(rows.Scan)
		found = append(found, f)
		return err
	}, "SELECT "+versionColumns+" FROM "+versionsFrom+` WHERE (v.model_id, v.stage, v.version) IN
		(SELECT model_id, stage, MAX(version) FROM model_versions WHERE model_id IN (`+marks(len(part))+`) GROUP BY model_id, stage)
		ORDER BY v.model_id, v.version`, anys(part)...)
	if err != nil {
		return err
	}
	if err := loadVersions(ctx, q, found); err != nil {
		return err
	}
	for _, f := range found {
		at[f.key.model].Latest = append(at[f.key.model].Latest, f.version)
	}
	return nil
}

// SearchModels implements turbofan.ModelStore.
func (d *RegistryDB) SearchModels(ctx context.Context, query turbofan.SearchQuery) ([]turbofan.RegisteredModel, string, error) {
	s, err := modelsTable().search(d.db.dialect, query.Where, query.OrderBy)
	if err != nil {
		return nil, "", err
	}
	found, next, err := searchPage(ctx, d, s, modelColumns, query, scanModel, loadModels)
	models := make([]turbofan.RegisteredModel, len(found))
	for i := range found {
		models[i] = found[i].model
	}
	return models, next, err
}

func (tx *registryTx) model(name string) (int64, error) {
	var key int64
	switch err := tx.get([]any{&key}, "SELECT id FROM registered_models WHERE name = ?", name); {
	case errors.Is(err, sql.ErrNoRows):
		return 0, noModel(name)
	case err != nil:
		return 0, fmt.Errorf("read registered model: %w", err)
	}
	return key, nil
}

func (tx *registryTx) touchModel(key int64) error {
	if err := tx.exec("UPDATE registered_models SET updated_at = ? WHERE id = ?", millis(time.Now()), key); err != nil {
		return fmt.Errorf("update registered model: %w", err)
	}
	return nil
}

// UpdateModel implements turbofan.ModelStore.
func (d *RegistryDB) UpdateModel(ctx context.Context, name string, u turbofan.ModelUpdate) (turbofan.RegisteredModel, error) {
	var m turbofan.RegisteredModel
	err := d.update(ctx, func(tx *registryTx) error {
		key, err := tx.model(name)
		if err != nil {
			return err
		}
		current := name
		if u.Name != nil {
			current = *u.Name
			if err := renameModel(tx, key, current); err != nil {
				return err
			}
		}
		if u.Description != nil {
			if err := tx.exec("UPDATE registered_models SET description = ? WHERE id = ?", *u.Description, key); err != nil {
				return fmt.Errorf("update registered model: %w", err)
			}
		}
		if u.Name != nil || u.Description != nil {
			if err := tx.touchModel(key); err != nil {
				return err
			}
		}
		if err := setModelTags(tx, key, u.SetTags); err != nil {
			return err
		}
		for _, k := range u.DeleteTags {
			if err := tx.exec("DELETE FROM registered_model_tags WHERE model_id = ? AND key = ?", key, k); err != nil {
				return fmt.Errorf("delete registered model tag: %w", err)
			}
		}
		if err := setAliases(tx, key, current, u); err != nil {
			return err
		}
		m, err = loadModel(context.Background(), tx, current)
		return err
	})
	return m, err
}

func renameModel(tx *registryTx, key int64, name string) error {
	var n int
	if err := tx.get([]any{&n}, "SELECT COUNT(*) FROM registered_models WHERE name = ? AND id <> ?", name, key); err != nil {
		return fmt.Errorf("rename registered model: %w", err)
	}
	if n > 0 {
		return turbofan.Errorf(turbofan.EConflict, "Registered Model (name=%s) already exists.", name)
	}
	if err := tx.exec("UPDATE registered_models SET name = ? WHERE id = ?", name, key); err != nil {
		return fmt.Errorf("rename registered model: %w", err)
	}
	return nil
}

func setAliases(tx *registryTx, key int64, name string, u turbofan.ModelUpdate) error {
	for _, alias := range slices.Sorted(maps.Keys(u.SetAliases)) {
		version, err := tx.version(key, name, u.SetAliases[alias])
		if err != nil {
			return err
		}
		if err := tx.exec(`INSERT INTO model_aliases (model_id, alias, version) VALUES (?, ?, ?)
			ON CONFLICT (model_id, alias) DO UPDATE SET version = excluded.version`, key, alias, version); err != nil {
			return fmt.Errorf("set alias: %w", err)
		}
	}
	for _, alias := range u.DeleteAliases {
		if err := tx.exec("DELETE FROM model_aliases WHERE model_id = ? AND alias = ?", key, alias); err != nil {
			return fmt.Errorf("delete alias: %w", err)
		}
	}
	return nil
}

// DeleteModel implements turbofan.ModelStore.
func (d *RegistryDB) DeleteModel(ctx context.Context, name string) error {
	return d.update(ctx, func(tx *registryTx) error {
		key, err := tx.model(name)
		if err != nil {
			return err
		}
		for _, statement := range []string{
			"DELETE FROM model_aliases WHERE model_id = ?",
			"DELETE FROM model_version_tags WHERE model_id = ?",
			"DELETE FROM model_versions WHERE model_id = ?",
			"DELETE FROM registered_model_tags WHERE model_id = ?",
			"DELETE FROM registered_models WHERE id = ?",
		} {
			if err := tx.exec(statement, key); err != nil {
				return fmt.Errorf("delete registered model: %w", err)
			}
		}
		return nil
	})
}
