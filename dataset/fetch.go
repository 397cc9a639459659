package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

// Homepage is where a person finds the data set when no mirror answers.
const Homepage = "https://www.nasa.gov/intelligent-systems-division/discovery-and-systems-health/pcoe/pcoe-data-set-repository/"

// Mirrors returns the addresses of the public archive, in the order in which they are tried: the bucket of NASA's
// Prognostics Center of Excellence (an archive that holds the archive), NASA's open data portal, and a copy that
// teachers of machine prognostics keep. Addresses of this kind move every few years, which is why there are several;
// which of them answers does not matter, for every file is checked against its SHA-256.
func Mirrors() []string {
	return []string{
		"https://phm-datasets.s3.amazonaws.com/NASA/6.+Turbofan+Engine+Degradation+Simulation+Data+Set.zip",
		"https://data.nasa.gov/docs/legacy/CMAPSSData.zip",
		"https://raw.githubusercontent.com/pimlphm/machinery-phm-tutorial/main/data_bases/prognostics/6.+Turbofan+Engine+Degradation+Simulation+Data+Set.zip",
	}
}

// Progress is one step of a download.
type Progress struct {
	Stage string // "download", "unpack" or "done"
	// Source is the mirror in use. Done of Total bytes are here; Total is 0 while it is not known.
	Source      string
	Done, Total int64
	// Note tells what went wrong with a mirror before the next one is tried.
	Note string
}

// Fetcher downloads the archive. The zero value fetches NASA's files with bounds that suit a slow line.
type Fetcher struct {
	Mirrors  []string       // tried in order; nil means Mirrors()
	Progress func(Progress) // may be nil
	// Want holds the SHA-256, in hexadecimal, of every file that the archive must contain; nil means NASA's files.
	Want map[string]string
	// Stall is how long a connection may be silent; 0 means 30 seconds.
	Stall time.Duration
	// MaxUnpacked bounds the bytes that the archive may unpack to; 0 means 256 MiB.
	MaxUnpacked int64
	// Client makes the requests; nil means one that gives up within 10 seconds on a host that does not answer.
	Client *http.Client
}

// Bounds of what a mirror may send. NASA's archive has 12 MB and unpacks to 45 MB.
const (
	maxArchive   = 64 << 20
	maxResumes   = 5
	defaultStall = 30 * time.Second
)

// Fetch downloads the public C-MAPSS archive into dir from the first mirror that delivers it whole; nil mirrors means
// Mirrors(). See Fetcher.Fetch.
func Fetch(ctx context.Context, dir string, mirrors []string, progress func(Progress)) error {
	f := Fetcher{Mirrors: mirrors, Progress: progress}
	return f.Fetch(ctx, dir)
}

// Fetch downloads and unpacks the archive and then, once the SHA-256 of every file is right, renames the directory of
// files to dir as a whole: dir is never half-written. A broken connection is resumed, in this call or in a later one,
// from what is kept in a hidden directory beside dir. A dir that already holds the files is left as it is; one that
// holds anything else is an EConflict. Without a network it fails within seconds, with EUnavailable.
func (f *Fetcher) Fetch(ctx context.Context, dir string) error {
	want := f.Want
	if want == nil {
		want = map[string]string{}
		for _, k := range knownFiles() {
			if k.name != "readme.txt" {
				want[k.name] = k.sha256
			}
		}
	}
	there, err := checkTarget(dir, want)
	if err != nil {
		return err
	}
	if there {
		f.report(Progress{Stage: "done"})
		return nil
	}
	dir = filepath.Clean(dir)
	work := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".download")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return unavailable(err, "create %s", work)
	}
	if err := f.fetchFrom(ctx, work, want); err != nil {
		// Removes the directory only when nothing is in it to resume from.
		_ = os.Remove(work)
		return err
	}
	// Rename replaces an empty directory on Unix but not on every system.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable(err, "replace empty directory %s", dir)
	}
	if err := os.Rename(filepath.Join(work, "files"), dir); err != nil {
		return unavailable(err, "move the files to %s", dir)
	}
	f.report(Progress{Stage: "done"})
	if err := os.RemoveAll(work); err != nil {
		return unavailable(err, "remove %s", work)
	}
	return nil
}

func (f *Fetcher) report(p Progress) {
	if f.Progress != nil {
		f.Progress(p)
	}
}

// checkTarget reports whether dir already holds what is wanted; an error says that it holds something else.
func checkTarget(dir string, want map[string]string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err, "read directory %s", dir)
	}
	if len(entries) == 0 {
		return false, nil
	}
	for name, sum := range want {
		got, _, err := hashFile(filepath.Join(dir, name))
		if err != nil || got != sum {
			return false, turbofan.Errorf(turbofan.EConflict, "%s is not empty and does not hold the data set (%s is missing or different); move it away or name another directory", dir, name)
		}
	}
	return true, nil
}

// fetchFrom tries one mirror after the other until the files stand, checked, in work/files.
func (f *Fetcher) fetchFrom(ctx context.Context, work string, want map[string]string) error {
	mirrors := f.Mirrors
	if mirrors == nil {
		mirrors = Mirrors()
	}
	var failures []string
	for _, mirror := range startedFirst(work, mirrors) {
		err := f.download(ctx, mirror, work)
		if err == nil {
			f.report(Progress{Stage: "unpack", Source: mirror})
			if err = f.unpack(ctx, archivePath(work), filepath.Join(work, "files"), want); err == nil {
				return nil
			}
			// The bytes came through but are not the data set: nothing is worth keeping.
			if ctx.Err() == nil {
				discard(work)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("download C-MAPSS: %w", context.Cause(ctx))
		}
		failures = append(failures, hostOf(mirror)+": "+err.Error())
		f.report(Progress{Stage: "download", Source: mirror, Note: err.Error()})
	}
	return turbofan.Errorf(turbofan.EUnavailable, "could not download C-MAPSS from any of %d mirrors:\n  %s\nDownload it by hand from %s\nand unpack the text files into a directory to name with --data, or make engines up with `turbofan data synth`",
		len(mirrors), strings.Join(failures, "\n  "), Homepage)
}

// partial says where the bytes of an unfinished archive came from.
type partial struct {
	URL string `json:"url"`
	// Validator is the ETag or date by which the server knows whether the file is still the same.
	Validator string `json:"validator"`
}

func archivePath(work string) string { return filepath.Join(work, "archive.zip.part") }
func partialPath(work string) string { return filepath.Join(work, "archive.json") }

func readPartial(work string) partial {
	var p partial
	data, err := os.ReadFile(partialPath(work))
	if err != nil || json.Unmarshal(data, &p) != nil {
		return partial{}
	}
	return p
}

// startedFirst moves the mirror of an unfinished archive to the front.
func startedFirst(work string, mirrors []string) []string {
	p := readPartial(work)
	out := make([]string, 0, len(mirrors))
	for _, m := range mirrors {
		if m == p.URL {
			out = append([]string{m}, out...)
		} else {
			out = append(out, m)
		}
	}
	return out
}

// discard forgets an unfinished archive. What cannot be removed is truncated by the next download.
func discard(work string) {
	_ = os.Remove(archivePath(work))
	_ = os.Remove(partialPath(work))
	_ = os.RemoveAll(filepath.Join(work, "files"))
}

// download brings the whole archive from one mirror, resuming as long as each attempt brings bytes.
func (f *Fetcher) download(ctx context.Context, mirror, work string) error {
	if readPartial(work).URL != mirror {
		discard(work)
	}
	for attempt := 1; ; attempt++ {
		before := fileSize(archivePath(work))
		result, err := f.attempt(ctx, mirror, work)
		if result == complete {
			return nil
		}
		again := result == stale || fileSize(archivePath(work)) > before
		if ctx.Err() != nil || attempt > maxResumes || !again {
			return err
		}
	}
}

// attemptResult is what one request came to.
type attemptResult int

const (
	broken   attemptResult = iota
	complete               // the archive is here
	stale                  // what was begun is of no use any more and is gone; the next request starts anew
)

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// attempt makes one request and appends what it brings.
func (f *Fetcher) attempt(ctx context.Context, mirror, work string) (attemptResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := f.Stall
	if stall == 0 {
		stall = defaultStall
	}
	silent := fmt.Errorf("sent nothing for %s", stall)
	watchdog := time.AfterFunc(stall, func() { cancel(silent) })
	defer watchdog.Stop()

	had := fileSize(archivePath(work))
	response, err := f.request(ctx, mirror, had, readPartial(work).Validator)
	if err != nil {
		return broken, plainly(ctx, err)
	}
	defer response.Body.Close()
	if result, err := resumable(response, work, had); result != broken || err != nil {
		return result, err
	}
	out, size, total, err := openPart(response, mirror, work, had)
	if err != nil {
		return broken, err
	}
	body := &meter{r: response.Body, touch: func(n int) {
		watchdog.Reset(stall)
		size += int64(n)
		f.report(Progress{Stage: "download", Source: mirror, Done: size, Total: total})
	}}
	_, err = io.Copy(out, io.LimitReader(body, maxArchive+1-size))
	if closing := out.Close(); err == nil {
		err = closing
	}
	switch {
	case size > maxArchive:
		discard(work)
		return broken, fmt.Errorf("sent more than the %d MiB that the archive may have", maxArchive>>20)
	case err != nil:
		return broken, plainly(ctx, err)
	case total > 0 && size < total:
		return broken, fmt.Errorf("sent %d of %d bytes", size, total)
	}
	return complete, nil
}

// resumable looks at the answer to a request to go on from byte had: complete when there is nothing left to send, stale when
// the server cannot go on from there, and an error for an answer of no use at all.
func resumable(response *http.Response, work string, had int64) (attemptResult, error) {
	switch response.StatusCode {
	case http.StatusOK:
		return broken, nil
	case http.StatusPartialContent:
		if from, _, ok := contentRange(response.Header.Get("Content-Range")); ok && from == had {
			return broken, nil
		}
		discard(work)
		return stale, fmt.Errorf("resumed at another byte than asked")
	case http.StatusRequestedRangeNotSatisfiable:
		if response.Header.Get("Content-Range") == "bytes */"+strconv.FormatInt(had, 10) {
			return complete, nil
		}
		discard(work)
		return stale, fmt.Errorf("has another archive than the one begun")
	default:
		return broken, fmt.Errorf("answered %s", response.Status)
	}
}

// plainly names the reason why the context ended rather than that it did.
func plainly(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	// The error of the client repeats method and address, which the caller names already.
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func (f *Fetcher) request(ctx context.Context, mirror string, had int64, validator string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, mirror, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "turbofan")
	if had > 0 && validator != "" {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(had, 10)+"-")
		request.Header.Set("If-Range", validator)
	}
	client := f.Client
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 8 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 20 * time.Second,
			ForceAttemptHTTP2:     true,
			// Ranges count bytes of the archive, not of a compressed transfer.
			DisableCompression: true,
			// One request a mirror: a kept connection would outlive the download.
			DisableKeepAlives: true,
		}}
	}
	return client.Do(request)
}

// openPart opens the archive for the answer: to append where the server resumes, else from the start.
// It returns the size so far and the size of the whole, 0 where the server does not say.
func openPart(response *http.Response, mirror, work string, had int64) (out *os.File, size, total int64, err error) {
	flags := os.O_CREATE | os.O_WRONLY
	if response.StatusCode == http.StatusPartialContent {
		flags |= os.O_APPEND
		_, total, _ = contentRange(response.Header.Get("Content-Range"))
		size = had
	} else {
		flags |= os.O_TRUNC
		total = max(response.ContentLength, 0)
	}
	if total > maxArchive {
		return nil, 0, 0, fmt.Errorf("offers %d MiB, more than the %d MiB that the archive may have", total>>20, maxArchive>>20)
	}
	if flags&os.O_TRUNC != 0 {
		if err := writePartial(work, partial{URL: mirror, Validator: validatorOf(response.Header)}); err != nil {
			return nil, 0, 0, err
		}
	}
	out, err = os.OpenFile(archivePath(work), flags, 0o644)
	return out, size, total, err
}

// validatorOf returns what If-Range accepts: a strong ETag, else the date. Without either a download cannot be resumed.
func validatorOf(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

func writePartial(work string, p partial) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(partialPath(work), data, 0o644)
}

// contentRange reads "bytes from-to/total".
func contentRange(h string) (from, total int64, ok bool) {
	rest, found := strings.CutPrefix(h, "bytes ")
	span, whole, slash := strings.Cut(rest, "/")
	first, _, dash := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	total, err2 := strconv.ParseInt(whole, 10, 64)
	return from, total, found && slash && dash && err == nil && err2 == nil
}

// meter tells of every piece that passes.
type meter struct {
	r     io.Reader
	touch func(n int)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		m.touch(n)
	}
	return n, err
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return address
	}
	return u.Host
}
