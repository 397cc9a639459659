package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/mlflow"
	"turbofan/release"
)

// modelsOptions are the flags that the commands below models share.
type modelsOptions struct {
	config  configFlags
	url     string
	asJSON  bool
	timeout time.Duration
}

func newModelsCommand() *cobra.Command {
	var o modelsOptions
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Say which model version answers: list, show, promote, roll back, try",
		Long: strings.TrimSpace(`
Say which versions of the model answer in production. With --url a running platform is asked, which takes a change at
once; otherwise the registry of --data-dir or --tracking-uri, and platforms over it take a change within their
refresh_every (5s). Whatever is given a part must first answer the golden histories that it was saved with.`),
		Example: strings.TrimSpace(`
turbofan models list
turbofan models promote 3 --reason "better on the new fleet" --url http://127.0.0.1:3000
turbofan models rollback
turbofan models canary 4 --share 0.1
turbofan models challenger 4`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	fl := cmd.PersistentFlags()
	fl.StringVar(&o.url, "url", "", "prediction role of a running platform, such as http://127.0.0.1:3000")
	fl.StringVar(&o.config.file, "config", "", "YAML file with settings (default $TURBOFAN_CONFIG)")
	fl.StringVar(&o.config.dataDir, "data-dir", "turbofan-data", "directory with the registry")
	fl.StringVar(&o.config.tracking, "tracking-uri", "", "MLflow server to use as registry instead")
	fl.BoolVar(&o.asJSON, "json", false, "print the answer as JSON")
	fl.DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait")
	cmd.AddCommand(newModelsListCommand(&o), newModelsShowCommand(&o), newModelsPromoteCommand(&o), newModelsRollbackCommand(&o),
		newModelsCanaryCommand(&o), newModelsChallengerCommand(&o))
	return cmd
}

// run asks the release service that the flags name.
func (o *modelsOptions) run(cmd *cobra.Command, f func(ctx context.Context, s turbofan.ReleaseService) error) (err error) {
	if o.timeout <= 0 {
		return usagef(cmd, "--timeout must be above 0, not %s", o.timeout)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if o.url != "" {
		for _, other := range []string{"data-dir", "tracking-uri"} {
			if cmd.Flags().Changed(other) {
				return usagef(cmd, "--url and --%s name two places; give one", other)
			}
		}
		if err := checkURL("--url", o.url); err != nil {
			return err
		}
		client := httpapi.NewReleaseClient(o.url, apiClient())
		defer client.Close()
		return f(ctx, client)
	}
	cfg, err := o.config.resolve(cmd)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	reg, done, err := openModels(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	s, err := release.New(release.Config{ModelName: cfg.Model.Name}, reg, nil, log)
	if err != nil {
		return err
	}
	return f(ctx, s)
}

// openModels opens the registry of a configuration. Unlike serve it makes no new one: a mistyped directory is an error.
func openModels(ctx context.Context, cfg config, log *slog.Logger) (turbofan.Registry, func() error, error) {
	if cfg.TrackingURI != "" {
		client, err := mlflow.NewClient(cfg.TrackingURI, registryClient(true))
		return client, func() error { return nil }, err
	}
	if _, err := os.Stat(cfg.path("registry.db")); err != nil {
		return nil, nil, turbofan.Invalid("data-dir", "%s holds no registry: %s; name the platform's --data-dir, its --url or a --tracking-uri", cfg.DataDir, pathReason(err))
	}
	db, own, err := openRegistryFiles(ctx, cfg, log, nil)
	if err != nil {
		return nil, nil, err
	}
	return own, func() error { return errors.Join(own.Close(), db.Close()) }, nil
}

// place says where a change was made, for the person who made it.
func (o *modelsOptions) place() string {
	if o.url != "" {
		return o.url
	}
	return "the registry"
}

func newModelsListCommand(o *modelsOptions) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the versions, and which of them have a part in production", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, s turbofan.ReleaseService) error {
				list, err := s.Models(ctx)
				if err != nil {
					return err
				}
				return o.printList(cmd.OutOrStdout(), list)
			})
		},
	}
}

func (o *modelsOptions) printList(w io.Writer, list turbofan.ModelList) error {
	if o.asJSON {
		return printJSON(w, list)
	}
	if len(list.Versions) == 0 {
		_, err := fmt.Fprintf(w, "%s has no version of %s yet\n", o.place(), list.ModelName)
		return err
	}
	head := []string{"VERSION", "PART", "CREATED", "CHAMPION SINCE", "IN PLACE OF", "WHY"}
	err := printTable(w, head, list.Versions, func(v turbofan.ModelSummary) []string {
		why := v.Because
		if v.RolledBack != "" {
			why = v.RolledBack
		}
		return []string{v.Version, dash(part(v)), stamp(v.CreatedAt), dash(stamp(v.ChampionSince)), dash(v.Replaced), dash(shorten(why, 60))}
	})
	if err == nil && list.Serving != "" {
		_, err = fmt.Fprintf(w, "%s serves version %s\n", o.url, list.Serving)
	}
	return err
}

// part names what a version does in production.
func part(v turbofan.ModelSummary) string {
	parts := append([]string(nil), v.Aliases...)
	for i, a := range parts {
		if a == turbofan.CanaryAlias {
			parts[i] = fmt.Sprintf("canary %.3g%%", 100*v.CanaryShare)
		}
	}
	return strings.Join(parts, ", ")
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// shorten cuts a text for a table; models show has the whole.
func shorten(text string, longest int) string {
	text = strings.ReplaceAll(text, "\n", " ")
	if r := []rune(text); len(r) > longest {
		return string(r[:longest-1]) + "…"
	}
	return text
}

func newModelsShowCommand(o *modelsOptions) *cobra.Command {
	return &cobra.Command{
		Use: "show VERSION", Short: "Open one version, a number or an @alias, and tell whether it could serve", Args: oneVersion,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, func(ctx context.Context, s turbofan.ReleaseService) error {
				d, err := s.Model(ctx, args[0])
				if err != nil {
					return err
				}
				if o.asJSON {
					return printJSON(cmd.OutOrStdout(), d)
				}
				return printDetail(cmd.OutOrStdout(), d)
			})
		},
	}
}

func printDetail(w io.Writer, d turbofan.ModelDetail) error {
	sound := "yes: it answered its golden histories"
	if d.Problem != "" {
		sound = "no: " + d.Problem
	}
	rows := [][2]string{{"version", d.Version}, {"part", dash(part(d.ModelSummary))}, {"created", stamp(d.CreatedAt)}, {"can serve", sound}}
	if d.Problem == "" {
		rows = append(rows, [][2]string{{"learner", d.Kind}, {"schema", d.Schema}, {"features", fmt.Sprint(d.Columns)},
			{"trained on", turbofan.Count(d.Units, "unit")}, {"error", fmt.Sprintf("%.2f cycles RMSE, cross-validated", d.RMSE)}}...)
	}
	for _, r := range [][2]string{{"digest", d.Digest}, {"run", d.RunID}, {"champion since", stamp(d.ChampionSince)}, {"in place of", d.Replaced}, {"because", d.Because}, {"taken back", d.RolledBack}} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%-15s %s\n", r[0], r[1]); err != nil {
			return err
		}
	}
	return nil
}

// oneVersion wants the version as the only argument.
func oneVersion(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef(cmd, "give one version, such as %s 3", cmd.CommandPath())
	}
	return nil
}

func newModelsPromoteCommand(o *modelsOptions) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "promote VERSION", Short: "Make a version champion, once it has answered its golden histories", Args: oneVersion,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, func(ctx context.Context, s turbofan.ReleaseService) error {
				c, err := s.Promote(ctx, turbofan.PromoteRequest{Version: args[0], Reason: reason})
				if err != nil {
					return err
				}
				return o.printChange(cmd.OutOrStdout(), c)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the version's history")
	return cmd
}

func newModelsRollbackCommand(o *modelsOptions) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "rollback", Short: "Make the champion before the present one champion again", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, s turbofan.ReleaseService) error {
				c, err := s.Rollback(ctx, reason)
				if err != nil {
					return err
				}
				return o.printChange(cmd.OutOrStdout(), c)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history of the version that is taken back")
	return cmd
}

func (o *modelsOptions) printChange(w io.Writer, c turbofan.ModelChange) error {
	if o.asJSON {
		return printJSON(w, c)
	}
	instead := ""
	if c.From != "" {
		instead = " in place of version " + c.From
	}
	took := "platforms over this registry take it within their refresh_every (5s unless set)"
	switch {
	case c.Serving == c.To:
		took = o.url + " serves it now; other processes take it within their refresh_every (5s unless set)"
	case o.url != "":
		took = fmt.Sprintf("%s still serves %s and goes on trying; GET %s/model tells why", o.url, dash(c.Serving), o.url)
	}
	_, err := fmt.Fprintf(w, "version %s of %s is champion%s\n%s\n", c.To, c.ModelName, instead, took)
	return err
}

func newModelsCanaryCommand(o *modelsOptions) *cobra.Command {
	var share float64
	var abort bool
	cmd := &cobra.Command{
		Use: "canary VERSION | canary --abort", Short: "Let a version answer a share of the units, or end that",
		Long: strings.TrimSpace(`
Let a version answer a share of the units in the champion's place. A unit belongs to the canary by the hash of
its id: it always gets the same version, and a larger share keeps the units of a smaller one. Each answer names
its version.`),
		Args: trialArgs(&abort),
		RunE: func(cmd *cobra.Command, args []string) error {
			t := turbofan.Trial{Alias: turbofan.CanaryAlias, Share: share}
			if !abort {
				t.Version = args[0]
			}
			return o.try(cmd, t)
		},
	}
	cmd.Flags().Float64Var(&share, "share", 0.1, "share of the units, above 0 and at most 1")
	cmd.Flags().BoolVar(&abort, "abort", false, "end the canary: the champion answers all units")
	return cmd
}

func newModelsChallengerCommand(o *modelsOptions) *cobra.Command {
	var abort bool
	cmd := &cobra.Command{
		Use: "challenger VERSION | challenger --abort", Short: "Let a version answer every unit silently, or end that",
		Long: strings.TrimSpace(`
Let a version answer every unit silently beside the champion. Its answers are logged with its version and never
sent; once feedback comes, GET /performance of the feedback role tells its error beside the champion's.`),
		Args: trialArgs(&abort),
		RunE: func(cmd *cobra.Command, args []string) error {
			t := turbofan.Trial{Alias: turbofan.ChallengerAlias}
			if !abort {
				t.Version = args[0]
			}
			return o.try(cmd, t)
		},
	}
	cmd.Flags().BoolVar(&abort, "abort", false, "end the silent answers")
	return cmd
}

// trialArgs wants a version, or none where the trial ends.
func trialArgs(abort *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if *abort {
			return noArgs(cmd, args)
		}
		return oneVersion(cmd, args)
	}
}

func (o *modelsOptions) try(cmd *cobra.Command, t turbofan.Trial) error {
	return o.run(cmd, func(ctx context.Context, s turbofan.ReleaseService) error {
		list, err := s.Try(ctx, t)
		if err != nil {
			return err
		}
		return o.printList(cmd.OutOrStdout(), list)
	})
}
