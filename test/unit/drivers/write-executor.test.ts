import { describe, expect, it } from 'vitest';
import { encodeTask, type Publication } from '../../../protocols/celery/message/message.ts';
import { NO_WRITES } from '../../../protocols/celery/outcome/writes.ts';
import { WireError } from '../../../protocols/errors.ts';
import type { CeleryBroker, ResultBackend } from '../../../src/drivers/celery/brokers/broker.ts';
import { type WriteOrigin, WriteExecutor, notYet } from '../../../src/drivers/celery/consumer/write-executor.ts';
import { ConnectionError, UnroutableError } from '../../../src/errors.ts';
import { silent } from '../../../src/log.ts';

const ORIGIN = {
  id: 'origin',
  task: 'shop.pay',
  queue: 'celery',
  redelivered: false,
  to: {},
} as unknown as WriteOrigin;

function message(id: string): Publication {
  return encodeTask({
    task: 'shop.next',
    id,
    args: [],
    kwargs: {},
    origin: 'gen1@h',
    exchange: '',
    routingKey: 'celery',
  });
}

const idOf = (publication: Publication): unknown => publication.headers.get('id');

/** A writeExecutor over a broker that refuses, each time it is asked, what `refuse` says; what it took, and what was logged. */
function writeExecutor(refuse: (id: unknown, attempt: number) => Error | undefined): {
  readonly execute: WriteExecutor['execute'];
  readonly taken: unknown[];
  readonly said: unknown[];
} {
  const taken: unknown[] = [];
  const said: unknown[] = [];
  const asked = new Map<unknown, number>();
  const broker = {
    publish: async (publications: Iterable<Publication>): Promise<void> => {
      for (const id of Array.from(publications, idOf)) {
        const attempt = (asked.get(id) ?? 0) + 1;
        asked.set(id, attempt);
        const error = refuse(id, attempt);
        if (error !== undefined) throw error;
        taken.push(id);
      }
    },
  } as unknown as CeleryBroker;
  const own = new WriteExecutor({
    broker,
    backend: {} as ResultBackend,
    log: () => ({ ...silent, error: (fields: object) => void said.push((fields as { readonly error: Error }).error) }),
    limits: { maxBytes: 1_000, maxDepth: 10 },
    joinTimeoutMs: 0,
    errback: () => Promise.resolve(),
  });
  return { execute: (writes, origin, done) => own.execute(writes, origin, done), taken, said };
}

describe('what follows a task', () => {
  const writes = { ...NO_WRITES, publish: ['a', 'b', 'c'].map(message), errbacks: [message('d')] };

  it.each([
    ['no queue takes', new UnroutableError('nobody')],
    ['the broker has no room for', new WireError('celery', 'unencodable', 'too long')],
  ])('is sent but for what %s, which is told', async (_, error) => {
    for (const lost of ['b', 'd']) {
      const { execute, taken, said } = writeExecutor((id) => (id === lost ? error : undefined));
      await execute(writes, ORIGIN, notYet());
      expect(taken).toEqual(['a', 'b', 'c', 'd'].filter((id) => id !== lost));
      expect(said).toEqual([error]);
    }
  });

  it('is not over where the broker has no room for the task itself, once more', async () => {
    const error = new WireError('celery', 'too-large', 'too long');
    const { execute, said } = writeExecutor(() => error);
    const done = notYet();
    const again = { ...NO_WRITES, publish: [message('a')], replacesTask: true } as const;
    await expect(execute(again, ORIGIN, done)).rejects.toBe(error);
    expect(done).toMatchObject({ published: false, stored: false, acked: false });
    expect(said).toEqual([]);
  });

  it('is sent once, however often it is tried while the connection comes and goes', async () => {
    const { execute, taken, said } = writeExecutor((id, attempt) =>
      (id === 'b' && attempt <= 2) || (id === 'd' && attempt === 1) ? new ConnectionError('gone') : undefined,
    );
    const done = notYet();
    for (let failures = 0; failures < 3; failures++)
      await expect(execute(writes, ORIGIN, done)).rejects.toThrow(ConnectionError);
    await execute(writes, ORIGIN, done);
    expect(taken).toEqual(['a', 'c', 'b', 'd']);
    expect(said).toEqual([]);
  });
});
