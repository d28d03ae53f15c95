/** What users of Sidekiq and of Resque need of Active Job, beside the client: the kinds of its arguments, and a job as it was handed over. */
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
