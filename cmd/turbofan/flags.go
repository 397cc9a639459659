package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError puts the flag library's findings into words that name the flag and its rule.
func flagError(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		rule := map[string]string{"int": "a whole number", "int64": "a whole number", "float64": "a number",
			"duration": "a duration such as 10m or 500ms", "bool": "true or false"}[bad.GetFlag().Value.Type()]
		if rule != "" {
			return fmt.Errorf("--%s must be %s, not %q", bad.GetFlag().Name, rule, bad.GetValue())
		}
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest(unknown.GetSpecifiedName(), names); near != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	}
	if none, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s wants a value", none.GetFlag().Name)
	}
	return err
}

// noArgs is cobra.NoArgs with the exit code of a usage error. Under a command that has others below it, the word is
// taken for one of those.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := nearest(args[0], names); near != "" {
		return usagef(cmd, "%s does not know %q; did you mean %s?", cmd.CommandPath(), args[0], near)
	}
	if len(names) > 0 {
		return usagef(cmd, "%s does not know %q; it knows %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
	}
	return usagef(cmd, "%s takes no argument %q", cmd.CommandPath(), args[0])
}
