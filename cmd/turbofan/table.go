package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// sortByUrgency puts first what to open first: the likeliest failure, then the least life left.
func sortByUrgency(rows []fleetRow) {
	slices.SortStableFunc(rows, func(a, b fleetRow) int {
		return cmp.Or(-cmp.Compare(a.FailureProbability, b.FailureProbability), cmp.Compare(a.RUL, b.RUL))
	})
}

func printTable[T any](w io.Writer, head []string, rows []T, cells func(T) []string) error {
	tw := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(head, "\t"))
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(cells(r), "\t"))
	}
	return tw.Flush()
}
