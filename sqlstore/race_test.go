//go:build race

package sqlstore_test

const kills = 4
