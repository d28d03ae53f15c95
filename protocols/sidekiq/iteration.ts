import { parse, stringify } from '../formats/ruby-json.ts';
import type { Command, Exchange } from '../redis.ts';
import { iterationKey, type Keyspace } from './keys.ts';

/**
 * The state of an iterable job, in `it-<jid>`: how often it was started, the cursor of the item about to run, seconds run, and when
 * it was cancelled. Mirrors lib/sidekiq/job/iterable.rb and client.rb cancel! (7.3 to 8.1).
 */
export interface Iteration {
  readonly executions: number;
  /** Undefined before the first item. */
  readonly cursor: unknown;
  /** Seconds. */
  readonly runtime: number;
  /** Unix seconds. */
  readonly cancelledAt: number | undefined;
}

/** Thirty days. */
const TTL = 2_592_000;

/** What is stored of a job; undefined for one that was never started nor cancelled. */
export function iteration(keys: Keyspace, jid: string): Exchange<Iteration | undefined> {
  return {
    commands: [['HGETALL', iterationKey(keys, jid)]],
    atomic: false,
    read: ([reply]) => {
      const flat = (reply as readonly Buffer[]).map(String);
      if (flat.length === 0) return undefined;
      const fields = new Map<string, string>();
      for (let at = 0; at < flat.length; at += 2) fields.set(flat[at] as string, flat[at + 1] as string);
      const cancelled = fields.get('cancelled');
      return {
        executions: Number(fields.get('ex') ?? 0) || 0,
        cursor: readCursor(fields.get('c')),
        runtime: Number(fields.get('rt') ?? 0) || 0,
        cancelledAt: cancelled === undefined ? undefined : Number(cancelled) || 0,
      };
    },
  };
}

/** Store where it is; whether it was cancelled meanwhile. One MULTI. */
export function saveIteration(
  keys: Keyspace,
  jid: string,
  { executions, cursor, runtime }: Omit<Iteration, 'cancelledAt'>,
): Exchange<boolean> {
  const key = iterationKey(keys, jid);
  return {
    commands: [
      ['HSET', key, 'ex', executions, 'c', stringify(cursor ?? null, { at: 'cursor' }), 'rt', runtime],
      ['EXPIRE', key, TTL],
      ['HGET', key, 'cancelled'],
    ],
    atomic: true,
    read: ([, , cancelled]) => cancelled !== null,
  };
}

export function isCancelled(keys: Keyspace, jid: string): Exchange<boolean> {
  return {
    commands: [['HGET', iterationKey(keys, jid), 'cancelled']],
    atomic: false,
    read: ([cancelled]) => cancelled !== null,
  };
}

/** It has ended: nothing is kept. */
export function endIteration(keys: Keyspace, jid: string): Command {
  return ['UNLINK', iterationKey(keys, jid)];
}

/**
 * Ask a job to end; when it was asked first, in unix seconds. A job that never ran gets a state too: Ruby cannot read one that
 * has only `cancelled`, and fails the job instead of cancelling it.
 */
export function cancel(keys: Keyspace, jid: string, nowSeconds: number): Exchange<number> {
  const key = iterationKey(keys, jid);
  return {
    commands: [
      ['HSETNX', key, 'cancelled', nowSeconds],
      ['HSETNX', key, 'c', 'null'],
      ['HSETNX', key, 'ex', 0],
      ['HSETNX', key, 'rt', 0],
      ['HGET', key, 'cancelled'],
      ['EXPIRE', key, TTL],
    ],
    atomic: false,
    read: ([, , , , cancelled]) => Number(String(cancelled as Buffer)),
  };
}

function readCursor(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return parse(text) ?? undefined;
  } catch {
    return undefined;
  }
}
