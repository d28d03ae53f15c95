/** RQ on the wire, as pure data: job hashes, serializers, results, transitions, what a worker shows of itself. */
export type { Disposition, Failure, Job, Moment, Outcome, Transition } from '../job.ts';
export type { Command, Exchange, Script } from '../redis.ts';
export { WireError } from '../errors.ts';
export { DateTime, Decimal, float, Numeral, PlainDate, PlainTime, Uuid } from '../formats/values.ts';
export * as pickle from '../formats/pickle/index.ts';
export * as keys from './keys.ts';
export * from './lifecycle.ts';
export * from './message.ts';
export * as presence from './presence.ts';
export * as redis from './redis.ts';
export * from './result.ts';
export * as schedule from './schedule.ts';
export * from './serializers.ts';
export * from './times.ts';
