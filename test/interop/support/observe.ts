import type { Redis } from 'ioredis';
import { parse } from '../../../protocols/formats/json.ts';

/** What a workflow left in the result store, by role, with everything taken out that two runs cannot share. */
export interface Observation {
  readonly results: Readonly<Record<string, Stored>>;
  /** The keys of groups and chords, without their ids. */
  readonly left: readonly string[];
}

export interface Stored {
  readonly status: unknown;
  readonly result: unknown;
  readonly children: unknown;
  readonly parent: unknown;
  readonly grouped: boolean | undefined;
}

/**
 * Reads every result of the run whose ids begin with `run`. Ids become roles; ids that nobody chose become `*`. Without `groups`,
 * who is in a group is left out: before 5.6 the body of a chord that a worker started was in none.
 */
export async function observe(
  store: Redis,
  run: string,
  { last = [], groups = true }: { readonly last?: readonly string[] | undefined; readonly groups?: boolean } = {},
): Promise<Observation> {
  const keys = await store.keys('*');
  const results: Record<string, Stored> = {};
  const left: string[] = [];
  const unnamed: Stored[] = [];
  for (const key of keys) {
    if (!key.startsWith('celery-task-meta-')) {
      left.push(key.replace(UUID, '*'));
      continue;
    }
    const text = (await store.get(key)) ?? 'null';
    const meta = shared(parse(text), run) as Record<string, unknown>;
    const role = key.split('--')[1];
    const parent = meta['parent_id'] ?? null;
    const counted = role?.startsWith('body') === true || last.includes(role ?? '');
    const stored: Stored = {
      status: meta['status'],
      result: meta['result'],
      // Null where the main process of a Python worker stored it, which knows no children.
      children: meta['children'] ?? [],
      // Who counts last publishes the body: any member may be its parent.
      parent: counted ? '(whoever was last)' : parent,
      grouped: groups ? meta['group_id'] !== undefined : undefined,
    };
    if (role === undefined) unnamed.push(stored);
    else results[role] = stored;
  }
  for (const [at, stored] of unnamed
    .map((each) => JSON.stringify(each, replacer))
    .sort()
    .entries())
    results[`unnamed ${at}`] = JSON.parse(stored) as Stored;
  return { results: sorted(results), left: left.sort() };
}

function sorted<T>(record: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const UUID = /[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}/g;

function shared(value: unknown, run: string): unknown {
  if (typeof value === 'string') return value.replaceAll(`${run}--`, '').replace(UUID, '*');
  if (Array.isArray(value)) return value.map((item) => shared(item, run));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shared(item, run)]));
}

function replacer(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}` : value;
}
