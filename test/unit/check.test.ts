import { expect, test } from 'vitest';
import { checkOptions, object, seconds, text } from '../../src/check.ts';

const checks = { broker: text, timeout: seconds, transport: object({ visibility: seconds }) };
const message = (options: unknown): string => {
  try {
    checkOptions('system', options, checks, { broker_url: 'broker', visibility: 'transport.visibility' });
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
  return 'accepted';
};

test.each([
  [{}, 'accepted'],
  [{ broker: undefined }, 'accepted'],
  [5, 'ConfigError: system: options must be an object, not 5'],
  [{ brokr: 'a' }, "ConfigError: system: unknown option 'brokr'; did you mean 'broker'?"],
  [{ BROKER_URL: 'a' }, "ConfigError: system: unknown option 'BROKER_URL'; did you mean 'broker'?"],
  [{ visibility: 5 }, "ConfigError: system: unknown option 'visibility'; did you mean 'transport.visibility'?"],
  [{ zzz: 5 }, "ConfigError: system: unknown option 'zzz'; known are broker, timeout, transport"],
  [{ timeout: -1 }, 'ConfigError: system: timeout must be a number of seconds, 0 or more, not -1'],
  [{ broker: 5 }, 'ConfigError: system: broker must be a text, not 5'],
  [{ transport: 'x' }, 'ConfigError: system: transport must be an object, not "x"'],
  [
    { transport: { visibilty: 5 } },
    "ConfigError: system: transport has an unknown option 'visibilty'; did you mean 'visibility'?",
  ],
  [
    { transport: { visibility: 'long' } },
    'ConfigError: system: transport has an option \'visibility\' that must be a number of seconds, 0 or more, not "long"',
  ],
])('%j: %s', (options, said) => {
  expect(message(options)).toBe(said);
});
