import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { afterAll, onTestFinished, test } from 'vitest';
import type { CeleryVersion } from '../../support/python.ts';
import { root } from '../../support/setup.mjs';

export const VERSIONS: readonly CeleryVersion[] = ['5.2', '5.4', '5.6'];

export type BrokerKind = 'redis' | 'amqp';

/** What the facts are looked at with. */
export interface Setting {
  readonly version: CeleryVersion;
  readonly broker: BrokerKind;
}

/** Every version over Redis, the oldest and the newest over RabbitMQ. */
export const SETTINGS: readonly Setting[] = [
  ...VERSIONS.map((version) => ({ version, broker: 'redis' as const })),
  { version: '5.2', broker: 'amqp' },
  { version: '5.6', broker: 'amqp' },
];

/** The version between them over RabbitMQ, for the facts that stand for all others. */
export const BETWEEN: Setting = { version: '5.4', broker: 'amqp' };

export type Direction = 'Python → Node' | 'Node → Python' | 'both';

/** One feature, seen with one version of Celery over one broker. */
export interface Row extends Setting {
  readonly feature: string;
  readonly direction: Direction;
  readonly ok: boolean;
  /** Why this version has it not; then `ok` is false and nothing was run. */
  readonly lacks?: string;
}

/** What a version lacks, and why: `{ '5.2': 'kombu 5.2 writes dates as text' }`. */
export type Lacks = Partial<Record<CeleryVersion, string>>;

/** What is not there to compress with. */
export function compressionLacks(compression: string): Lacks {
  if (compression !== 'zstd' || 'createZstdCompress' in zlib) return {};
  const missing = 'node:zlib knows zstd since Node 22.15';
  return { '5.2': missing, '5.4': missing, '5.6': missing };
}

export type Fact = (feature: string, statement: string, run: () => Promise<void>, lacks?: Lacks) => void;

/**
 * Tests that fill the support table as they run: `fact('retries', 'a retry keeps its id', async () => …)`. A feature is
 * supported when all its facts hold. A version that lacks it is a row too, with the reason.
 */
export function facts(file: string, setting: Setting, direction: Direction): Fact {
  const { version } = setting;
  const rows = new Map<string, Row | undefined>();
  afterAll(() =>
    save(
      file,
      setting,
      direction,
      [...rows.values()].filter((row) => row !== undefined),
    ),
  );
  return (feature, statement, run, lacks = {}) => {
    const reason = lacks[version];
    if (reason !== undefined) {
      if (rows.get(feature) === undefined)
        rows.set(feature, { ...setting, feature, direction, ok: false, lacks: reason });
      test.skip(`${statement} [skipped: not with ${version}: ${reason}]`, run);
      return;
    }
    // The table has the order of the declarations.
    if (!rows.has(feature)) rows.set(feature, undefined);
    test(statement, async () => {
      onTestFinished(({ task }) => {
        const passed = task.result?.state !== 'fail';
        const before = rows.get(feature);
        rows.set(feature, {
          ...setting,
          feature,
          direction,
          ok: passed && (before === undefined || before.ok || before.lacks !== undefined),
        });
      });
      await run();
    });
  };
}

/** In the place of `fact`, for what is not so over this broker: nothing is run, and the table has no row of it. */
export const elsewhere: Fact = () => {};

const folder = join(root, '.cache/support-table');

/** A file for each caller of `facts`: tests of several files run at the same time. */
function save(file: string, { version, broker }: Setting, direction: Direction, rows: readonly Row[]): void {
  const name = [file, version, broker, direction.toLowerCase().replace(/ → /, '-to-')].join('.');
  const path = join(folder, `${name}.json`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    `${path}.${process.pid}`,
    `${JSON.stringify(
      rows.map((row) => ({ file, ...row })),
      null,
      1,
    )}\n`,
  );
  renameSync(`${path}.${process.pid}`, path);
}
