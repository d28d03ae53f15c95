import type { Item } from '../../../protocols/sidekiq/options.ts';
import type { AnyCall, ClientEvents, Envelope } from '../../client.ts';
import { ConfigError } from '../../errors.ts';
import type { EnqueueOptions, PerformLaterOptions } from './client-options.ts';

/** A call as client middleware sees it. `options` holds the options of the call that no other member names. `custom` members are its headers. */
export function envelopeOf(
  task: string,
  call: AnyCall<EnqueueOptions | PerformLaterOptions>,
  { jid, queue, at }: Pick<Item, 'jid' | 'queue' | 'at'>,
): Envelope {
  const { args = [], kwargs = {}, custom, queue: _queue, at: _at, in: _in, jid: _jid, ...options } = call;
  return {
    system: 'sidekiq',
    id: jid,
    task,
    args,
    kwargs: kwargs as Readonly<Record<string, unknown>>,
    queue,
    at: at === undefined ? undefined : new Date(at),
    headers: { ...custom },
    options,
  };
}

/** The call that an envelope holds after the last middleware. */
export function callOf({ id, args, kwargs, queue, at, headers, options }: Envelope): AnyCall<EnqueueOptions> {
  return {
    ...options,
    args,
    kwargs,
    ...(id === undefined ? {} : { jid: id }),
    ...(queue === undefined ? {} : { queue }),
    ...(at === undefined ? {} : { at }),
    ...(Object.keys(headers).length === 0 ? {} : { custom: headers }),
  };
}

/** The event data for a job that Redis has. `task` is the task that runs, not its wrapper. */
export function enqueued(
  task: string,
  { jid, queue, at }: Pick<Item, 'jid' | 'queue' | 'at'>,
): ClientEvents['job:enqueued'] {
  return { system: 'sidekiq', id: jid, task, queue, at: at === undefined ? undefined : new Date(at) };
}

/** Whether two calls differ only in their arguments. Such calls are written from one pattern. */
export function isAlike(one: object, other: object): boolean {
  const keys = Object.keys(other);
  if (keys.length === 1 && keys[0] === 'args' && Object.keys(one).length === 1) return 'args' in one;
  for (const key of keys) {
    if (key === 'args') continue;
    if (key === 'jid' || (one as Record<string, unknown>)[key] !== (other as Record<string, unknown>)[key])
      return false;
  }
  return Object.keys(one).every((key) => key === 'args' || Object.hasOwn(other, key));
}

/** Throws ConfigError unless every call has a list of arguments, or no arguments. */
export function checkCalls(method: string, calls: readonly unknown[]): void {
  if (!Array.isArray(calls))
    throw new ConfigError(`sidekiq: ${method}: calls must be a list of calls: [{ args: [1] }]`);
  for (const [at, call] of calls.entries() as IterableIterator<[number, unknown]>) {
    if (Array.isArray(call))
      throw new ConfigError(`sidekiq: ${method}: calls[${at}] must be a call: { args: [1, 2] }, not a list`);
    if (typeof call !== 'object' || call === null)
      throw new ConfigError(`sidekiq: ${method}: calls[${at}] must be a call: { args: [1, 2] }`);
  }
}
