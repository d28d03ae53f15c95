/** Celery on the wire, as pure data: messages, serializers, signatures, results, the state machine, kombu on Redis. */
export type { Disposition, Failure, Job, Moment, Outcome, Transition } from '../job.ts';
export type { Command, Exchange, Script } from '../redis.ts';
export { WireError } from '../errors.ts';
export { DateTime, Decimal, float, isoText, Numeral, parseIso, PlainDate, PlainTime, Uuid } from '../formats/values.ts';
export * from './clock.ts';
export { type ArgumentKind, type CommandSpec, commandOf, COMMANDS } from './commands.ts';
export * from './envelope.ts';
export * from './event.ts';
export * from './exceptions.ts';
export * from './lifecycle.ts';
export * from './message.ts';
export * from './pidbox.ts';
export * as redis from './redis.ts';
export * from './repr.ts';
export * from './result.ts';
export * as schedule from './schedule.ts';
export * from './serializers.ts';
export * as signature from './signature.ts';
