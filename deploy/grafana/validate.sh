#!/bin/sh
# Holds the dashboards to the schema of the Grafana that compose runs: takes Grafana's packages of that version from npm,
# has TypeScript check every dashboard, panel and option against its types, and looks up every unit, calculation,
# matcher and colour in its registries. With the address of a Prometheus it draws the dashboards from what that holds,
# by Grafana's own components, and demands data of every panel. It does not run Grafana: how panels fetch is not tried,
# and heat maps, which are in no package, are not drawn. Needs node, npm and chromium; downloads some 600 MB once.
#   deploy/grafana/validate.sh [http://127.0.0.1:9090 [DIRECTORY FOR THE PICTURES]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prometheus=${1:-}
pictures=$(mkdir -p "${2:-.}" && cd "${2:-.}" && pwd)
version=$(sed -n 's,.*image: grafana/grafana:,,p' "$here/../compose/docker-compose.yml")
built=${XDG_CACHE_HOME:-$HOME/.cache}/turbofan/grafana-$version

mkdir -p "$built"
cd "$built"
if [ ! -e installed ]; then
	echo '{"private": true, "type": "module"}' >package.json
	npm install --no-audit --no-fund --ignore-scripts --save-exact "@grafana/schema@$version" "@grafana/data@$version" "@grafana/ui@$version" \
		react@18.2.0 react-dom@18.2.0 typescript@5.4.5 esbuild@0.25.9
	touch installed
fi
rm -rf src
mkdir src
cp "$here"/validate/* src
node src/types.mjs "$here/dashboards" src
npx tsc --strict --noEmit --skipLibCheck --module esnext --moduleResolution bundler --target es2022 src/typed-*.ts
echo "the dashboards have the types of Grafana $version"

npx esbuild src/draw.tsx --bundle --outfile=draw.js --define:process.env.NODE_ENV='"production"' --define:global=window --loader:.ttf=dataurl --log-level=error
echo '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="draw.css"><body style="margin:0"><div id="root"></div><script src="draw.js"></script>' >draw.html
browser() { # its arguments; what it says itself is of no interest
	chromium --headless=new --no-sandbox --disable-gpu --allow-file-access-from-files --hide-scrollbars --window-size=1500,2900 --virtual-time-budget=30000 "$@" 2>/dev/null
}
failed=0
for file in "$here"/dashboards/*.json; do
	name=$(basename "$file" .json)
	page="file://$built/draw.html#$name,$prometheus"
	problems=$(browser --dump-dom "$page" | sed -n 's,.*<pre id="problems">\([^<]*\)</pre>.*,\1,p')
	echo "$name: ${problems:-the page did not say how it went}"
	[ "$problems" = "no problems" ] || failed=1
	if [ -n "$prometheus" ]; then
		browser --screenshot="$pictures/$name.png" "$page"
	fi
done
exit $failed
