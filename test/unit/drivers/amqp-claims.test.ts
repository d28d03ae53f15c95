import { describe, expect, test } from 'vitest';
import { encodeTable } from '../../../protocols/formats/amqp-table.ts';
import { AmqpClaim, Claims } from '../../../src/drivers/celery/brokers/amqp-claims.ts';

interface Parts {
  readonly id?: string;
  readonly retries?: number;
  readonly body?: string;
  readonly queue?: string;
}

function claim(generation: number, deliveryTag: number, parts: Parts = {}): AmqpClaim {
  const { id = 'a', retries = 0, body = '[[], {}, {}]', queue = 'q' } = parts;
  const delivered = {
    queue,
    generation,
    deliveryTag,
    consumerTag: 'c',
    redelivered: generation > 1,
    exchange: '',
    routingKey: queue,
    properties: { headers: encodeTable({ id, retries, task: 't' }) },
    body: Buffer.from(body),
  };
  return new AmqpClaim(delivered);
}

describe('a message whose channel ended', () => {
  test('goes on with its new delivery when it comes again', () => {
    const claims = new Claims(4);
    const first = claim(1, 7);
    claims.add(first);
    claims.lose(1);
    expect(first.lost).toBe(true);
    expect(claims.adopt(claim(2, 1))).toBe('held');
    expect(first).toMatchObject({ lost: false, generation: 2, deliveryTag: 1, tag: '2.1' });
    // And again.
    claims.lose(2);
    expect(first.lost).toBe(true);
    expect(claims.adopt(claim(3, 5))).toBe('held');
    expect(claims.adopt(claim(3, 6))).toBeUndefined();
  });

  test.each(['ack', 'reject'] as const)('that ended meanwhile is settled when it comes again (%s)', (how) => {
    const claims = new Claims(4);
    const first = claim(1, 7);
    claims.add(first);
    claims.lose(1);
    claims.settleLater(first, how);
    expect(claims.adopt(claim(2, 1))).toBe(how);
    expect(first.lost).toBe(true);
    expect(claims.adopt(claim(2, 2))).toBeUndefined();
  });

  test('was settled just before: nobody knows whether that arrived, and it is settled once more', () => {
    const claims = new Claims(4);
    const first = claim(1, 7);
    claims.add(first);
    claims.done(first, 'ack');
    claims.lose(1);
    expect(claims.adopt(claim(2, 1))).toBe('ack');
    // This settlement may be lost as well.
    claims.lose(2);
    expect(claims.adopt(claim(3, 1))).toBe('ack');
  });

  test('was settled long before: it is not remembered', () => {
    const claims = new Claims(2);
    for (const [at, id] of ['a', 'b', 'c'].entries()) {
      const each = claim(1, at + 1, { id });
      claims.add(each);
      claims.done(each, 'ack');
    }
    claims.lose(1);
    expect(claims.adopt(claim(2, 1, { id: 'a' }))).toBeUndefined();
    expect(claims.adopt(claim(2, 2, { id: 'b' }))).toBe('ack');
    expect(claims.adopt(claim(2, 3, { id: 'c' }))).toBe('ack');
  });

  test('is a message like any other when nobody works on it any more', () => {
    const claims = new Claims(4);
    const [waiting, given] = [claim(1, 1, { id: 'w' }), claim(1, 2, { id: 'g' })];
    claims.add(waiting);
    claims.add(given);
    claims.forget(given);
    claims.lose(1);
    claims.forget(waiting);
    claims.settleLater(waiting, 'ack');
    expect(claims.adopt(claim(2, 1, { id: 'w' }))).toBeUndefined();
    expect(claims.adopt(claim(2, 2, { id: 'g' }))).toBeUndefined();
  });

  test.each<readonly [string, Parts]>([
    ['another try', { retries: 1 }],
    ['another body', { body: '[[1], {}, {}]' }],
    ['another queue', { queue: 'other' }],
    ['another id', { id: 'b' }],
  ])('is not taken for one with %s', (_, parts) => {
    const claims = new Claims(4);
    claims.add(claim(1, 1));
    claims.lose(1);
    expect(claims.adopt(claim(2, 1, parts))).toBeUndefined();
    expect(claims.adopt(claim(2, 2))).toBe('held');
  });

  test('is not that of a channel that lives', () => {
    const claims = new Claims(4);
    const living = claim(2, 1);
    claims.add(living);
    claims.lose(1);
    expect(living.lost).toBe(false);
    expect(claims.adopt(claim(2, 2))).toBeUndefined();
  });
});
