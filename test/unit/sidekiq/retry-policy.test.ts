import { expect, test } from 'vitest';
import type { RetryPolicy } from '../../../protocols/retry.ts';
import { dialect } from '../../../protocols/sidekiq/dialect.ts';
import { keyspace } from '../../../protocols/sidekiq/keys.ts';
import { settle } from '../../../protocols/sidekiq/lifecycle.ts';
import { decodeJob } from '../../../protocols/sidekiq/message.ts';
import { ClassRules } from '../../../src/drivers/sidekiq/task-rules.ts';
import { defineTask, Tasks } from '../../../src/task.ts';

const now = new Date('2026-11-21T00:05:00.250Z');

/** What the failure of a job with so many failures behind it comes to. */
function failure(policy: RetryPolicy | undefined, hash: object): string | number {
  const tasks = new Tasks().handle(defineTask('X'), () => {}, policy === undefined ? {} : { retry: policy });
  const rule = new ClassRules(tasks).find('X');
  const { disposition } = settle(
    decodeJob(Buffer.from(JSON.stringify({ class: 'X', args: [], jid: 'j', queue: 'q', ...hash })), 'q'),
    { kind: 'error', error: { type: 'Boom', message: '', traceback: '' }, retriable: true },
    { maxRetries: 25, ...rule?.policy, keys: keyspace(), dialect: dialect('8.1') },
    { now, random: 0, newId: () => 'id' },
  );
  return 'at' in disposition ? disposition.at.getTime() - now.getTime() : disposition.state;
}

test.each<[string, RetryPolicy | undefined, object, string | number]>([
  ['no policy: 25 retries', undefined, { retry: true, retry_count: 23 }, 24 ** 4 * 1000 + 15_000],
  ['no policy: then dead', undefined, { retry: true, retry_count: 24 }, 'failed'],
  ['max, where the message says true', { max: 2, delayMs: 5_000 }, { retry: true, retry_count: 0 }, 5_000],
  ['max is used up', { max: 2, delayMs: 5_000 }, { retry: true, retry_count: 1 }, 'failed'],
  ['max, where the message says nothing', { max: 2, delayMs: 5_000 }, { retry_count: 1 }, 'failed'],
  ['a number in the message wins', { max: 2, delayMs: 5_000 }, { retry: 5, retry_count: 3 }, 5_000],
  ['0 in the message wins', { max: 2, delayMs: 5_000 }, { retry: 0 }, 'failed'],
  ['false in the message wins', { max: 2, delayMs: 5_000 }, { retry: false }, 'failed'],
  ['the default of max is 3', { delayMs: 5_000 }, { retry: true, retry_count: 2 }, 'failed'],
  ['null is forever', { max: null, delayMs: 5_000 }, { retry: true, retry_count: 1_000 }, 5_000],
  ['max 0', { max: 0 }, { retry: true }, 'failed'],
  ['a policy without a delay has that of Sidekiq', { max: 5 }, { retry: true, retry_count: 1 }, 31_000],
  ['the delay of an attempt', { delayMs: (attempt) => attempt * 7 }, { retry: true, retry_count: 1 }, 21],
  ['back-off', { backoff: { factorMs: 1_000, jitter: false } }, { retry: true, retry_count: 1 }, 4_000],
  ['back-off at its limit', { max: null, backoff: { maxMs: 9_000, jitter: false } }, { retry_count: 30 }, 9_000],
])('%s', (_, policy, hash, expected) => {
  expect(failure(policy, hash)).toBe(expected);
});
