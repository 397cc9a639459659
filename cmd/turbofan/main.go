// Command turbofan is the whole platform: learning, serving, watching, retraining and the tools around them.
// One file holds one subcommand; what is shared by several stands in main.go and platform.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
)

func main() {
	ctx, stop := interruptible(context.Background())
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interruptible returns a context that ends at the first Ctrl-C or SIGTERM. One that comes later ends the process at
// once, for a person who will not wait for a drain; wrappers that pass a signal on at once do not count.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		for began := time.Now(); ; {
			<-signals
			if time.Since(began) > 500*time.Millisecond {
				fmt.Fprintln(os.Stderr, "turbofan: ended at once, by a second signal")
				os.Exit(exitInterrupted)
			}
		}
	}()
	return ctx, cancel
}

// The exit codes of every subcommand.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2   // a flag, an argument or an input file breaks a rule
	exitInterrupted = 130 // Ctrl-C or SIGTERM, everything closed cleanly
)

// run executes one command line and returns its exit code. Results go to stdout; progress, logs and errors to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "turbofan: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "turbofan: %v\n", err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "Try: %s\n", usage.hint)
		return exitUsage
	}
	if turbofan.ErrorCode(err) == turbofan.EInvalid {
		return exitUsage
	}
	return exitFailure
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "turbofan",
		Short: "Predictive maintenance that a plant can host itself",
		Long: strings.TrimSpace(`
turbofan learns from run-to-failure sensor data how long a machine will last, serves that answer,
watches whether it is still right, and retrains and redeploys itself when it is not.

Results go to standard output; progress, logs and errors to standard error. The exit status is 0 when all
went well, 1 when something failed, 2 when a flag, a setting or an input file breaks a rule, and 130 after
Ctrl-C; serve and registry end with 0 after Ctrl-C or SIGTERM when every request under way was answered.`),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err: flagError(cmd, err), hint: cmd.CommandPath() + " --help"}
	})
	root.AddCommand(newDemoCommand(), newServeCommand(), newTrainCommand(), newEvaluateCommand(), newPredictCommand(), newSimulateCommand(), newVersionCommand())
	root.AddCommand(newRegistryCommand())
	root.AddCommand(newDataCommand())
	root.AddCommand(newDriftCommand())
	root.AddCommand(newExportCommand())
	root.AddCommand(newExplainCommand(), newTuneCommand())
	root.AddCommand(newHealthCommand())
	root.AddCommand(newModelsCommand(), newKeysCommand())
	indentExamples(root)
	return root
}

// indentExamples sets the examples of every command apart from the headings around them.
func indentExamples(cmd *cobra.Command) {
	var lines []string
	for line := range strings.Lines(cmd.Example) {
		lines = append(lines, "  "+strings.TrimSpace(line))
	}
	cmd.Example = strings.Join(lines, "\n")
	for _, c := range cmd.Commands() {
		indentExamples(c)
	}
}

// usageError is a mistake in how the command was called; hint is the command that shows how.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef returns a usageError that points at the help of cmd.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), hint: cmd.CommandPath() + " --help"}
}
