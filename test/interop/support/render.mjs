// `node test/interop/support/render.mjs`: the support table of the README, from what the interop tests last saw.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = fileURLToPath(new URL('../../../.cache/support-table.json', import.meta.url));

/** @type {{ feature: string, version: string, direction: string, ok: boolean, lacks?: string }[]} */
let rows;
try {
  rows = JSON.parse(readFileSync(path, 'utf8'));
} catch {
  process.stderr.write('no .cache/support-table.json: run the interop tests first\n');
  process.exit(1);
}

const versions = [...new Set(rows.map(({ version }) => version))].sort();
/** @type {string[]} */
const notes = [];
/** @type {Map<string, Map<string, string>>} feature → column → cell */
const table = new Map();

for (const { feature } of rows) table.set(feature, new Map());
for (const [feature, cells] of table) {
  for (const version of versions) {
    for (const way of ['Python → Node', 'Node → Python']) {
      const seen = rows.filter(
        (row) =>
          row.feature === feature && row.version === version && (row.direction === way || row.direction === 'both'),
      );
      cells.set(`${version} ${way}`, cell(seen));
    }
  }
}

process.stdout.write(
  `${line(['', ...versions.flatMap((version) => [`${version} → Node`, `Node → ${version}`])])}\n` +
    `${line(['---', ...versions.flatMap(() => [':-:', ':-:'])])}\n`,
);
for (const [feature, cells] of table) process.stdout.write(`${line([feature, ...cells.values()])}\n`);
if (notes.length > 0) process.stdout.write(`\n${notes.map((note, index) => `${index + 1}. ${note}`).join('\n')}\n`);

/** @param {{ ok: boolean, lacks?: string }[]} seen */
function cell(seen) {
  const run = seen.filter(({ lacks }) => lacks === undefined);
  if (run.length > 0) return run.every(({ ok }) => ok) ? '✓' : '✗';
  const reason = seen[0]?.lacks;
  if (reason === undefined) return '';
  if (!notes.includes(reason)) notes.push(reason);
  return `– [${notes.indexOf(reason) + 1}]`;
}

/** @param {string[]} cells */
function line(cells) {
  return `| ${cells.join(' | ')} |`;
}
