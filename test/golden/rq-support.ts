import { Buffer } from 'node:buffer';
import { readdirSync, readFileSync } from 'node:fs';
import { type Argument, bytesOf, type Step, textOf } from './support.ts';

/** The fixtures of RQ, typed. What each member says is in fixtures/README.md. */

export interface RqFixture {
  readonly name: string;
  readonly about: string;
  readonly worker?: string;
  readonly upstream: { readonly rq: string };
  readonly frozen: { readonly clock: string; readonly workerClock?: string; readonly ids: readonly string[] };
  readonly before?: State;
  readonly wire: readonly Step[];
  readonly after: State;
  readonly means: {
    readonly outcome?: Outcome;
    readonly jobs: Readonly<Record<string, JobMeans>>;
    readonly results?: Readonly<Record<string, readonly ResultMeans[]>>;
    readonly places: Readonly<Record<string, readonly string[] | Readonly<Record<string, string>>>>;
  };
}

export type Outcome =
  | { readonly kind: 'success'; readonly value: string }
  | { readonly kind: 'error'; readonly type: string; readonly message: string }
  | { readonly kind: 'retry'; readonly max: number; readonly intervals: readonly number[] }
  | { readonly kind: 'killed'; readonly signal: number }
  | { readonly kind: 'unserializable' | 'unknown-task' | 'undecodable' | 'stopped' | 'gone' };

export interface CallMeans {
  readonly serializer: 'pickle' | 'json';
  readonly function: string;
  readonly instance: unknown;
  readonly args: unknown;
  readonly kwargs: unknown;
}

/** What is absent or empty in the hash is left out. */
export type JobMeans = Readonly<Record<string, unknown>> & { readonly call: CallMeans | null };

export interface ResultMeans {
  readonly type: number;
  readonly workerName?: string;
  readonly executionId?: string;
  readonly startedAt?: number;
  readonly endedAt?: number;
  readonly returnValue?: unknown;
  readonly excString?: string;
}

export type State = Readonly<Record<string, Held>>;

export type Held = { readonly ttl?: number } & (
  | { readonly type: 'string'; readonly value: Argument }
  | { readonly type: 'list' | 'set'; readonly value: readonly Argument[] }
  | { readonly type: 'zset'; readonly value: readonly (readonly [Argument, string])[] }
  | { readonly type: 'hash'; readonly value: readonly (readonly [string, Argument])[] }
  | { readonly type: 'stream'; readonly value: readonly (readonly (readonly [string, Argument])[])[] }
);

export const RQ_VERSIONS = ['1.13', '1.16', '2.0', '2.10', '2.12'] as const;
export type RqVersion = (typeof RQ_VERSIONS)[number];

/** Every fixture of a version whose name begins so. */
export function loadRq(version: RqVersion, prefix: string): readonly RqFixture[] {
  const folder = new URL(`../../fixtures/rq/${version}/`, import.meta.url);
  return readdirSync(folder)
    .filter((file) => file.startsWith(prefix))
    .sort()
    .map((file) => ({
      ...(JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Omit<RqFixture, 'name'>),
      name: file.slice(0, -5),
    }));
}

/** The pairs of a hash or of a stream's entry, as HGETALL and XRANGE bring them. */
export function flatOf(pairs: readonly (readonly [string, Argument])[]): readonly Buffer[] {
  return pairs.flatMap(([name, value]) => [Buffer.from(name), bytesOf(value)]);
}

/** The hashes of jobs, by their ids. */
export function jobsOf(state: State): ReadonlyMap<string, readonly Buffer[]> {
  const jobs = Object.entries(state).flatMap(([key, held]) => {
    const id = /^rq:job:([^:]+)$/.exec(key)?.[1];
    return id === undefined || held.type !== 'hash' ? [] : [[id, flatOf(held.value)] as const];
  });
  return new Map(jobs);
}

/** Every whole job that is written, by `HSET rq:job:J` or by a script of that key, in the order of the wire. */
export function savesOf(wire: readonly Step[]): readonly { readonly id: string; readonly flat: readonly Buffer[] }[] {
  return wire.flatMap(({ command }) => {
    const from = command.findIndex((word) => textOf(word) === 'created_at');
    const id = command.map((word) => /^rq:job:([^:]+)$/.exec(textOf(word))?.[1]).find((one) => one !== undefined);
    return from === -1 || id === undefined ? [] : [{ id, flat: command.slice(from).map(bytesOf) }];
  });
}
