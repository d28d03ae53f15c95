import { describe, expect, test } from 'vitest';
import type { CeleryPolicy } from '../../../protocols/celery/outcome/lifecycle.ts';
import { decodeTask, type TaskMessage } from '../../../protocols/celery/message/message.ts';
import { readSuccess, succeededBefore } from '../../../protocols/celery/outcome/redelivery.ts';
import { acceptSet, defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import type { Moment } from '../../../protocols/job.ts';

/** A late-acked task that comes again after it succeeded. */
describe('what is stored of a task', () => {
  const read = (text: string): ReturnType<typeof readSuccess> =>
    readSuccess('a', Buffer.from(text), 'json', defaultLimits);

  test('a success, with or without children', () => {
    const meta = (children: string): string =>
      `{"status": "SUCCESS", "result": 7, "traceback": null, "children": ${children}, "date_done": "2026-11-21T03:04:05+00:00", "task_id": "a"}`;
    expect(read(meta('[]'))).toMatchObject({ hasChildren: false });
    expect(read(meta('null'))).toMatchObject({ hasChildren: false });
    expect(read(meta('[[["b", null], null]]'))).toMatchObject({ hasChildren: true });
  });

  test.each(['PENDING', 'STARTED', 'RETRY', 'FAILURE', 'REVOKED', 'PROGRESS'])(
    '%s is no success: it runs',
    (status) => {
      expect(read(`{"status": "${status}", "result": null, "children": [], "task_id": "a"}`)).toBeUndefined();
    },
  );

  test('bytes that are no meta are an error', () => {
    expect(() => read('{"status": "SUCC')).toThrow('cannot read');
  });
});

describe('what is left to write', () => {
  const link = { task: 'x.link', args: [1], kwargs: {}, options: {}, subtask_type: null, immutable: false };
  const body = { task: 'x.sum', args: [], kwargs: {}, options: { task_id: 'body' }, subtask_type: null };
  const stored = { result: 7, hasChildren: false };

  test('nothing but the acknowledgement, of a task that stands alone', () => {
    const { disposition, write } = succeededBefore(task({}), stored, POLICY, MOMENT);
    expect(disposition).toEqual({ state: 'succeeded' });
    expect(write).toMatchObject({ publish: [], results: [], chordParts: [], ack: 'ack' });
  });

  test('its link, when what is stored knows no children; its result stays as it is', () => {
    const { write } = succeededBefore(task({ callbacks: [link] }), stored, POLICY, MOMENT);
    expect(write.publish.map(({ headers }) => headers.get('task'))).toEqual(['x.link']);
    expect(JSON.parse(Buffer.from(write.publish[0]?.body ?? '').toString())).toMatchObject([[7, 1], {}, {}]);
    expect(write.results).toEqual([]);
  });

  test('not its link, when what is stored has children: it was published before them', () => {
    const again = succeededBefore(task({ callbacks: [link] }), { ...stored, hasChildren: true }, POLICY, MOMENT);
    expect(again.write.publish).toEqual([]);
  });

  test('its part of a chord, as the first run would have told it', () => {
    const { write } = succeededBefore(task({ chord: body }, { group: 'g', group_index: 0 }), stored, POLICY, MOMENT);
    expect(write.chordParts).toMatchObject([{ id: 'a', group: 'g', member: '[1, "a", "SUCCESS", 7]' }]);
  });

  test('nothing at all, when it succeeded in this process', () => {
    const { write } = succeededBefore(task({ callbacks: [link], chord: body }), undefined, POLICY, MOMENT);
    expect(write).toMatchObject({ publish: [], chordParts: [], ack: 'ack' });
  });

  test('a link that cannot be read is told, and the message is acknowledged', () => {
    const { write } = succeededBefore(task({ callbacks: [{ args: [] }] }), stored, POLICY, MOMENT);
    expect(write.problems.length).toBe(1);
    expect(write).toMatchObject({ publish: [], ack: 'ack' });
  });
});

const POLICY: CeleryPolicy = {
  ignoreResult: false,
  storeErrorsEvenIfIgnored: false,
  acksLate: true,
  acksOnFailureOrTimeout: true,
  retry: {},
  resultSerializer: 'json',
  resultExtended: false,
  typed: true,
  nodename: 'celery@here',
  origin: 'gen1@here',
  replyTo: '',
  route: () => ({ exchange: '', routingKey: 'celery' }),
  taskSerializer: 'json',
  inheritParentPriority: false,
};

const MOMENT: Moment = { now: new Date('2026-11-21T03:04:05.678Z'), random: 0.5, newId: () => 'minted' };

function task(embed: object, headers: object = {}): TaskMessage {
  return decodeTask(
    {
      raw: undefined,
      body: Buffer.from(
        JSON.stringify([[], {}, { callbacks: null, errbacks: null, chain: null, chord: null, ...embed }]),
      ),
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      headers: { lang: 'py', task: 'x.first', id: 'a', root_id: 'a', retries: 0, ...headers },
      properties: { delivery_info: { exchange: '', routing_key: 'celery', redelivered: true } },
    },
    { accept: acceptSet(['json']), limits: defaultLimits },
    'celery',
  );
}
