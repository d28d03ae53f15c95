import { describe, expect, it } from 'vitest';
import { checkJobId, checkQueueName, dependenciesKey, queueOf, splitExecution } from '../../../protocols/rq/keys.ts';
import { readResult, readReturnValue, writeResult } from '../../../protocols/rq/result.ts';
import { dumps, loads, sniff } from '../../../protocols/rq/serializers.ts';
import { dateText, dueScore, epochText, readDate } from '../../../protocols/rq/times.ts';

const flatOf = (fields: Readonly<Record<string, string>>): Buffer[] =>
  Object.entries(fields).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)]);

describe('an entry of the results', () => {
  it('of a success is read as Python wrote it', () => {
    const entry = readResult(
      '1795219015027-0',
      flatOf({
        type: '1',
        worker_name: 'w1',
        return_value: 'gAVLAy4=',
        execution_id: '78fadc62',
        execution_started_at: '1795219015.018089',
        execution_ended_at: '1795219015.026995',
      }),
    );
    expect(entry).toMatchObject({ type: 'successful', workerName: 'w1', executionId: '78fadc62' });
    expect(entry.createdAt).toEqual(new Date(1795219015027));
    expect(readReturnValue(entry)).toBe(3);
  });
  it('is the same once it was written', () => {
    const entry = {
      type: 'failed' as const,
      workerName: 'w',
      excString: 'Traceback …\nError: ü',
      executionId: 'e',
      startedAt: 1_000,
      endedAt: 2_500,
    };
    const flat = writeResult(entry);
    expect(flat.filter((_, at) => at % 2 === 0)).toEqual([
      'type',
      'worker_name',
      'exc_string',
      'execution_id',
      'execution_started_at',
      'execution_ended_at',
    ]);
    expect(flat.slice(-4)).toEqual(['execution_started_at', '1.0', 'execution_ended_at', '2.5']);
    expect(
      readResult(
        '0-1',
        flat.map((one) => Buffer.from(one)),
      ),
    ).toMatchObject(entry);
  });
  it('without a value is None', () => {
    expect(readReturnValue(readResult('0-1', flatOf({ type: '1', worker_name: '' })))).toBeNull();
  });
  it.each([{}, { type: '9' }, { type: 'x' }, { type: '1', execution_started_at: '2026-11-20' }])(
    '%j is refused, as RQ does',
    (fields) => {
      expect(() => readResult('0-1', flatOf(fields))).toThrow(expect.objectContaining({ code: 'undecodable' }));
    },
  );
});

it.each([
  [Buffer.from('80054b032e', 'hex'), 'pickle', 3],
  [Buffer.from('I3\n.'), 'pickle', 3],
  [Buffer.from('N.'), 'pickle', null],
  [Buffer.from('NaN'), 'json', Number.NaN],
  [Buffer.from('null'), 'json', null],
  [Buffer.from('true'), 'json', true],
  [Buffer.from('-3'), 'json', -3],
  [Buffer.from('"ab"'), 'json', 'ab'],
  [Buffer.from('(lp0\nI1\na.'), 'pickle', [1]],
])('%s is %s', (bytes, serializer, value) => {
  expect(sniff(bytes)).toBe(serializer);
  expect(loads(bytes)).toEqual(value);
});

it('JSON is written as Python writes it', () => {
  expect(dumps('json', ['jobs.add', null, [1], { b: 'ü' }]).toString()).toBe(
    '["jobs.add", null, [1], {"b": "\\u00fc"}]',
  );
});

it('times are written as Python writes them', () => {
  expect(dateText(new Date('2026-11-20T23:56:44.412Z'))).toBe('2026-11-20T23:56:44.412000Z');
  expect(dateText(readDate('2026-11-20T23:56:44.4Z')!)).toBe('2026-11-20T23:56:44.400000Z');
  expect(epochText(1_795_219_015_018)).toBe('1795219015.018');
  expect(dueScore(new Date(1_001))).toBe(2);
});

it('names are what RQ takes', () => {
  expect(dependenciesKey('j')).toBe('rq:job::j:dependencies');
  expect(queueOf('rq:queue:high')).toBe('high');
  expect(queueOf('high')).toBeUndefined();
  expect(splitExecution('j:e')).toEqual({ id: 'j', execution: 'e' });
  expect(splitExecution('a:b:e')).toEqual({ id: 'a:b', execution: 'e' });
  expect(splitExecution('j')).toEqual({ id: 'j', execution: undefined });
  for (const id of ['', 'a:b', 'a b', 'ü'])
    expect(() => checkJobId(id)).toThrow(expect.objectContaining({ code: 'bad-id' }));
  for (const queue of ['', 'a,b', 'a:intermediate'])
    expect(() => checkQueueName(queue)).toThrow(expect.objectContaining({ code: 'bad-queue' }));
});
