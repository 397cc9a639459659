// Writes each dashboard as TypeScript that names Grafana's types, so that the compiler finds what the schema does not know.
//   node types.mjs DASHBOARDS OUT
import fs from 'node:fs';

const [dashboards, out] = process.argv.slice(2);
// The types of each kind of panel: namespace, module, and whether it has options for each field.
const kinds = {
  timeseries: ['TimeSeries', 'timeseries', true],
  stat: ['Stat', 'stat', false],
  bargauge: ['BarGauge', 'bargauge', false],
  heatmap: ['Heatmap', 'heatmap', true],
  'status-history': ['StatusHistory', 'statushistory', true],
};
// What the Prometheus data source of this version reads of an annotation, beside what all annotations have.
const ofPrometheus = ['expr', 'step', 'titleFormat', 'textFormat', 'tagKeys', 'useValueForTime'];

const boards = {};
for (const file of fs.readdirSync(dashboards)) {
  const name = file.replace('.json', '');
  const board = JSON.parse(fs.readFileSync(`${dashboards}/${file}`, 'utf8'));
  boards[name] = structuredClone(board);
  let code = `import type {Dashboard, Panel} from '@grafana/schema';
import type {RowPanel} from '@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen';
import type {Plain} from './plain';
`;
  for (const [space, module] of Object.values(kinds)) {
    code += `import type * as ${space} from '@grafana/schema/dist/esm/raw/composable/${module}/panelcfg/x/${space}PanelCfg_types.gen';\n`;
  }
  const say = (id, type, value) => { code += `export const ${id}: Plain<${type}> = ${JSON.stringify(value)};\n`; };
  const {panels, ...rest} = board;
  for (const a of rest.annotations.list) ofPrometheus.forEach(key => delete a[key]);
  say('dashboard', 'Dashboard', rest);
  for (const {options, targets, ...panel} of panels) {
    if (panel.type === 'row') {
      say(`row${panel.id}`, 'RowPanel', panel);
      continue;
    }
    if (!kinds[panel.type]) throw new Error(`${name}: nothing is known here of panels of type ${panel.type}`);
    const [space, , fields] = kinds[panel.type];
    const custom = panel.fieldConfig.defaults.custom;
    delete panel.fieldConfig.defaults.custom;
    say(`panel${panel.id}`, 'Panel', panel);
    say(`options${panel.id}`, `${space}.Options`, options);
    if (custom) say(`custom${panel.id}`, fields ? `${space}.FieldConfig` : 'Record<string, never>', custom);
  }
  fs.writeFileSync(`${out}/typed-${name}.ts`, code);
}
fs.writeFileSync(`${out}/boards.json`, JSON.stringify(boards));
