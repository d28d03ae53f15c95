import type { Command } from '../redis.ts';
import type { Dialect } from './dialect.ts';
import type { Keyspace } from './keys.ts';

/**
 * Execution metrics: per class and minute how many ran and failed and for how long, and a histogram of run times.
 * Mirrors lib/sidekiq/metrics/{tracking,shared}.rb of 7.x and 8.x, whose keys differ.
 *
 * | key | 8.x | 7.x |
 * |---|---|---|
 * | minute | `j\|261121\|0:09` | `j\|20261121\|0:9` |
 * | ten minutes | `j\|261121\|0:0` | – |
 * | histogram | `h\|OkJob-21-0:9` | `OkJob-21-00:9` |
 */
const MINUTE_TTL = 28_800;
const TEN_MINUTES_TTL = 259_200;

/** Upper bounds in milliseconds; a run belongs to the first that it is below. */
const BOUNDS: readonly number[] = [
  20,
  30,
  45,
  65,
  100,
  150,
  225,
  335,
  500,
  750,
  1_100,
  1_700,
  2_500,
  3_800,
  5_750,
  8_500,
  13_000,
  20_000,
  30_000,
  45_000,
  65_000,
  100_000,
  150_000,
  225_000,
  335_000,
  Number.POSITIVE_INFINITY,
];

/** What the runs of one class came to within a minute; `histogram` counts runs by the bounds of this file. */
export interface ClassMetrics {
  processed: number;
  failed: number;
  /** Of runs that did not fail, in milliseconds. */
  ms: number;
  readonly histogram: number[];
}

/** What ran since the last flush, by class. */
export class Metrics {
  #classes = new Map<string, ClassMetrics>();

  get isEmpty(): boolean {
    return this.#classes.size === 0;
  }

  add(name: string, failed: boolean, ms: number): void {
    let found = this.#classes.get(name);
    if (found === undefined) {
      found = { processed: 0, failed: 0, ms: 0, histogram: BOUNDS.map(() => 0) };
      this.#classes.set(name, found);
    }
    found.processed += 1;
    if (failed) {
      found.failed += 1;
      return;
    }
    found.ms += ms;
    const bucket = bucketOf(ms);
    found.histogram[bucket] = (found.histogram[bucket] as number) + 1;
  }

  /** Everything counted so far, and begin again. */
  take(): ReadonlyMap<string, Readonly<ClassMetrics>> {
    const taken = this.#classes;
    this.#classes = new Map();
    return taken;
  }

  /** Count again what could not be written. */
  giveBack(taken: ReadonlyMap<string, Readonly<ClassMetrics>>): void {
    for (const [name, metrics] of taken) {
      const found = this.#classes.get(name);
      if (found === undefined) {
        this.#classes.set(name, { ...metrics, histogram: [...metrics.histogram] });
        continue;
      }
      found.processed += metrics.processed;
      found.failed += metrics.failed;
      found.ms += metrics.ms;
      metrics.histogram.forEach((count, bucket) => {
        found.histogram[bucket] = (found.histogram[bucket] as number) + count;
      });
    }
  }
}

/** Which slot of the histogram a run of so many milliseconds counts in. */
export function bucketOf(ms: number): number {
  return BOUNDS.findIndex((bound) => ms < bound);
}

/** tracking.rb flush. */
export function flushMetrics(
  keys: Keyspace,
  classes: ReadonlyMap<string, Readonly<ClassMetrics>>,
  now: Date,
  dialect: Dialect,
): readonly Command[] {
  if (classes.size === 0) return [];
  return dialect.metrics.flatMap((version) => {
    const names = version === '8' ? keysOf8(now) : keysOf7(now);
    const commands: Command[] = [];
    for (const [name, { histogram }] of classes) {
      const increments = histogram.flatMap((count, bucket) =>
        count === 0 ? [] : ['INCRBY', 'u16', `#${bucket}`, count],
      );
      if (increments.length === 0) continue;
      const key = keys.prefix + names.histogram(name);
      commands.push(['BITFIELD', key, 'OVERFLOW', 'SAT', ...increments], ['EXPIRE', key, MINUTE_TTL]);
    }
    for (const [own, ttl] of names.counters) {
      const key = keys.prefix + own;
      for (const [name, { processed, failed, ms }] of classes) {
        if (processed > failed) commands.push(['HINCRBY', key, `${name}|ms`, Math.round(ms)]);
        if (failed > 0) commands.push(['HINCRBY', key, `${name}|f`, failed]);
        commands.push(['HINCRBY', key, `${name}|p`, processed]);
      }
      commands.push(['EXPIRE', key, ttl]);
    }
    return commands;
  });
}

interface MetricKeys {
  readonly histogram: (name: string) => string;
  readonly counters: readonly (readonly [key: string, ttl: number])[];
}

function keysOf8(now: Date): MetricKeys {
  const { day, hour, minute, padded } = parts(now);
  const date = now.toISOString().slice(2, 10).replaceAll('-', '');
  return {
    histogram: (name) => `h|${name}-${day}-${hour}:${minute}`,
    counters: [
      [`j|${date}|${hour}:${padded.slice(0, 1)}`, TEN_MINUTES_TTL],
      [`j|${date}|${hour}:${padded}`, MINUTE_TTL],
    ],
  };
}

function keysOf7(now: Date): MetricKeys {
  const { hour, minute } = parts(now);
  const date = now.toISOString().slice(0, 10).replaceAll('-', '');
  const iso = now.toISOString();
  return {
    histogram: (name) => `${name}-${iso.slice(8, 10)}-${iso.slice(11, 13)}:${minute}`,
    counters: [[`j|${date}|${hour}:${minute}`, MINUTE_TTL]],
  };
}

function parts(now: Date): {
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly padded: string;
} {
  const minute = now.getUTCMinutes();
  return {
    day: now.getUTCDate(),
    hour: now.getUTCHours(),
    minute,
    padded: String(minute).padStart(2, '0'),
  };
}
