import { expect, test } from 'vitest';
import { decodeTask, encodeTask } from '../../../protocols/celery/message/message.ts';
import { stringify } from '../../../protocols/formats/json.ts';
import { taskInfo } from '../../../src/drivers/celery/consumer/requests.ts';

test('a task that started at a whole second did so at a float, as Python writes it', () => {
  const { body, contentType, contentEncoding, headers } = encodeTask({
    task: 'shop.pay',
    id: 'a',
    args: [],
    kwargs: {},
    origin: 'gen1@h',
    exchange: '',
    routingKey: 'celery',
  });
  const wire = {
    body,
    contentType,
    contentEncoding,
    headers: Object.fromEntries(headers),
    properties: {},
    raw: undefined,
  };
  const message = decodeTask(
    wire,
    { accept: new Set(['application/json']), limits: { maxBytes: 1_000, maxDepth: 10 } },
    'celery',
  );
  const shown = stringify(taskInfo(message, 'n@h', { acknowledged: false, startedAt: 1_700_000_000 }));
  expect(shown).toMatch(/"time_start": ?1700000000\.0,/);
  expect(stringify(taskInfo(message, 'n@h'))).toMatch(/"time_start": ?null,/);
});
