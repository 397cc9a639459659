package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/httpapi"
)

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", Short: "Make API keys", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	access := "device"
	add := &cobra.Command{
		Use:   "new NAME",
		Short: "Make an API key, and the line by which a server knows it",
		Long: strings.TrimSpace(`
Make an API key of 256 random bits. The key goes to standard error, once: give it to who will use it. The line
with its digest goes to standard output, for the file that serve reads by --keys-file; that never holds a key.

A viewer reads everything. A device also sends readings and outcomes. An operator may do everything: retrain,
promote, write to the registry.`),
		Example: strings.TrimSpace(`
turbofan keys new gateway-7 --access device >> keys
turbofan keys new ops --access operator >> keys
turbofan serve --host 0.0.0.0 --keys-file keys`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd, "give the key one name, such as %s gateway-7", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := httpapi.ParseAccess(access)
			if err != nil {
				return turbofan.Invalid("--access", "%s", turbofan.ErrorMessage(err))
			}
			secret, line, err := httpapi.NewKey(args[0], a)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", secret); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
	add.Flags().StringVar(&access, "access", "device", "what the key allows: viewer, device or operator")
	cmd.AddCommand(add)
	return cmd
}
