package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
)

// maxHealthAnswer is how much of an unhealthy answer is shown.
const maxHealthAnswer = 512

func newHealthCommand() *cobra.Command {
	var timeout time.Duration
	var live bool
	var f configFlags
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "Ask whether a role is well, for a container that holds nothing but this binary",
		Long: strings.TrimSpace(`
Ask for URL once, or, without one, ask the /readyz of each role that the configuration gives this machine, on
its port. The exit status is 0 where every answer is a success within the time allowed, and 1 otherwise: that
is what a container's health check wants, and the image has neither a shell nor curl.`),
		Example: strings.TrimSpace(`
turbofan health
turbofan health --role predict --live
turbofan health http://127.0.0.1:3000/readyz
turbofan health http://127.0.0.1:5001/livez --timeout 1s`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "give one URL such as http://127.0.0.1:3000/readyz, or none")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return usagef(cmd, "--timeout must be above 0, not %s", timeout)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if len(args) == 1 {
				if err := checkURL("URL", args[0]); err != nil {
					return err
				}
				return health(ctx, http.DefaultClient, args[0])
			}
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			return healthOfRoles(ctx, cmd.OutOrStdout(), &cfg, live)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for all answers")
	cmd.Flags().BoolVar(&live, "live", false, "without a URL: ask /livez, which says whether the process answers at all")
	cmd.Flags().StringVar(&f.file, "config", "", "without a URL: the YAML file that the roles were started with (default $TURBOFAN_CONFIG)")
	cmd.Flags().StringSliceVar(&f.roles, "role", nil, "without a URL: role to ask, repeatable (default those of the configuration)")
	cmd.Flags().StringSliceVar(&f.ports, "port", nil, "without a URL: port of a role, repeatable: predict=3000")
	return cmd
}

// healthOfRoles asks every role of cfg where this machine runs it, and names those that are not well.
func healthOfRoles(ctx context.Context, out io.Writer, cfg *config, live bool) error {
	path := "/readyz"
	if live {
		path = "/livez"
	}
	own := *cfg
	own.URLs = nil // of other processes
	// A certificate is for the name by which others know this machine. Nothing secret is sent.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as said
	defer client.CloseIdleConnections()
	var errs []error
	for _, role := range cfg.Roles {
		if cfg.Ports[role] == 0 {
			errs = append(errs, turbofan.Invalid("ports."+role, "is 0, any free port: give the one it got, --port %s=NUMBER", role))
			continue
		}
		url := own.url(role) + path
		if err := health(ctx, client, url); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", role, err))
			continue
		}
		fmt.Fprintf(out, "%-9s %s\n", role, url)
	}
	return errors.Join(errs...)
}

// health is nil where url answers with a success.
func health(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxHealthAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return fmt.Errorf("%s answers %s: %s", url, res.Status, strings.TrimSpace(string(text)))
}
