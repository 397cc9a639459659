package report

import (
	"fmt"
	"strings"
)

const pageTemplate = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
{{with .Refresh}}<meta http-equiv="refresh" content="{{.}}">
{{end}}<title>{{.Title}}</title>
<style>{{.Style}}</style>
</head>
<body>
{{with .Site}}<nav class="site" aria-label="Pages">{{range .}}<a href="{{.Href}}"{{if .Current}} aria-current="page"{{end}}>{{.Text}}</a>{{end}}</nav>
{{end}}{{with .Notice}}<div class="notice" role="alert">{{.}}</div>{{end}}
<header>
<h1>{{.Title}}</h1>
{{with .Subtitle}}<p class="subtitle">{{.}}</p>{{end}}
{{if and (gt (len .Sections) 2) (not .Site)}}<nav aria-label="Contents"><ol>{{range .Sections}}<li><a href="#{{.ID}}">{{.Title}}</a></li>{{end}}</ol></nav>{{end}}
</header>
<main>
{{range .Sections}}<section id="{{.ID}}">
<h2>{{.Title}}</h2>
{{range .Text}}<p>{{.}}</p>
{{end}}
{{if .Facts}}<dl class="facts">{{range .Facts}}<div class="fact {{.Tone}}"><dt>{{.Label}}</dt><dd>{{.Value}}</dd>{{with .Note}}<dd class="note">{{.}}</dd>{{end}}</div>{{end}}</dl>{{end}}
{{range .Tables}}{{$numeric := .Numeric}}<div class="scroll"><table>
{{with .Title}}<caption>{{.}}</caption>{{end}}
<thead><tr>{{range $i, $h := .Header}}<th scope="col"{{if index $numeric $i}} class="n"{{end}}>{{$h}}</th>{{end}}</tr></thead>
<tbody>{{$href := .Href}}{{$id := .ID}}{{range $r, $row := .Rows}}<tr{{if $id}}{{with index $id $r}} id="{{.}}"{{end}}{{end}}>{{range $i, $c := $row}}<td{{if index $numeric $i}} class="n"{{end}}>{{if and (eq $i 0) $href (index $href $r)}}<a href="{{index $href $r}}">{{$c}}</a>{{else}}{{$c}}{{end}}</td>{{end}}</tr>
{{end}}</tbody></table>{{with .Note}}<p class="note">{{.}}</p>{{end}}</div>
{{end}}
{{if .Figures}}<div class="figures">{{range .Figures}}<figure{{if .Wide}} class="wide"{{end}}>
{{with .Title}}<h3>{{.}}</h3>{{end}}
<div class="scroll">{{.SVG}}</div>
{{with .Caption}}<figcaption>{{.}}</figcaption>{{end}}
</figure>
{{end}}</div>{{end}}
</section>
{{end}}
</main>
<footer>{{with .Notice}}<p><strong>{{.}}</strong></p>{{end}}{{with .Footer}}<p>{{.}}</p>{{end}}</footer>
</body>
</html>
`

// pageStyle holds the colours once, as variables, for light, dark and paper. Series colours follow Okabe and Ito's
// palette, darkened for white paper and lightened for dark screens, so that colour-blind readers tell them apart.
const pageStyle = `
:root{--bg:#fff;--panel:#fff;--ink:#1c2430;--soft:#566273;--line:#d7dde5;--grid:#e6eaf0;--accent:#0b63a5;--notice:#8a1c00;--notice-bg:#ffe9d6;
--good:#1a7346;--bad:#b3261e;
--c0:#0072b2;--c1:#d55e00;--c2:#00835f;--c3:#a8418f;--c4:#a87400;--c5:#3f51b5;--c6:#6b7280;--c7:#8c510a;
--zero:#f4f5f7;--high:#b2182b;--low:#2166ac;--heat:#9c2f10;--on:#fff}
@media screen and (prefers-color-scheme:dark){:root{--bg:#12171f;--panel:#181f29;--ink:#e5eaf1;--soft:#a3afbf;--line:#35404f;--grid:#29323e;--accent:#6db9f2;--notice:#ffd9b8;--notice-bg:#5a2600;
--good:#5fd39a;--bad:#ff8a80;
--c0:#56b4e9;--c1:#ff9152;--c2:#35cfa2;--c3:#e692d2;--c4:#eec14a;--c5:#9fadff;--c6:#a9b4c2;--c7:#d9a066;
--zero:#242d39;--high:#ff8d7a;--low:#6cb8ff;--heat:#ffae6b;--on:#10151c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1200px;padding:0 20px 40px;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",Arial,sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:1.6rem 0 .2rem}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .3rem}
p{margin:.4rem 0 .8rem;max-width:78ch}
a{color:var(--accent)}
.subtitle{color:var(--soft);font-size:1.05rem;margin:0}
.notice{background:var(--notice-bg);color:var(--notice);font-weight:700;padding:.75rem 1rem;margin:1rem 0;border:2px solid currentColor;border-radius:8px}
nav.site{display:flex;flex-wrap:wrap;gap:.2rem 1.6rem;margin-top:1rem;padding-bottom:.5rem;border-bottom:1px solid var(--line)}
nav.site a{text-decoration:none}
nav.site a[aria-current]{color:var(--ink);font-weight:650}
nav li{margin-right:.9rem}
nav ol{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:1rem 0 0;padding-left:1.2rem;font-size:.95rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:1rem 0}
.fact{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem;background:var(--panel)}
.fact dt{color:var(--soft);font-size:.85rem}
.fact dd{margin:0;font-size:1.4rem;line-height:1.25;overflow-wrap:anywhere;font-weight:650;font-variant-numeric:tabular-nums}
.fact dd.note{font-size:.82rem;font-weight:400}
.fact.good dd:not(.note){color:var(--good)}
.fact.bad dd:not(.note){color:var(--bad)}
.note,figcaption{color:var(--soft);font-size:.88rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:.8rem 0;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding-bottom:.3rem}
th,td{padding:.32rem .8rem;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}
th{border-bottom:2px solid var(--line);font-weight:600}
th.n,td.n{text-align:right}
tr:target{outline:2px solid var(--accent)}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:18px;margin:1rem 0}
figure{margin:0;padding:.9rem 1rem;border:1px solid var(--line);border-radius:8px;background:var(--panel);min-width:0;break-inside:avoid}
figure.wide{grid-column:1/-1}
figcaption{margin-top:.4rem}
svg{display:block;width:100%;height:auto;min-width:420px}
figure.wide svg{min-width:760px}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",Arial,sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}
svg text.key,svg text.cat{fill:var(--ink)}
svg text.mark{fill:var(--ink);font-size:11px;paint-order:stroke;stroke:var(--panel);stroke-width:4px;stroke-linejoin:round}
svg text.limit{fill:var(--bad);font-weight:600;paint-order:stroke;stroke:var(--panel);stroke-width:4px;stroke-linejoin:round}
svg text.value{fill:var(--ink);font-size:11px}
svg text.cell{fill:var(--ink);font-size:10px}
svg text.cell.on{fill:var(--on)}
.grid{stroke:var(--grid);stroke-width:1}
.axis{stroke:var(--line);stroke-width:1}
.zero{stroke:var(--soft);stroke-width:1}
.markline{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
.limitline{stroke:var(--bad);stroke-width:1.4;stroke-dasharray:7 4}
.diagonal{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:5 4}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}.s6{--c:var(--c6)}.s7{--c:var(--c7)}
.curve{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.curve.dashed{stroke-dasharray:7 5}
.curve.thin{stroke-width:1;opacity:.55}
.band{fill:var(--c);opacity:.17}
.dot{fill:var(--c)}
.points{fill:none;stroke:var(--c);stroke-linecap:round;stroke-opacity:.45}
.bar{fill:var(--c)}
.area{fill:var(--c);fill-opacity:.22;stroke:var(--c);stroke-width:1.6}
.area.outline{fill-opacity:.05;stroke-width:2}
.missing{fill:none;stroke:var(--line);stroke-dasharray:2 2}
footer{margin-top:2.5rem;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
@media print{body{max-width:none;padding:0;font-size:11pt}nav{display:none}figure,.fact{border-color:#bbb}h2{break-after:avoid}.notice,.bar,.area,.band,svg rect,svg circle{print-color-adjust:exact;-webkit-print-color-adjust:exact}a{color:inherit;text-decoration:none}svg,figure.wide svg{min-width:0}}
`

// heatSteps is how many shades a heat map has on each side of zero.
const heatSteps = 16

// heatStyle returns one class a shade: pN towards high, nN towards low, qN for a scale that starts at zero.
func heatStyle() string {
	var b strings.Builder
	for i := range heatSteps + 1 {
		share := 100 * i / heatSteps
		fmt.Fprintf(&b, ".p%d{fill:color-mix(in srgb,var(--high) %d%%,var(--zero))}", i, share)
		fmt.Fprintf(&b, ".n%d{fill:color-mix(in srgb,var(--low) %d%%,var(--zero))}", i, share)
		fmt.Fprintf(&b, ".q%d{fill:color-mix(in srgb,var(--heat) %d%%,var(--zero))}\n", i, share)
	}
	return b.String()
}
