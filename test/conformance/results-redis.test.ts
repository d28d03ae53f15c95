import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeMeta, encodeMeta } from '../../protocols/celery/outcome/result.ts';
import { RedisResults } from '../../src/drivers/celery/results/redis.ts';
import { silent } from '../../src/log.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

let redis: RedisServer;
let results: RedisResults;

beforeAll(async () => {
  redis = await startRedis();
  results = new RedisResults(redis.url);
  await results.open(silent);
});
afterAll(async () => {
  await results?.close();
  await redis?.[Symbol.asyncDispose]();
});

describe.each(['json', 'msgpack', 'yaml'])('of what is stored one after the other in %s', (serializer) => {
  const meta = (status: string): string | Uint8Array =>
    encodeMeta(
      { status, result: 'SUCCESS', traceback: null, children: [], dateDone: null, taskId: status },
      { serializer },
    );

  test.each([
    ['SUCCESS', 'FAILURE', 'SUCCESS'],
    ['SUCCESS', 'RETRY', 'SUCCESS'],
    // A retry without a delay may run and end before its RETRY is written.
    ['FAILURE', 'RETRY', 'FAILURE'],
    ['REVOKED', 'RETRY', 'REVOKED'],
    ['FAILURE', 'STARTED', 'STARTED'],
    ['FAILURE', 'SUCCESS', 'SUCCESS'],
    ['STARTED', 'RETRY', 'RETRY'],
    ['RETRY', 'FAILURE', 'FAILURE'],
  ])('%s and %s, %s stays', async (first, second, stays) => {
    const id = `${serializer}-${first}-${second}`;
    await results.store(id, meta(first));
    await results.store(id, meta(second));
    const stored = await results.fetch(id);
    expect(decodeMeta(stored as Buffer, serializer).status).toBe(stays);
  });
});
