package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxHealthAnswer is how much of an unhealthy answer is shown.
const maxHealthAnswer = 512

func newHealthCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health URL",
		Short: "Ask whether a role is well, for a container that holds nothing but this binary",
		Long: strings.TrimSpace(`
Ask for URL once. The exit status is 0 where the answer is a success within the time allowed, and 1 otherwise:
that is what a container's health check wants, and the image has neither a shell nor curl.`),
		Example: strings.TrimSpace(`
turbofan health http://127.0.0.1:3000/readyz
turbofan health http://127.0.0.1:5001/livez --timeout 1s`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd, "give one URL such as http://127.0.0.1:3000/readyz")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkURL("URL", args[0]); err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef(cmd, "--timeout must be above 0, not %s", timeout)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return health(ctx, args[0])
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

// health is nil where url answers with a success.
func health(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	res, err := http.DefaultClient.Do(req)
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
