package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newServeCommand() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the platform: all roles in one process, or one role of it",
		Long: strings.TrimSpace(`
Run the platform on the ports predict 3000, feedback 3001, retrain 3003, drift 3004, registry 5001 and
console 8080. Where the registry has no model yet and training data is found, a first one is trained;
/predict answers 503 until then, and /readyz how far it is. SIGTERM or Ctrl-C drains:
requests under way are answered, then everything is on disk.`),
		Example: strings.TrimSpace(`
turbofan serve
turbofan serve --data-dir /var/lib/turbofan --config turbofan.yaml
turbofan serve --role predict --port predict=8000
turbofan serve --tracking-uri http://mlflow.example:5000`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			lines := newLogQueue(cmd.ErrOrStderr())
			defer lines.close()
			log, err := newLogger(cfg.Log, lines)
			if err != nil {
				return err
			}
			p, err := newPlatform(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			defer tuneRuntime()() // after the platform has counted the processors
			fmt.Fprintf(cmd.OutOrStdout(), "turbofan serves from %s\n%s", p.place(), p.describe())
			return p.serve(cmd.Context())
		},
	}
	f.addData(cmd)
	f.addStore(cmd)
	f.addServe(cmd)
	cmd.Flags().StringVar(&f.kind, "model", "boosting", "learner for retraining: forest, extra_trees, boosting or blend")
	return cmd
}
