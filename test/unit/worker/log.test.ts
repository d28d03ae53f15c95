import { describe, expect, test } from 'vitest';
import { createLogger, type LogLevel, logs, silent } from '../../../src/log.ts';

function written(
  level: LogLevel,
  format: 'json' | 'text',
  isTTY?: boolean,
): { lines: string[]; log: ReturnType<typeof createLogger> } {
  const lines: string[] = [];
  const stream = { write: (text: string) => lines.push(text), ...(isTTY === undefined ? {} : { isTTY }) };
  return { lines, log: createLogger({ level, format, stream }) };
}

describe('the plain logger', () => {
  test('writes one JSON object a line, whatever is in the fields', () => {
    const { lines, log } = written('info', 'json');
    log.info({ id: 'a\nb', error: new TypeError('no'), big: 10n ** 20n }, 'said "this"');
    expect(lines.length).toBe(1);
    expect(lines[0]?.endsWith('\n')).toBe(true);
    expect(lines[0]?.trimEnd()).not.toContain('\n');
    expect(JSON.parse(lines[0] as string)).toMatchObject({
      level: 'info',
      msg: 'said "this"',
      id: 'a\nb',
      error: 'TypeError: no',
      big: '100000000000000000000',
    });
  });

  test('writes a short line for people', () => {
    const { lines, log } = written('info', 'text');
    log.warn({ queue: 'celery', ms: 3 }, 'slow');
    expect(lines).toEqual([
      expect.stringMatching(/^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3}\] WARN {2}slow {2}queue=celery ms=3\n$/),
    ]);
  });

  test.each<[LogLevel, number]>([
    ['debug', 4],
    ['info', 3],
    ['warn', 2],
    ['error', 1],
    ['silent', 0],
  ])('at %s, %i of the four levels are written', (level, count) => {
    const { lines, log } = written(level, 'json');
    for (const each of ['debug', 'info', 'warn', 'error'] as const) log[each]({}, each);
    expect(lines.length).toBe(count);
    expect((['debug', 'info', 'warn', 'error'] as const).filter((each) => logs(log, each)).length).toBe(count);
  });

  test('the silent one says so before anything is built', () => {
    expect(logs(silent, 'error')).toBe(false);
  });
});
