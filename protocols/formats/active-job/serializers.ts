/** Names on the wire: the marks of Active Job's arguments.rb, and the serializers of serializers/*.rb. */

export const GLOBAL_ID = '_aj_globalid';
export const SERIALIZED = '_aj_serialized';
export const SYMBOL_KEYS = '_aj_symbol_keys';
export const KEYWORDS = '_aj_ruby2_keywords';
export const INDIFFERENT = '_aj_hash_with_indifferent_access';

/** Keys that a hash of the application must not have: Rails refuses them, too. */
export const RESERVED: ReadonlySet<string> = new Set([GLOBAL_ID, SERIALIZED, SYMBOL_KEYS, KEYWORDS, INDIFFERENT]);

export const SYMBOL = 'ActiveJob::Serializers::SymbolSerializer';
export const DURATION = 'ActiveJob::Serializers::DurationSerializer';
export const TIME = 'ActiveJob::Serializers::TimeSerializer';
export const DATE_TIME = 'ActiveJob::Serializers::DateTimeSerializer';
export const DATE = 'ActiveJob::Serializers::DateSerializer';
export const TIME_WITH_ZONE = 'ActiveJob::Serializers::TimeWithZoneSerializer';
export const MODULE = 'ActiveJob::Serializers::ModuleSerializer';
export const RANGE = 'ActiveJob::Serializers::RangeSerializer';
export const BIG_DECIMAL = 'ActiveJob::Serializers::BigDecimalSerializer';

/** The members that Rails writes beside the name, in its order. An object with more or fewer members, or in another order, is kept as decoded. */
export const MEMBERS: ReadonlyMap<string, readonly string[]> = new Map([
  [SYMBOL, ['value']],
  [DURATION, ['value', 'parts']],
  [TIME, ['value']],
  [DATE_TIME, ['value']],
  [DATE, ['value']],
  [TIME_WITH_ZONE, ['value', 'time_zone']],
  [MODULE, ['value']],
  [RANGE, ['begin', 'end', 'exclude_end']],
  [BIG_DECIMAL, ['value']],
]);
