package mlflow_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"turbofan/registry"
)

// upload is what mpu/create answers.
type upload struct {
	ID          string `json:"upload_id"`
	Credentials []struct {
		URL        string
		PartNumber int `json:"part_number"`
	}
}

const mpu = "/api/2.0/mlflow-artifacts/mpu/"

func startUpload(t *testing.T, h http.Handler, folder, body string) upload {
	t.Helper()
	got := ask(t, h, "POST", mpu+"create/"+folder, body)
	var u upload
	if err := json.Unmarshal([]byte(got.text), &u); err != nil || got.status != 200 {
		t.Fatalf("create: %d %s (%v)", got.status, got.text, err)
	}
	return u
}

// A file arrives in parts, out of order, one of them twice and with other bytes at first, and is whole at the end.
func TestUploadInParts(t *testing.T) {
	h, names := playground(t, registry.Config{})
	folder := names.Replace("{exp}/{run}/artifacts/big")
	u := startUpload(t, h, folder, `{"path":"/home/me/data/large.bin","num_parts":3}`)
	if len(u.Credentials) != 3 || !strings.HasPrefix(u.Credentials[2].URL, "http://localhost/") {
		t.Fatalf("credentials: %+v", u.Credentials)
	}
	parts := []string{strings.Repeat("a", 1000), strings.Repeat("b", 1000), "c"}
	etags := make([]string, len(parts))
	send := func(n int, text string) string {
		address, err := url.Parse(u.Credentials[n].URL)
		if err != nil {
			t.Error(err)
			return ""
		}
		got := ask(t, h, "PUT", address.Path, text)
		if got.status != 200 {
			t.Errorf("part %d: %d %s", n+1, got.status, got.text)
		}
		return got.header.Get("ETag")
	}
	stale := send(1, "not yet")
	var sent sync.WaitGroup
	for n := range parts {
		sent.Go(func() { etags[n] = send(n, parts[n]) })
	}
	sent.Wait()
	if etags[1] == stale {
		t.Error("other bytes have the same tag")
	}
	list := ask(t, h, "GET", api+"artifacts/list?run_id="+names.Replace("{run}")+"&path=big", "")
	if list.text != "{\"root_uri\":\""+names.Replace("{root}")+"\"}" {
		t.Errorf("an unfinished upload is to be seen: %s", list.text)
	}

	complete := func(tags ...string) said {
		said := make([]string, len(tags))
		for i, tag := range tags {
			said[i] = fmt.Sprintf(`{"part_number":%d,"etag":%q,"url":"x"}`, i+1, tag)
		}
		return ask(t, h, "POST", mpu+"complete/"+folder, `{"path":"large.bin","upload_id":"`+u.ID+`","parts":[`+strings.Join(said, ",")+`]}`)
	}
	if got := complete(etags[0], etags[0], etags[2]); got.code != badValue || !strings.Contains(got.text, "Part 2 was not sent") {
		t.Errorf("a part with another's tag: %+v", got)
	}
	if got := complete(etags[0], `"../../x"`); got.code != badValue {
		t.Errorf("a tag that is a path: %+v", got)
	}
	if got := complete(etags...); got.status != 200 || got.text != "{}" {
		t.Fatalf("complete: %+v", got)
	}
	file := ask(t, h, "GET", "/api/2.0/mlflow-artifacts/artifacts/"+folder+"/large.bin", "")
	if file.text != strings.Join(parts, "") {
		t.Errorf("the file has %d bytes", len(file.text))
	}
	if got := complete(etags...); got.code != absent {
		t.Errorf("a second completion: %+v", got)
	}
}

// A client that wants a file in ranges learns its size and an address that serves them.
func TestDownloadInRanges(t *testing.T) {
	h, names := playground(t, registry.Config{})
	presigned := "/api/2.0/mlflow-artifacts/presigned/"
	for _, c := range []exchange{
		{"PUT", "/api/2.0/mlflow-artifacts/artifacts/a b/c%25.bin", `0123456789`, 200, "", `{}`},
		{"GET", presigned + "a b/c%25.bin", ``, 200, "", `{"url":"http://localhost/api/2.0/mlflow-artifacts/artifacts/a%20b/c%25.bin","headers":{},"file_size":10}`},
		{"GET", presigned + "{exp}/{run}/artifacts", ``, 404, absent, `No such artifact`},
		{"GET", presigned + "none", ``, 404, absent, `No such artifact`},
		{"GET", presigned + "../../etc/passwd", ``, 400, badValue, `Invalid path`},
		{"PUT", presigned + "x", `x`, 404, "ENDPOINT_NOT_FOUND", ``},
	} {
		c.check(t, h, names)
	}
}

func TestUploadRefusals(t *testing.T) {
	h, names := playground(t, registry.Config{})
	folder := names.Replace("{exp}/{run}/artifacts")
	u := startUpload(t, h, folder, `{"path":"a.bin","num_parts":1}`)
	unknown := strings.Repeat("0", 32)
	for _, c := range []exchange{
		{"POST", mpu + "create/" + folder, `{"num_parts":1}`, 400, badValue, `Missing value for required parameter 'path'`},
		{"POST", mpu + "create/" + folder, `{"path":"a","num_parts":0}`, 400, badValue, `'num_parts'`},
		{"POST", mpu + "create/" + folder, `{"path":"a","num_parts":10001}`, 400, badValue, `'num_parts'`},
		{"POST", mpu + "create/" + folder, `{"path":"a","num_parts":"many"}`, 400, badValue, `'num_parts'`},
		{"POST", mpu + "create/" + folder, `{"path":"x/..","num_parts":1}`, 400, badValue, `Invalid path`},
		{"POST", mpu + "create/../../etc", `{"path":"passwd","num_parts":1}`, 400, badValue, `Invalid path`},
		{"POST", mpu + "create/%252e%252e/etc", `{"path":"passwd","num_parts":1}`, 400, badValue, `Invalid path`},
		{"POST", mpu + "create/.staging", `{"path":"x","num_parts":1}`, 400, badValue, `Invalid path`},
		{"PUT", mpu + "part/" + unknown + "/1", `x`, 404, absent, `No such upload`},
		{"PUT", mpu + "part/../1", `x`, 404, absent, `No such upload`},
		{"PUT", mpu + "part/" + u.ID + "/0", `x`, 400, badValue, `from 1 to 10000`},
		{"PUT", mpu + "part/" + u.ID + "/10001", `x`, 400, badValue, `from 1 to 10000`},
		{"PUT", mpu + "part/" + u.ID + "/one", `x`, 400, badValue, `Invalid path`},
		{"PUT", mpu + "part/" + u.ID, `x`, 400, badValue, `Invalid path`},
		{"GET", mpu + "part/" + u.ID + "/1", ``, 404, "ENDPOINT_NOT_FOUND", ``},
		{"POST", mpu + "complete/" + folder, `{"path":"a.bin","parts":[{"part_number":1,"etag":"e"}]}`, 400, badValue, `'upload_id'`},
		{"POST", mpu + "complete/" + folder, `{"path":"a.bin","upload_id":"` + u.ID + `"}`, 400, badValue, `'parts'`},
		{"POST", mpu + "complete/" + folder, `{"path":"a.bin","upload_id":"` + u.ID + `","parts":[{}]}`, 400, badValue, `parts[0].part_number`},
		{"POST", mpu + "complete/" + folder, `{"path":"a.bin","upload_id":"` + unknown + `","parts":[{"part_number":1,"etag":"e"}]}`, 404, absent, `No such upload`},
		{"POST", mpu + "complete/" + folder, `{"path":"other.bin","upload_id":"` + u.ID + `","parts":[{"part_number":1,"etag":"e"}]}`, 404, absent, `No such upload`},
		{"POST", mpu + "complete/" + folder, `{"path":"a.bin","upload_id":"` + u.ID + `","parts":[{"part_number":1,"etag":"e"}]}`, 400, badValue, `Part 1 was not sent with this tag`},
		{"POST", mpu + "abort/" + folder, `{"path":"other.bin","upload_id":"` + u.ID + `"}`, 200, "", `{}`}, // not this one's
		{"PUT", mpu + "part/" + u.ID + "/1", `x`, 200, "", `{}`},
		{"POST", mpu + "abort/" + folder, `{"path":"a.bin","upload_id":"` + u.ID + `"}`, 200, "", `{}`},
		{"PUT", mpu + "part/" + u.ID + "/1", `x`, 404, absent, `No such upload`},
		{"POST", mpu + "abort/" + folder, `{"path":"a.bin","upload_id":"` + u.ID + `"}`, 200, "", `{}`},
	} {
		c.check(t, h, names)
	}
}
