/**
 * The support tables of RQ, Sidekiq and Resque: their interop tests state facts, and a fact that held is a row. Kept in .cache/support-table/facts/
 * by test/run.mjs after a run, a file for each test file, or for each version of Sidekiq that it ran with.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cache } from '../../support/setup.mjs';

const folder = join(cache, 'support-table', 'facts');

/** @typedef {{ file: string, about: string, fact: string, version: string, ok: boolean, lacks?: string }} Fact */

/** The title of each file in the tables, in their order. @type {Record<string, Record<string, string>>} */
export const FILES = {
  rq: {
    'rq-python-to-node': 'RQ enqueues, Node runs, RQ reads',
    'rq-node-to-python': 'Node enqueues, RQ runs, Node reads',
    'rq-client': 'RqClient beside Python',
    'rq-shared': 'RQ and Node on the same queues',
    'rq-killed': 'A worker of either is killed',
    'rq-cron': 'Cron',
    'rq-dashboard': 'rq-dashboard',
    'rq-cli': 'The command line',
  },
  sidekiq: {
    'sidekiq-enqueue': 'Enqueued on one side, run on the other',
    'sidekiq-retries': 'Failures',
    'sidekiq-api': 'Sidekiq::API on what Node wrote',
    'sidekiq-web': "Sidekiq's own pages",
    'sidekiq-iterable': 'Iterable jobs',
    'sidekiq-active-job': 'Active Job on Sidekiq',
    'active-job': 'Arguments of Active Job',
    'sidekiq-namespace': 'redis-namespace',
  },
  resque: {
    'resque-ruby': 'Active Job of Ruby, and what Ruby says',
    'resque-node': 'node-resque on the other side',
    'resque-worker': 'The worker, by the keys it leaves',
    'resque-pruning': 'Workers that died',
    'resque-cli': 'The command line',
  },
};

/** What a report of vitest says of those files. A file of which not all was run (`-t`) is left out. @param {any} report */
export function saveFacts(report) {
  const names = Object.values(FILES).flatMap((files) => Object.keys(files));
  let ruby;
  for (const { name, assertionResults } of report.testResults) {
    const file = basename(name, '.test.ts');
    if (!names.includes(file) || !name.includes('/interop/')) continue;
    ruby ??= sidekiqVersion();
    const templates = parametrized(readFileSync(name, 'utf8'));
    /** @type {Fact[]} */
    const facts = [];
    let isWhole = assertionResults.length > 0;
    for (const { ancestorTitles, title, status } of assertionResults) {
      const about = ancestorTitles.join(': ');
      const lacks = /\[skipped: (.+)\]/.exec(`${about} ${title}`)?.[1];
      if (status !== 'passed' && status !== 'failed' && lacks === undefined) isWhole = false;
      const version = file.startsWith('rq-') ? (/(?:rq-|RQ )(\d+\.\d+)/.exec(about)?.[1] ?? '2.10') : ruby;
      const plain = title.replace(/\s*\[skipped: .+\]/, '');
      const fact = templates.find(({ pattern }) => pattern.test(plain))?.title ?? plain;
      // What is tried with many values is one row of them all.
      const same = facts.find((one) => one.fact === fact && one.version === version);
      if (same !== undefined) same.ok &&= status === 'passed';
      else
        facts.push({ file, about, fact, version, ok: status === 'passed', ...(lacks === undefined ? {} : { lacks }) });
    }
    if (!isWhole) continue;
    mkdirSync(folder, { recursive: true });
    const suffix = file.startsWith('rq-') ? '' : `.${ruby}`;
    writeFileSync(join(folder, `${file}${suffix}.json`), `${JSON.stringify(facts, null, 1)}\n`);
  }
}

/** The tables of one system, as Markdown; nothing where its tests have not run. @param {string} system @returns {string | undefined} */
export function factTables(system) {
  let saved;
  try {
    saved = readdirSync(folder);
  } catch {
    return undefined;
  }
  /** @type {Fact[]} */
  const all = saved.sort().flatMap((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
  const files = FILES[system] ?? {};
  const rows = all.filter(({ file }) => file in files);
  if (rows.length === 0) return undefined;
  const versions = [...new Set(rows.map(({ version }) => version))].sort(
    (a, b) => Number.parseFloat(a) - Number.parseFloat(b) || (a < b ? -1 : 1),
  );
  /** @type {string[]} */
  const notes = [];
  const sections = Object.entries(files).flatMap(([file, title]) => {
    const own = rows.filter((row) => row.file === file);
    if (own.length === 0) return [];
    const columns = versions.filter((version) => own.some((row) => row.version === version));
    const facts = [...new Set(own.map(({ fact }) => fact))];
    const lines = facts.map((fact) => {
      const cells = columns.map((version) => {
        const row = own.find((one) => one.fact === fact && one.version === version);
        if (row === undefined) return '';
        if (row.lacks === undefined) return row.ok ? '✓' : '✗';
        if (!notes.includes(row.lacks)) notes.push(row.lacks);
        return `– [${notes.indexOf(row.lacks) + 1}]`;
      });
      return `| ${[fact.replaceAll('|', '\\|'), ...cells].join(' | ')} |`;
    });
    const head = [title, ...columns.map((version) => (system === 'resque' ? 'holds' : version))];
    return [[`| ${head.join(' | ')} |`, `| --- |${' :-: |'.repeat(columns.length)}`, ...lines].join('\n')];
  });
  const below = notes.map((note, index) => `${index + 1}. ${note}`).join('\n');
  return `${sections.join('\n\n')}\n${below === '' ? '' : `\n${below}\n`}`;
}

/** Titles with a place for a value, and what they match. @param {string} source */
function parametrized(source) {
  return [...source.matchAll(/\)\(\s*(['"])((?:(?!\1).)*%s(?:(?!\1).)*)\1/g)].map(([, , title = '']) => ({
    title: title.replaceAll('%s', '…'),
    pattern: new RegExp(
      `^${title
        .split('%s')
        .map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
        .join('.*')}$`,
      's',
    ),
  }));
}

/** Two numbers of it: 6.4. */
function sidekiqVersion() {
  const ruby = process.env['JOBGLOT_RUBY'] ?? 'ruby';
  const { stdout } = spawnSync(ruby, ['-rsidekiq/version', '-e', 'print Sidekiq::VERSION'], { encoding: 'utf8' });
  return (stdout ?? '').split('.').slice(0, 2).join('.');
}
