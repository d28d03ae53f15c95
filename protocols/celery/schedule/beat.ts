import { callScript, type Command, type Exchange, type Script } from '../../redis.ts';
import * as json from '../../formats/json.ts';
import { isoText, parseIso } from '../../formats/values.ts';

/**
 * What a beat remembers of its entries, and how several beats on one Redis agree. Ours; Celery keeps a file of its own.
 *
 * | key | type | content |
 * |---|---|---|
 * | `jobglot:beat:lock` | string | the token of the process that leads; expires unless it is renewed |
 * | `jobglot:beat:runs` | hash | entry → `{"last_run_at", "total_run_count"}`, with `"pending": {"id", "due_at"}` of a message not known to be sent |
 *
 * A run is claimed by the script that writes its state: only for the process that leads, and only if nobody ran the entry since
 * it was looked at. Where messages live in the same Redis, the same script publishes.
 */
export interface BeatKeys {
  readonly lock: string;
  readonly runs: string;
}

export function beatKeys(prefix: string): BeatKeys {
  return { lock: `${prefix}lock`, runs: `${prefix}runs` };
}

/** How often an entry ran, and when last. Times are milliseconds. */
export interface RunState {
  /** Undefined: it never ran, and is due. */
  readonly lastRunAt: number | undefined;
  readonly totalRunCount: number;
  /** A run that was claimed, and whose message may not have been sent. */
  readonly pending?: PendingRun | undefined;
}

export interface PendingRun {
  /** The id its message has, whoever sends it. */
  readonly id: string;
  readonly dueAt: number;
}

export function encodeRun({ lastRunAt, totalRunCount, pending }: RunState): string {
  return json.stringify({
    last_run_at: lastRunAt === undefined ? null : isoText(new Date(lastRunAt)),
    total_run_count: totalRunCount,
    ...(pending === undefined ? {} : { pending: { id: pending.id, due_at: isoText(new Date(pending.dueAt)) } }),
  });
}

/** Undefined for a text that is no such state. */
export function decodeRun(text: string): RunState | undefined {
  let value: unknown;
  try {
    value = json.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { last_run_at: last, total_run_count: count, pending } = value as Readonly<Record<string, unknown>>;
  const lastRunAt = typeof last === 'string' ? parseIso(last) : undefined;
  if (!Number.isInteger(count) || Number.isNaN(lastRunAt)) return undefined;
  return { lastRunAt, totalRunCount: count as number, pending: readPending(pending) };
}

function readPending(value: unknown): PendingRun | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { id, due_at: due } = value as Readonly<Record<string, unknown>>;
  if (typeof id !== 'string' || typeof due !== 'string') return undefined;
  const dueAt = parseIso(due);
  return Number.isNaN(dueAt) ? undefined : { id, dueAt };
}

/**
 * Take the lead, or keep it: what redis-py's Lock does at acquire (`SET NX PX`), and RedBeat at each tick (set the time to
 * live anew, if the lock is still one's own). KEYS lock. ARGV token, milliseconds.
 */
export const LEAD: Script = {
  name: 'lead',
  keys: 1,
  lua: `
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 2 end
return 0`,
};

/** Whether this process leads: `kept` from before, `taken` just now, or `other`. */
export type Lead = 'kept' | 'taken' | 'other';

export function lead(lock: string, token: string, ttlMs: number): Exchange<Lead> {
  return {
    commands: [callScript(LEAD, [lock], [token, Math.ceil(ttlMs)])],
    atomic: false,
    read: ([reply]) => (reply === 1 ? 'kept' : reply === 2 ? 'taken' : 'other'),
  };
}

/** redis-py's release: only one's own lock. KEYS lock. ARGV token. */
export const RESIGN: Script = {
  name: 'resign',
  keys: 1,
  lua: `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end`,
};

export function resign(lock: string, token: string): Exchange<void> {
  return { commands: [callScript(RESIGN, [lock], [token])], atomic: false, read: () => undefined };
}

/** A message to push with the claim of its run. */
export interface Push {
  readonly key: string;
  readonly envelope: Uint8Array | string;
}

/**
 * `claimed`: the state is written and what was to be pushed is pushed. `superseded`: somebody ran the entry, or took its
 * definition away, since it was read. `deposed`: somebody else leads.
 */
export type Claimed = 'claimed' | 'superseded' | 'deposed';

const CLAIMED: readonly Claimed[] = ['deposed', 'superseded', 'claimed'];

export function readClaimed([reply]: readonly unknown[]): Claimed {
  return CLAIMED[reply as number] ?? 'deposed';
}

/**
 * KEYS lock, runs, then a list a push. ARGV token, entry, state as it was read ('' where there was none), new state, then an
 * envelope a push.
 */
export const RUN: Script = {
  name: 'run',
  keys: 'variable',
  lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], ARGV[2]) or '') ~= ARGV[3] then return 1 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
for i = 3, #KEYS do redis.call('LPUSH', KEYS[i], ARGV[i + 2]) end
return 2`,
};

export function claimRun(
  keys: BeatKeys,
  token: string,
  entry: { readonly name: string; readonly before: string; readonly after: string },
  pushes: readonly Push[] = [],
): Exchange<Claimed> {
  const args = [token, entry.name, entry.before, entry.after, ...pushes.map(({ envelope }) => envelope)];
  return {
    commands: [callScript(RUN, [keys.lock, keys.runs, ...pushes.map(({ key }) => key)], args)],
    atomic: false,
    read: readClaimed,
  };
}

/** The states of all entries, as texts. */
export function runs(keys: BeatKeys): Exchange<ReadonlyMap<string, string>> {
  return {
    commands: [['HGETALL', keys.runs]],
    atomic: false,
    read: ([reply]) => {
      const flat = (reply as readonly unknown[]).map(String);
      return new Map(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] as string] as const] : [])));
    },
  };
}

/** New entries begin with this state; states of entries that are no more are removed. */
export function keepRuns(
  keys: BeatKeys,
  begin: readonly { readonly name: string; readonly state: string }[],
  gone: readonly string[],
): Exchange<void> {
  const commands: Command[] = begin.map(({ name, state }) => ['HSETNX', keys.runs, name, state]);
  if (gone.length > 0) commands.push(['HDEL', keys.runs, ...gone]);
  return { commands, atomic: commands.length > 1, read: () => undefined };
}
