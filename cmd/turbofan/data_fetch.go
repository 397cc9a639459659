package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"turbofan/dataset"
)

func newDataFetchCommand() *cobra.Command {
	var dir string
	var mirrors []string
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Download NASA's C-MAPSS data and check every file",
		Long: strings.TrimSpace(`
Downloads the public archive (12 MB) from the first mirror that answers, checks the SHA-256 of every
file in it and only then puts the directory in place. A download that breaks off goes on where it
stopped, now or in the next call. When the data is there already, nothing is downloaded.

The data set is A. Saxena and K. Goebel (2008), "Turbofan Engine Degradation Simulation Data Set",
NASA Prognostics Data Repository, NASA Ames Research Center.`),
		Example: "  turbofan data fetch\n  turbofan data fetch --dir /srv/cmapss\n  turbofan data fetch --mirror https://mirror.example/CMAPSSData.zip",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, m := range mirrors {
				if u, err := url.Parse(m); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
					return usagef(cmd, "--mirror %q must be an address that begins with http:// or https://", m)
				}
			}
			if err := fetchData(cmd.Context(), cmd.ErrOrStderr(), dir, mirrors); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "C-MAPSS is in %s; every file has the SHA-256 that NASA's has.\n", dir)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", filepath.Join("data", "raw"), "directory for the files; it must be absent or empty")
	cmd.Flags().StringArrayVar(&mirrors, "mirror", nil, "address of the archive, instead of the public ones; may be given several times")
	return cmd
}

// fetchData downloads the archive into dir and shows progress on stderr.
func fetchData(ctx context.Context, stderr io.Writer, dir string, mirrors []string) error {
	show, finish := downloadProgress(stderr)
	err := dataset.Fetch(ctx, dir, mirrors, show)
	finish()
	return err
}

// downloadProgress returns what shows the steps of a download, as a bar on a terminal and as one line a quarter
// elsewhere, and what clears it away.
func downloadProgress(w io.Writer) (show func(dataset.Progress), finish func()) {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return plainProgress(w), func() {}
	}
	var bar *progressbar.ProgressBar
	stop := func() {
		if bar != nil {
			// A bar that cannot be drawn is no reason to stop a download.
			_ = bar.Clear()
			bar = nil
		}
	}
	source, failed := "", notes{}
	return func(p dataset.Progress) {
		switch {
		case p.Note != "":
			failed.keep(p)
		case p.Stage == "download":
			if bar == nil || source != p.Source {
				stop()
				failed.tell(w)
				source = p.Source
				bar = newDownloadBar(w, p)
			}
			if p.Total > 0 {
				bar.ChangeMax64(p.Total)
			}
			_ = bar.Set64(p.Done)
		case p.Stage == "unpack":
			stop()
			fmt.Fprintln(w, "Checking every file")
		}
	}, stop
}

func newDownloadBar(w io.Writer, p dataset.Progress) *progressbar.ProgressBar {
	total := p.Total
	if total == 0 {
		total = -1
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("C-MAPSS from "+hostName(p.Source)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(),
	)
}

func plainProgress(w io.Writer) func(dataset.Progress) {
	source, quarter, failed := "", int64(0), notes{}
	return func(p dataset.Progress) {
		switch {
		case p.Note != "":
			failed.keep(p)
		case p.Stage == "download":
			if source != p.Source {
				failed.tell(w)
				source, quarter = p.Source, 0
				fmt.Fprintf(w, "Downloading C-MAPSS from %s\n", hostName(p.Source))
			}
			if p.Total > 0 && p.Done*4/p.Total > quarter {
				quarter = p.Done * 4 / p.Total
				fmt.Fprintf(w, "  %d%% of %.1f MB\n", quarter*25, float64(p.Total)/1e6)
			}
		case p.Stage == "unpack":
			fmt.Fprintln(w, "Checking every file")
		}
	}
}

// notes holds why mirrors failed until another one delivers; when none does, the error says it all.
type notes []string

func (n *notes) keep(p dataset.Progress) { *n = append(*n, hostName(p.Source)+": "+p.Note) }

func (n *notes) tell(w io.Writer) {
	for _, line := range *n {
		fmt.Fprintln(w, line)
	}
	*n = nil
}

func hostName(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}
