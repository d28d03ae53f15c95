import { ConfigError } from '../../errors.ts';
import type { RqOptions } from './options.ts';
import { RqSource } from './source.ts';

export type { RqCallback, RqCallbackCall, RqCallbacks, RqFailure, RqStopped, RqSuccess } from './callbacks.ts';
export type { RqAppOptions, RqOptions } from './options.ts';
export { RqSource } from './source.ts';
export {
  ByteArray,
  FrozenSet,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
  ZonedDateTime,
} from '../../../protocols/formats/pickle/index.ts';
export { DateTime, Decimal, float, Numeral, PlainDate, PlainTime, Uuid } from '../../../protocols/formats/values.ts';

/**
 * RQ queues as a source of a worker: `new Worker({ tasks, sources: [rq({ url: 'redis://localhost', queues: ['high', 'default'] })] })`.
 * Throws ConfigError for options that cannot work. Nothing is opened before the worker starts.
 */
export function rq(options: RqOptions): RqSource {
  if (options.url === '' || options.url === undefined)
    throw new ConfigError("rq: url is missing; pass one such as 'redis://localhost:6379/0'");
  return new RqSource(options);
}
