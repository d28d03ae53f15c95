import { beforeEach, describe, expect, test } from 'vitest';
import type { Publication } from '../../../protocols/celery/message/message.ts';
import type { Claim } from '../../../src/drivers/celery/brokers/broker.ts';
import { MemoryBroker, memoryName } from '../../../src/drivers/celery/brokers/memory.ts';
import { MemoryResults } from '../../../src/drivers/celery/results/memory.ts';
import { ConfigError } from '../../../src/errors.ts';

const never = new AbortController().signal;
let broker: MemoryBroker;

beforeEach(async () => {
  broker = new MemoryBroker('unit');
  broker.clear();
  await broker.consume([{ name: 'celery' }]);
});

describe('the memory broker', () => {
  test('is shared by everybody who names it', async () => {
    const receiving = broker.receive(1, never);
    await new MemoryBroker('unit').publish([message('hello')]);
    await new MemoryBroker('other').publish([message('elsewhere')]);
    expect((await receiving).map(bodyOf)).toEqual(['hello']);
    expect(broker.size('celery')).toBe(0);
  });

  test('hands a message to one of two receivers', async () => {
    const other = new MemoryBroker('unit');
    await other.consume([{ name: 'celery' }]);
    const stop = new AbortController();
    const both = [broker.receive(1, stop.signal), other.receive(1, stop.signal)];
    await broker.publish([message('one')]);
    await Promise.race(both);
    stop.abort();
    expect((await Promise.all(both)).flat().map(bodyOf)).toEqual(['one']);
  });

  test('runs priority 0 first, and the older of one step first', async () => {
    await broker.publish([9, 5, 0, 3].map((priority) => message(`${priority}`, { priority })));
    expect((await broker.receive(4, never)).map(bodyOf)).toEqual(['0', '5', '3', '9']);
  });

  test('takes from the queues by turns', async () => {
    await broker.consume([{ name: 'a' }, { name: 'b' }]);
    await broker.publish(['a1', 'a2', 'b1'].map((body) => message(body, { routingKey: body[0]! })));
    expect((await broker.receive(3, never)).map(bodyOf)).toEqual(['a1', 'b1', 'a2']);
  });

  test('puts a message given back first or last, marked as redelivered', async () => {
    await broker.publish([message('first'), message('second'), message('third')]);
    const [first, second] = await broker.receive(2, never);
    await broker.requeue(first!, 'back');
    await broker.requeue(second!, 'front');
    const claims = await broker.receive(3, never);
    expect(claims.map(bodyOf)).toEqual(['second', 'third', 'first']);
    expect(claims.map((claim) => claim.message?.headers['redelivered'])).toEqual([true, undefined, true]);
  });

  test('leaves timers their turn while a message goes round and round', async () => {
    await broker.publish([message('again')]);
    let fired = false;
    setTimeout(() => (fired = true), 1);
    let rounds = 0;
    for (; !fired && rounds < 100_000; rounds++) {
      const [claim] = await broker.receive(1, never);
      await broker.requeue(claim!, 'back');
    }
    expect(fired).toBe(true);
  });

  test('gives back at close what nobody settled, in its order', async () => {
    await broker.publish([message('done'), message('first'), message('second'), message('third')]);
    const [done] = await broker.receive(3, never);
    await broker.ack(done!);
    await broker.close();
    const next = new MemoryBroker('unit');
    await next.consume([{ name: 'celery' }]);
    expect((await next.receive(9, never)).map(bodyOf)).toEqual(['first', 'second', 'third']);
  });

  test('keeps what is set aside in a list', async () => {
    await broker.publish([message('bad')]);
    const [claim] = await broker.receive(1, never);
    expect(await broker.quarantine(claim!, { code: 'wrong-shape', reason: 'no list', id: '7' })).toContain(
      'memory://unit',
    );
    expect(broker.quarantined).toEqual([
      { queue: 'celery', bytes: claim!.bytes, code: 'wrong-shape', reason: 'no list', id: '7' },
    ]);
    await broker.close();
    expect(broker.size('celery')).toBe(0);
  });

  test('routes through exchanges', async () => {
    await broker.consume([
      { name: 'logs', exchange: 'app', exchangeType: 'topic', routingKey: 'log.#' },
      { name: 'errors', exchange: 'app', exchangeType: 'topic', routingKey: 'log.error' },
    ]);
    await broker.publish(
      ['log.info', 'log.error', 'other'].map((key) => message(key, { exchange: 'app', routingKey: key })),
    );
    expect((await broker.receive(9, never)).map((claim) => `${claim.queue} ${bodyOf(claim)}`)).toEqual([
      'logs log.info',
      'errors log.error',
      'logs log.error',
    ]);
  });

  test('ends a waiting receive when its signal aborts or the broker is quiet', async () => {
    const stop = new AbortController();
    const first = broker.receive(1, stop.signal);
    stop.abort();
    expect(await first).toEqual([]);
    const second = broker.receive(1, never);
    await broker.quiet();
    expect(await second).toEqual([]);
  });

  test('has its name from the URL', () => {
    expect([memoryName('memory://'), memoryName('memory://a'), memoryName('memory://a/')]).toEqual(['', 'a', 'a']);
    expect(() => memoryName('redis://a')).toThrow(ConfigError);
  });
});

describe('memory results', () => {
  test('keep a SUCCESS, and tell who watches', async () => {
    const results = new MemoryResults('unit');
    results.clear();
    const seen: string[] = [];
    const end = await new MemoryResults('unit').watch('1', (meta) => seen.push(String(meta)));
    for (const status of ['STARTED', 'SUCCESS', 'FAILURE']) await results.store('1', JSON.stringify({ status }));
    end();
    await results.forget('1');
    await results.store('1', '{"status": "RETRY"}');
    expect(seen).toEqual(['{"status":"STARTED"}', '{"status":"SUCCESS"}']);
    expect((await results.fetchMany(['1', '2'])).map((meta) => meta?.toString())).toEqual([
      '{"status": "RETRY"}',
      undefined,
    ]);
  });

  test('expire, groups too', async () => {
    const results = new MemoryResults('unit', { expiresMs: 1 });
    await results.store('old', '{}');
    await results.storeGroup('old', '{}');
    await expect.poll(async () => (await results.cleanup(), await results.fetch('old'))).toBeUndefined();
    expect(await results.fetchGroup('old')).toBeUndefined();
  });
});

function message(
  body: string,
  options: { readonly exchange?: string; readonly routingKey?: string; readonly priority?: number } = {},
): Publication {
  return {
    exchange: options.exchange ?? '',
    routingKey: options.routingKey ?? 'celery',
    body: Buffer.from(body),
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    headers: new Map(),
    priority: options.priority ?? 0,
    properties: new Map(),
  };
}

function bodyOf(claim: Claim): string {
  return Buffer.from(claim.message!.body).toString();
}
