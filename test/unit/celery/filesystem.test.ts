import { describe, expect, test } from 'vitest';
import {
  bindingOf,
  byAge,
  exchangeFileName,
  frontFileName,
  isResultFile,
  knownExchangeType,
  looksWhole,
  messageFile,
  messageFileName,
  outlasts,
  readTable,
  resultFileName,
  route,
  withBinding,
  writeTable,
} from '../../../protocols/celery/brokers/filesystem.ts';
import { markRedelivered } from '../../../protocols/celery/brokers/envelope.ts';

const UUID = '5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11';

describe('message files', () => {
  test('a name has kombu’s shape: clock, UUID, queue', () => {
    expect(messageFileName('celery', 4242, 10, UUID)).toBe('4242_0000000a-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg');
  });

  test.each([
    [`4242_${UUID}.celery.msg`, 'celery', 4242, false],
    [`4242_${UUID}.mail.high.msg`, 'mail.high', 4242, false],
    [`0_4242_${UUID}.celery.msg`, 'celery', 4242, true],
    [`0_${UUID}.celery.msg`, 'celery', 5, true],
  ])('%s is read', (name, queue, ms, front) => {
    expect(messageFile(name)).toEqual({ name, queue, ms, front });
  });

  test.each(['.jobglot-claimed', 'control', 'notes.txt', '.jobglot-box-1-2.ab~cd.tmp', 'x.msg'])(
    '%s is no message',
    (name) => {
      expect(messageFile(name)).toBeUndefined();
    },
  );

  test('a message given back to the front comes first, for us and in the order of text kombu uses', () => {
    const old = `99_${UUID}.q.msg`;
    const recent = `100_${UUID}.q.msg`;
    const front = frontFileName(recent);
    const ages = [recent, old, front].map((name) => messageFile(name)!).sort(byAge);
    expect(ages.map((file) => file.name)).toEqual([front, old, recent]);
    expect([recent, old, front].sort()[0]).toBe(front);
    expect(frontFileName(front)).toBe(front);
  });

  test.each(['../../etc/cron.d/x', 'a\\b', 'a\0b', ''])('the queue %j cannot reach out of the folder', (queue) => {
    expect(() => messageFileName(queue, 1, 0, UUID)).toThrow(/queue/);
    expect(() => resultFileName(queue)).toThrow(/task id/);
    expect(() => exchangeFileName(queue)).toThrow(/exchange/);
  });
});

describe('exchange tables', () => {
  test('a table is what kombu writes: newest first, empty texts', () => {
    const table = withBinding([bindingOf('celery', '', 'direct')], bindingOf('logs', 'log.*.#', 'topic'));
    expect(writeTable(table!)).toBe(String.raw`[["log.*.#", "^log\\..*?[^\\.]\\..*?$", "logs"], ["", "", "celery"]]`);
    expect(readTable(writeTable(table!))).toEqual(table);
  });

  test('a binding that is there is not added again', () => {
    const binding = bindingOf('q', 'key', 'direct');
    expect(withBinding([binding], ['key', '', 'q'])).toBeUndefined();
  });

  test.each(['', '{}', '[["a", "b"]]', '[["a", "b", 1]]', '[["a", "", "q"]'])('%j is no table', (text) => {
    expect(() => readTable(text)).toThrow();
  });

  const table = [bindingOf('a', 'x.y', 'direct'), bindingOf('t', 'x.*', 'topic'), bindingOf('u', '#', 'topic')];
  test.each([
    ['x.y', undefined, ['a', 't', 'u']],
    ['x.z', undefined, ['t', 'u']],
    ['x.y', 'direct', ['a']],
    ['nobody', 'fanout', ['a', 't', 'u']],
    ['z', undefined, ['u']],
  ] as const)('the key %s of an exchange of type %s reaches %j', (key, type, queues) => {
    expect(route(table, key, type)).toEqual(queues);
  });

  test('the mailbox is a fanout, its replies are direct, others are not known by name', () => {
    expect(['celery.pidbox', 'reply.celery.pidbox', 'celeryev'].map(knownExchangeType)).toEqual([
      'fanout',
      'direct',
      undefined,
    ]);
  });
});

describe('a message given back', () => {
  test('is marked where kombu marks it, and nowhere else', () => {
    const envelope =
      '{"body": "W10=", "headers": {"n": 1.0}, "properties": {"delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 0}}';
    expect(String(markRedelivered(Buffer.from(envelope)))).toBe(
      '{"body": "W10=", "headers": {"n": 1.0, "redelivered": true}, "properties": {"delivery_info": {"exchange": "", "routing_key": "q", "redelivered": true}, "priority": 0}}',
    );
  });

  test('stays as it is when it cannot be marked', () => {
    const bytes = Buffer.from('not JSON');
    expect(markRedelivered(bytes)).toBe(bytes);
  });
});

describe('results', () => {
  test.each([
    ['{"status": "SUCCESS", "result": 1}', true],
    ['{"status":"SUCCESS","result":1}', true],
    ['{"status": "FAILURE", "result": {"status": "SUCCESS"}}', false],
    ['{"result": NaN, "status": "SUCCESS"}', true],
    ['{"result": {"status": "SUCCESS"}, "status": "STARTED"}', false],
    ['', false],
    ['\x80\x04K\x01.', false],
  ])('%j outlasts everything: %s', (meta, success) => {
    expect(outlasts(Buffer.from(meta, 'latin1'), '{"status": "FAILURE"}')).toBe(success);
  });

  test.each([
    ['{"status": "FAILURE", "result": 1}', '{"status": "RETRY", "result": 1}', true],
    ['{"status": "REVOKED", "result": 1}', '{"result": NaN, "status": "RETRY"}', true],
    ['{"status": "FAILURE", "result": 1}', '{"status": "STARTED", "result": "RETRY"}', false],
    ['{"status": "STARTED", "result": 1}', '{"status": "RETRY", "result": 1}', false],
    ['{"status": "RETRY", "result": 1}', '{"status": "FAILURE", "result": 1}', false],
  ])('%s outlasts %s: %s', (stored, next, stays) => {
    expect(outlasts(Buffer.from(stored), next)).toBe(stays);
  });

  test.each([
    ['', false],
    ['{"status": "SUC', false],
    ['{"status": "SUCCESS"}', true],
    ['{"status": "SUCCESS"}\n', true],
    ['\x80\x04K\x01.', true],
  ])('%j looks whole: %s', (meta, whole) => {
    expect(looksWhole(Buffer.from(meta, 'latin1'))).toBe(whole);
  });

  test.each([
    ['celery-task-meta-1', '', true],
    ['celery-taskset-meta-1', '', true],
    ['chord-unlock-1', '', true],
    ['app_celery-task-meta-1', 'app_', true],
    ['celery-task-meta-1', 'app_', false],
    ['photo.jpg', '', false],
  ])('%s with the prefix %j is a result: %s', (name, prefix, result) => {
    expect(isResultFile(name, prefix)).toBe(result);
  });
});
