// `npm run support`: the tables of protocols/<system>/SUPPORT.md, below their mark, from what the interop tests last saw. A system whose tests
// have not run keeps what it has.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { factTables, FILES } from './facts.mjs';

const folder = fileURLToPath(new URL('../../../.cache/support-table/', import.meta.url));

/** @typedef {{ file: string, feature: string, version: string, broker: string, direction: string, ok: boolean, lacks?: string }} Row */

/** @type {Row[]} */
const rows = (existsSync(folder) ? readdirSync(folder) : [])
  .filter((name) => name.endsWith('.json'))
  .sort()
  .flatMap((name) => JSON.parse(readFileSync(`${folder}${name}`, 'utf8')));

/** What the table begins with; the files after them follow by name. In a file, features have the order of their tests. */
const FIRST = [
  'celery-python-to-node',
  'celery-node-to-python',
  'celery-canvas',
  'celery-canvas-worker',
  'celery-shared',
];
rows.sort((a, b) => rank(a.file) - rank(b.file) || (a.file < b.file ? -1 : Number(a.file > b.file)));

const BROKERS = { redis: 'Redis', amqp: 'RabbitMQ' };

/** The same numbers under all tables. @type {string[]} */
const notes = [];
/** Seen only in parts, it would take rows away. */
const isWhole = FIRST.every((file) => rows.some((row) => row.file === file));
if (isWhole) {
  const sections = Object.entries(BROKERS).map(
    ([broker, title]) => `## Over ${title}\n\n${table(rows.filter((row) => row.broker === broker)).join('\n')}\n`,
  );
  const below = notes.map((note, index) => `${index + 1}. ${note}\n`).join('');
  write('celery', sections.join('\n') + (below === '' ? '' : `\n${below}`));
}
for (const system of Object.keys(FILES)) {
  const tables = factTables(system);
  if (tables !== undefined) write(system, tables);
}

/** @param {string} system @param {string} tables */
function write(system, tables) {
  const path = fileURLToPath(new URL(`../../../protocols/${system}/SUPPORT.md`, import.meta.url));
  const mark = '<!-- Below: npm run support -->\n';
  const text = readFileSync(path, 'utf8');
  const end = text.indexOf(mark);
  if (end === -1) throw new Error(`${path} has no mark`);
  writeFileSync(path, `${text.slice(0, end)}${mark}\n${tables}`);
  process.stdout.write(`protocols/${system}/SUPPORT.md\n`);
}

/** A line a feature, in the order the tests declare them; a column a version and direction. @param {Row[]} seen */
function table(seen) {
  const versions = [...new Set(seen.map(({ version }) => version))].sort();
  const features = [...new Set(seen.map(({ feature }) => feature))];
  const columns = versions.flatMap((version) =>
    ['Python → Node', 'Node → Python'].map((direction) => ({ version, direction })),
  );
  return [
    line(['', ...versions.flatMap((version) => [`${version} → Node`, `Node → ${version}`])]),
    line(['---', ...columns.map(() => ':-:')]),
    ...features.map((feature) =>
      line([
        feature,
        ...columns.map(({ version, direction }) =>
          cell(
            seen.filter(
              (row) =>
                row.feature === feature &&
                row.version === version &&
                (row.direction === direction || row.direction === 'both'),
            ),
          ),
        ),
      ]),
    ),
  ];
}

/** @param {string} file */
function rank(file) {
  const index = FIRST.indexOf(file);
  return index === -1 ? FIRST.length : index;
}

/** @param {Row[]} seen */
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
