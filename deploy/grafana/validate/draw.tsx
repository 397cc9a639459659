// Draws one dashboard from a Prometheus with Grafana's data model and components; #NAME,PROMETHEUS says which and from
// where. Without a Prometheus it only looks up names.
import * as React from 'react';
import {createRoot} from 'react-dom/client';
import * as D from '@grafana/data';
import * as U from '@grafana/ui';
import boards from './boards.json';

const [name, prometheus] = location.hash.slice(1).split(',');
const board: any = (boards as any)[name];
const problems: string[] = [];
const theme = D.createTheme({colors: {mode: 'light'}});
const to = Math.floor(Date.now() / 1000), from = to - 900, step = 15;
const range: D.TimeRange = {from: D.dateTime(from * 1000), to: D.dateTime(to * 1000), raw: {from: 'now-15m', to: 'now'}};
const asIs = (s: string) => s;

// Grafana's core has this table of what an override may change; the processors are the package's.
const property = (id: string, process: any) => ({id, path: id.replace('custom.', ''), name: id, isCustom: id.startsWith('custom.'), override: null, editor: null, process, shouldApply: () => true});
const fields: any = new D.Registry(() => [
  property('unit', D.unitOverrideProcessor), property('min', D.numberOverrideProcessor), property('max', D.numberOverrideProcessor),
  property('decimals', D.numberOverrideProcessor), property('mappings', D.valueMappingsOverrideProcessor), property('thresholds', D.thresholdsOverrideProcessor),
  ...['color', 'noValue', ...['lineWidth', 'fillOpacity', 'lineStyle', 'drawStyle', 'stacking', 'showPoints', 'spanNulls', 'thresholdsStyle'].map(k => 'custom.' + k)]
    .map(id => property(id, D.identityOverrideProcessor)),
] as any);

function lookUp(where: string, panel: any) {
  const {defaults = {}, overrides = []} = panel.fieldConfig;
  const units = D.getValueFormats().flatMap((c: any) => c.submenu.map((f: any) => f.value));
  const know = (what: string, id: string, known: boolean) => { if (!known) problems.push(`${where}: Grafana knows no ${what} ${id}`); };
  know('unit', defaults.unit, units.includes(defaults.unit));
  for (const id of [...panel.options?.reduceOptions?.calcs ?? [], ...panel.options?.legend?.calcs ?? []]) know('calculation', id, !!D.fieldReducers.getIfExists(id));
  const colours = (defaults.thresholds?.steps ?? []).map((s: any) => s.color);
  for (const o of overrides) {
    know('matcher', o.matcher.id, !!D.fieldMatchers.getIfExists(o.matcher.id));
    for (const p of o.properties) {
      know('property', p.id, !!fields.getIfExists(p.id));
      if (p.value.fixedColor) colours.push(p.value.fixedColor);
    }
  }
  // A name that the theme does not know comes back as it went in.
  for (const c of colours) know('colour', c, c === 'transparent' || theme.visualization.getColorByName(c) !== c);
  if (defaults.color) know('colour mode', defaults.color.mode, !!D.fieldColorModeRegistry.getIfExists(defaults.color.mode));
}

const fill = (s: string) => s.replaceAll('$__rate_interval', '1m').replaceAll('$window', '1000');
const legend = (format: string, labels: any) => format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, k) => labels[k] ?? '');

async function frames(panel: any): Promise<D.DataFrame[]> {
  const out: D.DataFrame[] = [];
  for (const t of panel.targets) {
    const query = new URLSearchParams({query: fill(t.expr), ...(t.instant ? {time: `${to}`} : {start: `${from}`, end: `${to}`, step: `${step}`})});
    const answer = await (await fetch(`${prometheus}/api/v1/${t.instant ? 'query' : 'query_range'}?${query}`)).json();
    if (answer.status !== 'success') problems.push(`${panel.title}: ${answer.error}`);
    for (const s of answer.data?.result ?? []) {
      const points = s.values ?? [s.value];
      out.push(D.toDataFrame({refId: t.refId, fields: [
        {name: 'Time', type: D.FieldType.time, values: points.map((p: any) => p[0] * 1000)},
        {name: 'Value', type: D.FieldType.number, labels: s.metric, config: {displayNameFromDS: legend(t.legendFormat, s.metric)}, values: points.map((p: any) => Number(p[1]))},
      ]}));
    }
  }
  if (out.length === 0) problems.push(`${panel.title}: no data`);
  if (panel.type === 'timeseries') panel.fieldConfig.defaults.color ??= {mode: 'palette-classic'}; // the panel's own default
  const data = D.applyFieldOverrides({data: out, fieldConfig: panel.fieldConfig, replaceVariables: asIs, theme, timeZone: 'utc', fieldConfigRegistry: fields});
  data.forEach((frame, i) => frame.fields.forEach(f => {
    f.state = {...f.state, seriesIndex: i};
    f.display = D.getDisplayProcessor({field: f, theme, timeZone: 'utc'});
  }));
  return data;
}

function Values({panel, data, width, height}: any) {
  const o = panel.options, down = panel.type === 'bargauge';
  const values = D.getFieldDisplayValues({fieldConfig: panel.fieldConfig, reduceOptions: o.reduceOptions, replaceVariables: asIs, theme, data, timeZone: 'utc', sparkline: o.graphMode === 'area'});
  const n = values.length;
  return <div style={{display: 'flex', flexDirection: down ? 'column' : 'row', gap: 4}}>{values.map((v, i) => down
    ? <U.BarGauge key={i} theme={theme} width={width} height={height / n - 4} value={v.display} field={v.field} text={{titleSize: 12, valueSize: 12}}
        orientation={o.orientation} displayMode={o.displayMode} showUnfilled={o.showUnfilled} valueDisplayMode={o.valueMode} lcdCellWidth={12} itemSpacing={8} />
    : <U.BigValue key={i} theme={theme} width={width / n - 4} height={height} value={v.display} count={n} sparkline={v.sparkline}
        colorMode={o.colorMode} graphMode={o.graphMode} textMode={o.textMode} justifyMode={o.justifyMode} />)}</div>;
}

function Panel({panel, data, width, height}: any) {
  if (panel.type === 'timeseries' && data.length > 0) {
    return <U.TimeSeries frames={data} timeRange={range} timeZone="utc" width={width} height={height} structureRev={1} legend={{calcs: [], ...panel.options.legend}} options={{}} />;
  }
  return panel.type === 'stat' || panel.type === 'bargauge' ? <Values {...{panel, data, width, height}} /> : <p>{panel.type}: {data.length} series, not drawn</p>;
}

function Board({data}: any) {
  const column = 1500 / 24, row = 38;
  return <div style={{position: 'relative', height: row * Math.max(...board.panels.map((p: any) => p.gridPos.y + p.gridPos.h)), fontFamily: 'sans-serif', fontSize: 13}}>{board.panels.map((p: any) => {
    const {x, y, w, h} = p.gridPos, width = w * column - 8, height = h * row - 8;
    return <div key={p.id} style={{position: 'absolute', boxSizing: 'border-box', overflow: 'hidden', left: x * column + 4, top: y * row + 4, width, height, padding: 8, border: p.type === 'row' ? 0 : '1px solid #ddd'}}>
      <b>{p.title}</b>{data[p.id] && <Panel panel={p} data={data[p.id]} width={width - 18} height={height - 40} />}</div>;
  })}</div>;
}

(async () => {
  const data: any = {};
  for (const p of board.panels) {
    if (p.type === 'row') continue;
    lookUp(p.title, p);
    if (prometheus) data[p.id] = await frames(p);
  }
  createRoot(document.getElementById('root')!).render(<D.ThemeContext.Provider value={theme}><Board data={data} /></D.ThemeContext.Provider>);
})().catch(e => problems.push(String(e))).then(() => {
  const pre = document.body.appendChild(document.createElement('pre'));
  pre.id = 'problems';
  pre.textContent = problems.join('; ') || 'no problems';
});
