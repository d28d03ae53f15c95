/** Sidekiq on the wire, as pure data: the job hash, its life, keys and round trips, what a process shows of itself. */
export type { Disposition, Failure, Job, Moment, Outcome, Transition } from '../job.ts';
export type { Command, Exchange, Script } from '../redis.ts';
export { WireError } from '../errors.ts';
export { float, Numeral } from '../formats/values.ts';
export * as json from '../formats/ruby-json.ts';
export * from './backtrace.ts';
export * from './dialect.ts';
export * as iteration from './iteration.ts';
export * from './keys.ts';
export * from './lifecycle.ts';
export * from './message.ts';
export * from './metrics.ts';
export * from './options.ts';
export * as presence from './presence.ts';
export * as redis from './redis.ts';
export * from './timestamps.ts';
