import { expect, test } from 'vitest';
import { defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import { MemoryResults } from '../../../src/drivers/celery/results/memory.ts';
import { Successes } from '../../../src/drivers/celery/consumer/successes.ts';
import { silent } from '../../../src/log.ts';

const task = (id: string): { readonly id: string; readonly task: string } => ({ id, task: 't' });

function successes(options: { readonly max?: number; readonly ttlMs?: number } = {}): {
  readonly known: Successes;
  readonly asked: string[];
  readonly backend: MemoryResults;
} {
  const asked: string[] = [];
  const backend = new (class extends MemoryResults {
    override fetch(id: string): ReturnType<MemoryResults['fetch']> {
      asked.push(id);
      return super.fetch(id);
    }
  })('successes');
  backend.clear();
  const known = new Successes({ backend, serializer: 'json', limits: defaultLimits, log: () => silent, ...options });
  return { known, asked, backend };
}

test('what succeeded here is known without asking', async () => {
  const { known, asked } = successes();
  known.add('a');
  expect(await known.find(task('a'))).toEqual({ stored: undefined, value: undefined });
  expect(asked).toEqual([]);
});

test('of others the backend is asked; only a SUCCESS counts', async () => {
  const { known, asked, backend } = successes();
  await backend.store('b', '{"status": "SUCCESS", "result": {"n": 1.0}, "children": [], "task_id": "b"}');
  await backend.store('c', '{"status": "FAILURE", "result": null, "children": [], "task_id": "c"}');
  await backend.store('d', 'no meta');
  expect(await known.find(task('b'))).toMatchObject({ stored: { hasChildren: false }, value: { n: 1 } });
  for (const id of ['c', 'd', 'e']) expect(await known.find(task(id))).toBeUndefined();
  expect(asked).toEqual(['b', 'c', 'd', 'e']);
});

test('the memory is bounded, the oldest goes first', async () => {
  const { known, asked } = successes({ max: 2 });
  for (const id of ['a', 'b', 'a', 'c']) known.add(id);
  for (const id of ['a', 'b', 'c']) await known.find(task(id));
  expect(asked).toEqual(['b']);
});

test('and forgets after its time', async () => {
  const { known, asked } = successes({ ttlMs: 0 });
  known.add('a');
  expect(await known.find(task('a'))).toBeUndefined();
  expect(asked).toEqual(['a']);
});

test('a backend that is away is no answer: whoever asks has to ask again', async () => {
  const { known, backend } = successes();
  backend.fetch = () => Promise.reject(new Error('away'));
  await expect(known.find(task('a'))).rejects.toThrow('away');
});
