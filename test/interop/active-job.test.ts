import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  decodeArguments,
  Duration,
  encodeArguments,
  GlobalId,
  hashKind,
  indifferentHash,
  nextRun,
  PlainDate,
  readJob,
  RubyDateTime,
  RubyHash,
  RubyModule,
  RubySymbol,
  RubyTime,
  SerializedObject,
  splitKeywords,
  symbolsOf,
  TimeWithZone,
  writeJob,
} from '../../protocols/formats/active-job/index.ts';
import { nanosText } from '../../protocols/formats/active-job/times.ts';
import { parseExact } from '../../protocols/formats/json.ts';
import { floatText, stringify } from '../../protocols/formats/ruby-json.ts';
import { Numeral } from '../../protocols/formats/values.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { Ruby } from '../support/ruby.ts';

/** What Ruby and we say a value is: `describe` in apps/ruby/values.rb. */
type Words = readonly [string, ...unknown[]];

const COUNT = 400;

describe('arguments of Active Job', () => {
  let redis: RedisServer;
  let ruby: Ruby;
  beforeAll(async () => {
    redis = await startRedis();
    ruby = await Ruby.start({ redis: redis.url });
  });
  afterAll(async () => {
    await ruby[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });

  /** Ruby reads these lists of arguments: what each is, and how Ruby writes it again. */
  function read(texts: readonly string[]): Promise<readonly { readonly words: Words; readonly text: string }[]> {
    return ruby.run(
      `values['texts'].map do |text|
         arguments = ActiveJob::Arguments.deserialize(JSON.parse(text))
         { words: Values.describe(arguments), text: JSON.generate(ActiveJob::Arguments.serialize(arguments)) }
       rescue Exception => e
         raise "#{e.class}: #{e.message} in #{text}"
       end`,
      { texts },
    );
  }

  test(`${COUNT} that Ruby makes are what Ruby says they are, and go back to the letter`, async () => {
    const made = await ruby.run<{ readonly words: Words; readonly text: string }[]>(
      `Array.new(values['count']) do |seed|
         random = Random.new(seed)
         arguments = Array.new(random.rand(1..4)) { Values.arbitrary(random) }
         arguments << Hash.ruby2_keywords_hash(Values.pairs(random, 2).transform_keys(&:to_sym)) if random.rand(3).zero?
         { words: Values.describe(arguments), text: JSON.generate(ActiveJob::Arguments.serialize(arguments)) }
       end`,
      { count: COUNT },
    );
    expect(made).toHaveLength(COUNT);
    for (const { words, text } of made) {
      const exact = decodeArguments(parseExact(text), { exact: true });
      expect(described(exact)).toEqual(words);
      expect(stringify(encodeArguments(exact))).toBe(text);
      // With plain objects only the order of keys that look like numbers is lost.
      const { args, kwargs } = splitKeywords(decodeArguments(parseExact(text)));
      expect(sorted(parseExact(stringify(encodeArguments(args, kwargs))))).toEqual(sorted(parseExact(text)));
    }
  });

  test(`${COUNT} that we make are what we say they are, and Ruby writes them as we did`, async () => {
    const made = fc.sample(fc.tuple(fc.array(argument, { maxLength: 4 }), keywords), { numRuns: COUNT, seed: 1 });
    const texts = made.map(([args, kwargs]) => stringify(encodeArguments(args, kwargs)));
    const all = await read(texts);
    for (const [index, [args, kwargs]] of made.entries()) {
      const list = kwargs.size === 0 ? args : [...args, new RubyHash(kwargs, 'keywords', kwargs.keys())];
      expect(all[index]?.words).toEqual(described(list));
      expect(all[index]?.text).toBe(texts[index]);
    }
  });

  test('times of JavaScript are times of Ruby', async () => {
    const times = [
      '1970-01-01T00:00:00Z',
      '2026-11-21T09:17:00.123Z',
      '0001-01-01T00:00:00Z',
      '9999-12-31T23:59:59.999Z',
    ];
    const [all] = await read([stringify(encodeArguments(times.map((time) => new Date(time))))]);
    expect(all?.words).toEqual(['list', times.map((time) => ['time', nanosText(new Date(time))])]);
  });

  test('the deepest arguments that we write, Ruby reads in a job', async () => {
    const nested = (levels: number): unknown => {
      let value: unknown = 1;
      for (let level = 0; level < levels; level += 1) value = [value];
      return value;
    };
    const job = (list: unknown): string => stringify({ args: [{ arguments: list }] }, { maxDepth: 200 });
    const parse = 'JSON.parse(values["text"]); JSON.generate(JSON.parse(values["text"])).size';
    await ruby.run(parse, { text: job(encodeArguments([nested(96)])) });
    await expect(ruby.run(parse, { text: job([nested(97)]) })).rejects.toThrow('NestingError');
    expect(() => encodeArguments([nested(97)])).toThrow('nested more than 97 levels deep');
  });

  test('what we refuse to write, Ruby could not read', async () => {
    await expect(ruby.run('JSON.parse(values["text"])', { text: '["\\ud800"]' })).rejects.toThrow('ParserError');
    for (const text of [
      '[{"_aj_serialized":"ActiveJob::Serializers::RangeSerializer","begin":1,"end":2,"exclude_end":false}]',
      '[{"_aj_serialized":"ActiveJob::Serializers::BigDecimalSerializer","value":"1.5"}]',
    ])
      await expect(read([text])).rejects.toThrow(ruby.versions.activejob.startsWith('6.') ? 'is not known' : 'never');
  });

  test('a job that we write is run, with its locale and its zone', async () => {
    const job = writeJob({
      jobClass: 'EchoJob',
      jobId: '0e0c2a0a-9f6d-4f0b-8f0e-1f8d3f9a1b2c',
      queueName: 'default',
      args: ['a', new RubySymbol('b'), new PlainDate('2024-02-29')],
      kwargs: { times: 2, nested: { x: 1 } },
      locale: 'en',
      timezone: 'Asia/Kolkata',
      enqueuedAt: new Date(),
    });
    const noted = await ruby.run<Record<string, unknown>>(
      `Sidekiq.redis { |redis| redis.del('ran') }
       ActiveJob::Base.execute(JSON.parse(values['text']))
       JSON.parse(Sidekiq.redis { |redis| redis.lpop('ran') })`,
      { text: stringify(job) },
    );
    expect(noted).toMatchObject({
      class: 'EchoJob',
      id: '0e0c2a0a-9f6d-4f0b-8f0e-1f8d3f9a1b2c',
      executions: 1,
      locale: 'en',
      timezone: 'Asia/Kolkata',
      args: [
        ['str', 'a'],
        ['sym', 'b'],
        ['date', '2024-02-29'],
      ],
      keywords: [
        'hash',
        [
          [
            ['sym', 'times'],
            ['int', '2'],
          ],
          [
            ['sym', 'nested'],
            [
              'hash',
              [
                [
                  ['str', 'x'],
                  ['int', '1'],
                ],
              ],
            ],
          ],
        ],
      ],
    });
  });

  test('a job that we run again is run again by Ruby, which counts on', async () => {
    const first = await ruby.run<string>(`JSON.generate(StubbornJob.new('retry').serialize)`);
    const again = nextRun(readJob(parseExact(first)), {
      enqueuedAt: new Date(),
      executions: 1,
      exceptionExecutions: new Map([['[Boom]', 1]]),
      providerJobId: 'abc',
    });
    await ruby.run(`ActiveJob::Base.execute(JSON.parse(values['text']))`, {
      text: stringify(again),
    });
    const left = await ruby.run<string>(`Sidekiq::ScheduledSet.new.map(&:value).first`);
    const [data] = (parseExact(left) as ReadonlyMap<string, unknown>).get('args') as readonly unknown[];
    const job = readJob(data);
    expect({ executions: job.executions, counts: [...job.exceptionExecutions], queue: job.queueName }).toEqual({
      executions: 2,
      counts: [['[Boom]', 2]],
      queue: 'again',
    });
  });
});

/** As apps/ruby/values.rb has it. */
function described(value: unknown): Words {
  if (value === null || value === undefined) return ['nil'];
  switch (typeof value) {
    case 'boolean':
      return ['bool', value];
    case 'bigint':
      return ['int', String(value)];
    case 'number':
      return Number.isSafeInteger(value) && !Object.is(value, -0)
        ? ['int', String(value)]
        : ['float', floatText(value)];
    case 'string':
      return ['str', value];
    default:
      return describedObject(value as object);
  }
}

function describedObject(value: object): Words {
  if (value instanceof Numeral) return ['float', value.text];
  if (Array.isArray(value)) return ['list', value.map(described)];
  if (value instanceof RubySymbol) return ['sym', value.name];
  if (value instanceof RubyModule) return ['module', value.name];
  if (value instanceof GlobalId) return ['record', value.uri];
  if (value instanceof PlainDate) return ['date', value.iso];
  if (value instanceof TimeWithZone) return ['zoned', value.iso];
  if (value instanceof RubyDateTime) return ['datetime', value.iso];
  if (value instanceof RubyTime) return ['time', value.iso];
  if (value instanceof Duration) {
    const parts = value.parts.map(([unit, amount]) => [unit, described(amount)]);
    return ['duration', described(value.seconds), parts];
  }
  if (value instanceof SerializedObject) {
    return ['money', described(value.members.get('cents')), value.members.get('currency')];
  }
  const entries = [...(value as ReadonlyMap<string, unknown>)];
  const kind = hashKind(value) ?? 'hash';
  if (kind === 'indifferent') return [kind, entries.map(([key, item]) => [key, described(item)])];
  const symbols = symbolsOf(value);
  return [kind, entries.map(([key, item]) => [symbols.has(key) ? ['sym', key] : ['str', key], described(item)])];
}

/** Objects with their keys in order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!(value instanceof Map)) return value;
  const entries = [...(value as ReadonlyMap<string, unknown>)].map(([key, item]) => [
    key,
    key === '_aj_symbol_keys' || key === '_aj_ruby2_keywords' ? (item as string[]).toSorted() : sorted(item),
  ]);
  return new Map((entries as [string, unknown][]).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.string({ maxLength: 8 }),
  fc.constantFrom('', '😀', '_aj_x'),
);
const key = fc.oneof(text, fc.constantFrom('1', '10', '__proto__', 'constructor', 'value'));
const number = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  fc
    .bigInt({ min: -(10n ** 30n), max: 10n ** 30n })
    .map((value) => (Number.isSafeInteger(Number(value)) ? Number(value) : value)),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(new Numeral('1.0'), new Numeral('-0.0'), 1e15, 1e16, 1e21, 0.1, 1e-5, 5e-324),
);
const offset = fc.constantFrom('Z', '+02:00', '-03:30', '+05:30');
/** With Ruby's nine decimals. */
const iso = fc
  .tuple(
    fc.date({ min: new Date('0001-01-02'), max: new Date('9999-12-30'), noInvalidDate: true }),
    fc.nat(999_999),
    offset,
  )
  .map(([date, nanos, zone]) => `${date.toISOString().slice(0, -1)}${String(nanos).padStart(6, '0')}${zone}`);
const day = fc
  .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  .map((date) => new PlainDate(date.toISOString().slice(0, 10)));
const duration = fc
  .dictionary(
    fc.constantFrom('seconds', 'minutes', 'hours', 'days', 'weeks', 'months', 'years'),
    fc.integer({ min: 1, max: 99 }),
    { minKeys: 1, noNullPrototype: true },
  )
  .map((parts) => Duration.of(parts));
const record = fc
  .tuple(
    fc.constantFrom('Order', 'Billing::Invoice'),
    fc.oneof(fc.integer({ min: 1 }), fc.constantFrom('a b', 'é', 'x/y', 'a+b&c=d')),
  )
  .map(([model, id]) => new GlobalId('shop', model, id));
const money = fc.nat(1000).map((cents) => new SerializedObject('MoneySerializer', { cents, currency: 'EUR' }));

const { argument } = fc.letrec<{ argument: unknown }>((tie) => {
  const entries = fc.uniqueArray(fc.tuple(key, tie('argument')), { maxLength: 4, selector: ([name]) => name });
  return {
    argument: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom(null, true, false),
      number,
      text,
      text.map((name) => new RubySymbol(name)),
      fc.constantFrom('String', 'Comparable', 'Billing::Invoice').map((name) => new RubyModule(name)),
      iso.map((time) => new RubyTime(time)),
      iso.map((time) => new RubyDateTime(time.replace('Z', '+00:00'))),
      // Rails before 7.1 keeps no zone: it is that of who reads, UTC.
      iso.map((time) => new TimeWithZone(time.replace(/(?:Z|[+-]\d\d:\d\d)$/, 'Z'), undefined)),
      day,
      duration,
      record,
      money,
      fc.array(tie('argument'), { maxLength: 4 }),
      fc.tuple(entries, fc.nat(4)).map(
        ([pairs, symbols]) =>
          new RubyHash(
            pairs,
            'hash',
            pairs.slice(0, symbols).map(([name]) => name),
          ),
      ),
      // Ruby makes the hashes in it indifferent as well.
      fc
        .dictionary(
          key,
          fc.oneof(
            number,
            text,
            iso.map((time) => new RubyTime(time)),
          ),
        )
        .map((pairs) => indifferentHash(pairs)),
    ),
  };
});
const keywords = fc
  .uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'times', 'with space'), argument), {
    maxLength: 2,
    selector: ([name]) => name,
  })
  .map((entries) => new Map(entries));
