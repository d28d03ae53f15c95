import { describe, expect, test } from 'vitest';
import {
  amount,
  anything,
  boolean,
  callable,
  type Check,
  checkOptions,
  checkRetryPolicy,
  date,
  either,
  listOf,
  milliseconds,
  name,
  names,
  nearest,
  object,
  oneOf,
  record,
  seconds,
  text,
  unknownOption,
  wholeNumber,
} from '../../src/check.ts';
import { ConfigError } from '../../src/errors.ts';

function refused(value: unknown, checks: Readonly<Record<string, Check>>): string {
  try {
    checkOptions('here', value, checks);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
  return 'taken';
}

/** The message about one option. */
function about(check: Check, value: unknown): string {
  return refused({ option: value }, { option: check }).replace('here: option ', '');
}

describe('options of a caller', () => {
  const checks = { concurrency: wholeNumber(1), queues: names, log: anything };

  test('right ones are taken, and an undefined one counts as left out', () => {
    expect(refused({}, checks)).toBe('taken');
    expect(refused({ concurrency: 1, queues: ['a'], log: () => undefined }, checks)).toBe('taken');
    expect(refused({ concurrency: undefined }, checks)).toBe('taken');
  });

  test('an unknown name is refused with the nearest right one, though its value is undefined', () => {
    expect(refused({ concurency: 2 }, checks)).toBe("here: unknown option 'concurency'; did you mean 'concurrency'?");
    expect(refused({ queue: undefined }, checks)).toBe("here: unknown option 'queue'; did you mean 'queues'?");
  });

  test('a name that is near none is refused with all right ones, sorted', () => {
    expect(refused({ verbose: true }, checks)).toBe(
      "here: unknown option 'verbose'; known are concurrency, log, queues",
    );
  });

  test('names that every object inherits are unknown options', () => {
    expect(refused({ toString: 1 }, checks)).toContain("unknown option 'toString'");
    expect(refused(JSON.parse('{"__proto__": 1}'), checks)).toContain("unknown option '__proto__'");
  });

  test('a wrong value is refused with what it may be and what it is', () => {
    expect(refused({ concurrency: 0 }, checks)).toBe('here: concurrency must be a whole number, 1 or more, not 0');
    expect(refused({ queues: 'celery' }, checks)).toBe(
      'here: queues must be a list of texts: [\'default\'], not "celery"',
    );
  });

  test.each([
    [null, 'null'],
    [undefined, 'undefined'],
    [5, '5'],
    ['celery', '"celery"'],
    [['celery'], 'a list'],
    [() => undefined, 'a function'],
  ])('%j instead of an object is refused', (value, shown) => {
    expect(refused(value, checks)).toBe(`here: options must be an object, not ${shown}`);
  });
});

describe('the nearest name', () => {
  const known = ['concurrency', 'queues', 'prefix', 'url', 'acksLate', 'visibilityTimeoutMs', 'in'];

  test.each([
    ['concurency', 'concurrency'],
    ['cnocurrency', 'concurrency'],
    ['Queues', 'queues'],
    ['queue', 'queues'],
    ['acks_late', 'acksLate'],
    ['task-acks-late', undefined],
    ['ACKS_LATE', 'acksLate'],
    ['visibility_timeout_ms', 'visibilityTimeoutMs'],
    ['visibilityTimeout', 'visibilityTimeoutMs'],
    ['ulr', 'url'],
    ['uri', 'url'],
    ['prefx', 'prefix'],
    ['id', 'in'],
    ['middleware', undefined],
    ['', undefined],
  ])('of %j is %j', (wrong, right) => {
    expect(nearest(wrong, known)).toBe(right);
  });

  test('is the one with the fewest changes', () => {
    expect(nearest('timeout', ['timeouts', 'timeoot', 'tmieuot'])).toBe('timeouts');
    expect(nearest('softTimeoutMs', ['timeoutMs', 'softTimeoutMs'])).toBe('softTimeoutMs');
  });

  test('is none where nothing is known', () => {
    expect(nearest('queue', [])).toBeUndefined();
    expect(unknownOption('queue', [])).toBe("unknown option 'queue'; known are ");
  });
});

describe('what an option may be', () => {
  test.each<[string, Check, readonly unknown[], readonly unknown[], string]>([
    ['a text', text, ['', 'a'], [1, null, ['a']], 'must be a text'],
    ['a name', name, ['a'], ['', 1, null], 'must be a text that is not empty'],
    ['a boolean', boolean, [true, false], [0, 'true', null], 'must be true or false'],
    ['a function', callable, [() => 1, class {}], ['f', {}, null], 'must be a function'],
    ['an object', record, [{}, new Map()], [[], null, 'a'], 'must be an object'],
    ['a date', date, [new Date(0)], [new Date(Number.NaN), 0, '2026-01-01'], 'must be a Date'],
    ['names', names, [[], ['a', 'b']], ['a', [''], ['a', 1], null], "must be a list of texts: ['default']"],
    [
      'a whole number',
      wholeNumber(),
      [0, 1, Number.MAX_SAFE_INTEGER],
      [-1, 1.5, Number.NaN, Infinity, 2 ** 53, '1', 1n],
      'must be a whole number, 0 or more',
    ],
    ['a whole number in a range', wholeNumber(0, 9), [0, 9], [-1, 10, 0.5], 'must be a whole number, from 0 to 9'],
    [
      'milliseconds',
      milliseconds,
      [0, 0.5, 1e12],
      [-1, Number.NaN, Infinity, '1s'],
      'must be a number of milliseconds, 0 or more',
    ],
    ['seconds', seconds, [0, 0.5], [-0.1, Infinity], 'must be a number of seconds, 0 or more'],
    [
      'an amount without limit',
      amount('bytes', { least: 1, infinite: true }),
      [1, Infinity],
      [0, -Infinity, Number.NaN],
      'must be a number of bytes, 1 or more; Infinity for no limit',
    ],
    ['one of', oneOf('a', 2, null, true), ['a', 2, null, true], ['b', '2', 3, false], "must be 'a', 2, null or true"],
    ['one of one', oneOf('a'), ['a'], ['b'], "must be 'a'"],
    [
      'either',
      either(boolean, wholeNumber(1)),
      [true, 1],
      [0, 'yes'],
      'must be true or false, or a whole number, 1 or more',
    ],
    [
      'a list of',
      listOf(wholeNumber(1), 'whole numbers'),
      [[], [1, 2]],
      [1, [0], ['1']],
      'must be a list of whole numbers',
    ],
  ])('%s', (_, check, right, wrong, message) => {
    for (const value of right) expect(check(value), String(value)).toBeUndefined();
    for (const value of wrong) expect(check(value), String(value)).toBe(message);
  });

  test('anything is anything', () => {
    for (const value of [null, 0, '', [], {}]) expect(anything(value)).toBeUndefined();
  });
});

describe('an object inside', () => {
  const redis = object({ host: name, tls: object({ ca: text, verify: boolean }) });

  test('is taken where each of its options is', () => {
    expect(about(redis, {})).toBe('taken');
    expect(about(redis, { host: 'a', tls: { ca: 'x', verify: undefined } })).toBe('taken');
  });

  test('is refused with the name of the option inside', () => {
    expect(about(redis, 'a')).toBe('must be an object, not "a"');
    expect(about(redis, { host: '' })).toBe('has an option \'host\' that must be a text that is not empty, not ""');
    expect(about(redis, { hots: 'a' })).toBe("has an unknown option 'hots'; did you mean 'host'?");
    expect(about(redis, { tls: { verify: 1 } })).toBe(
      "has an option 'tls' that has an option 'verify' that must be true or false, not 1",
    );
  });
});

describe('a message', () => {
  test.each([
    ['a URL', 'redis://user:hunter2@host'],
    ['a URL without its scheme', ':hunter2@host:6379'],
    ['a long text', `${'x'.repeat(80)}hunter2`],
    ['a list', ['redis://:hunter2@host']],
    ['an object', { password: 'hunter2' }],
    ['a function', () => 'hunter2'],
  ])('never shows a password in %s', (_, value) => {
    expect(about(boolean, value)).not.toContain('hunter2');
    expect(refused(value, {})).not.toContain('hunter2');
  });

  test.each(['password', 'apiToken', 'clientSecret', 'passphrase', 'credentials'])(
    'never shows the value of %s',
    (option) => {
      const shown = refused({ [option]: 'hunter2' }, { [option]: boolean });
      expect(shown).toBe(`here: ${option} must be true or false, not a text`);
      expect(refused({ [option]: 2222 }, { [option]: text })).toBe(`here: ${option} must be a text, not a number`);
    },
  );

  test('never shows a password of an object inside', () => {
    const redis = object({ password: name });
    expect(about(redis, { password: 22222 })).toBe(
      "has an option 'password' that must be a text that is not empty, not a number",
    );
  });

  test('never shows the value of an option it does not know', () => {
    expect(refused({ pasword: 'hunter2' }, { password: text })).toBe(
      "here: unknown option 'pasword'; did you mean 'password'?",
    );
  });

  test('has one line, whatever the value', () => {
    expect(about(boolean, 'a\nb')).toBe('must be true or false, not "a\\nb"');
  });
});

describe('names of other software', () => {
  const checks = { broker: text, transport: object({ visibility: seconds }, { timeout: 'visibility' }) };
  const others = { broker_url: 'broker', visibility: 'transport.visibility' };
  const message = (value: unknown): string => {
    try {
      checkOptions('here', value, checks, others);
    } catch (error) {
      return (error as ConfigError).message;
    }
    return 'taken';
  };

  test.each([
    [{ BROKER_URL: 'a' }, "here: unknown option 'BROKER_URL'; did you mean 'broker'?"],
    [{ visibility: 5 }, "here: unknown option 'visibility'; did you mean 'transport.visibility'?"],
    [{ transport: { timeout: 5 } }, "here: transport has an unknown option 'timeout'; did you mean 'visibility'?"],
    [{ brokr: 'a' }, "here: unknown option 'brokr'; did you mean 'broker'?"],
    [{ zzz: 5 }, "here: unknown option 'zzz'; known are broker, transport"],
    [{ broker: 'a' }, 'taken'],
  ])('%j: %s', (options, said) => {
    expect(message(options)).toBe(said);
  });
});

test('a policy of retries is checked, and its backoff', () => {
  expect(() => checkRetryPolicy('here', undefined)).not.toThrow();
  expect(() => checkRetryPolicy('here', { max: 3, backoff: { factorMs: 10 } })).not.toThrow();
  expect(() => checkRetryPolicy('here', { backoff: { factor: 10 } })).toThrow(
    new ConfigError("here.backoff: unknown option 'factor'; did you mean 'factorMs'?"),
  );
});
