package model_test

import (
	"strconv"
	"testing"

	"turbofan/dataset"
	"turbofan/model"
)

// synthetic makes the training engines of a fleet like FD001's with at least so many readings.
func synthetic(tb testing.TB, rows int) model.Data {
	tb.Helper()
	cfg, ok := dataset.SynthSubset("FD001", 1)
	if !ok {
		tb.Fatal("there is no synthetic FD001")
	}
	const most = 1000 // units at a time: a fleet is written out for its digest
	cfg.TrainUnits, cfg.TestUnits = min(max(20, rows/150), most), 1
	var d model.Data
	for n := 0; n < rows; cfg.Seed++ {
		train, _ := dataset.Synthesize(cfg)
		d.Schema = train.Schema
		for _, u := range train.Units {
			if n >= rows {
				break
			}
			u.UnitID = strconv.Itoa(len(d.Units) + 1)
			for i := range u.Readings {
				u.Readings[i].UnitID = u.UnitID
			}
			d.Units = append(d.Units, u)
			n += len(u.Readings)
		}
	}
	return d
}

func benchmarkRow(b *testing.B, each func(m *model.Model, row []float32) error) {
	data := synthetic(b, 6000)
	for _, kind := range model.Kinds() {
		b.Run(kind, func(b *testing.B) {
			cfg := model.DefaultConfig(kind)
			cfg.Folds = 2
			m, err := model.Train(b.Context(), cfg, data, nil)
			if err != nil {
				b.Fatal(err)
			}
			rows, err := m.Spec().Transform(b.Context(), data.Units[:4])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := each(m, rows.Row(i%rows.Len())); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkAnswer(b *testing.B) {
	benchmarkRow(b, func(m *model.Model, row []float32) error {
		_, err := m.Predict(row, false)
		return err
	})
}

func BenchmarkReasons(b *testing.B) {
	benchmarkRow(b, func(m *model.Model, row []float32) error {
		_, err := m.Explain(row, 3)
		return err
	})
}
