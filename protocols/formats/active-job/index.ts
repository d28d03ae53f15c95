/**
 * Active Job: the job that Rails puts into the one argument of a job of Sidekiq, Resque or another system, and the encoding of its
 * arguments. JSON values in, JSON values out: the text around them is the system's own.
 *
 *     nil, true, a number, a text      as in JSON                             GlobalId       {"_aj_globalid": "gid://shop/Order/42"}
 *     Array                            array                                  RubySymbol     {"_aj_serialized": "…SymbolSerializer", "value": "daily"}
 *     Hash, keywords                   object with "_aj_symbol_keys" or       RubyTime       {"_aj_serialized": "…TimeSerializer", "value": …}
 *                                      "_aj_ruby2_keywords": its symbols      RubyDateTime, TimeWithZone, PlainDate, Duration, RubyModule,
 *     HashWithIndifferentAccess        object with                            RubyRange (Rails 7.0), Decimal (Rails 7.1)   likewise
 *                                      "_aj_hash_with_indifferent_access"     SerializedObject                             of the application
 *
 * Follows activejob 6.1.7 to 8.1.3: lib/active_job/{arguments,core,exceptions,continuation}.rb, serializers/*.rb, and globalid.
 */
export { DateTime, Decimal, Numeral, PlainDate } from '../values.ts';
export { decodeArgument, decodeArguments, type DecodeOptions, splitKeywords } from './decode.ts';
export { encodeArgument, encodeArguments, type EncodeOptions } from './encode.ts';
export { type HashKind, hashKind, indifferentHash, keywordHash, RubyHash, symbolKeys, symbolsOf } from './hashes.ts';
export { activeJob } from './handed.ts';
export * from './job.ts';
export { type RailsVersion, railsVersions } from './rails.ts';
export * from './values.ts';
