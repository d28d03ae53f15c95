/**
 * The parts of Active Job that users of Sidekiq and of Resque need, beside the client: the types of its arguments, and the data of the job that a
 * handler got.
 */
export { float, Numeral } from '../values.ts';
export {
  type ActiveJob,
  activeJob,
  DateTime,
  Decimal,
  Duration,
  GlobalId,
  indifferentHash,
  keywordHash,
  PlainDate,
  RubyDateTime,
  RubyHash,
  RubyModule,
  RubyRange,
  RubySymbol,
  RubyTime,
  SerializedObject,
  symbolKeys,
  TimeWithZone,
} from './index.ts';
