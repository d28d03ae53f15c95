import { describe, expect, it } from 'vitest';
import { inOrder, newJob, type NewJob } from '../../../protocols/rq/enqueue.ts';
import { type JobOptions, jobSettings } from '../../../protocols/rq/options.ts';

function made(id: string, options: JobOptions = {}, due?: Date): NewJob {
  return newJob(jobSettings({ ...options, jobId: id }), {
    call: { funcName: 'f', instance: null, args: [], kwargs: {} },
    id,
    queue: 'default',
    serializer: 'pickle',
    now: new Date(0),
    due,
  });
}

describe('inOrder', () => {
  const order = (jobs: readonly NewJob[]): readonly string[] => inOrder(jobs).map(({ job }) => job.id);

  it('leaves jobs as they are that depend on none of the others', () => {
    expect(order([made('b', { dependsOn: 'z' }), made('a'), made('c')])).toEqual(['b', 'a', 'c']);
  });
  it('puts a job behind what it depends on', () => {
    expect(
      order([made('c', { dependsOn: ['a', 'b'] }), made('b', { dependsOn: 'a' }), made('x'), made('a'), made('y')]),
    ).toEqual(['x', 'a', 'y', 'b', 'c']);
  });
  it('refuses a circle, and an id that is there twice', () => {
    const circle = [
      made('x'),
      made('a', { dependsOn: 'c' }),
      made('b', { dependsOn: 'a' }),
      made('c', { dependsOn: 'b' }),
    ];
    expect(() => order(circle)).toThrow(/dependsOn: a, b, c wait for each other/);
    expect(() => order([made('a'), made('b'), made('a')])).toThrow(/jobId: a is there twice/);
  });
});

describe('newJob', () => {
  it('refuses what RQ would do something else with', () => {
    const later = new Date(10_000);
    expect(() => made('a', { dependsOn: 'b' }, later)).toThrow(/dependsOn cannot be had with in or at/);
    expect(() => made('a', { ttl: 10 }, later)).toThrow(/ttl ends before the job is due/);
    expect(() => made('a', { ttl: 11 }, later)).not.toThrow();
    expect(() => made('a', {}, new Date(Number.NaN))).toThrow(/at must be a valid Date/);
  });
  it('is put in front later where that was asked for', () => {
    expect(made('a', { atFront: true }, new Date(10_000)).job.enqueueAtFront).toBe(true);
    expect(made('a', { atFront: true, dependsOn: 'b' }).job.enqueueAtFront).toBe(true);
    expect(made('a', { atFront: true })).toMatchObject({ atFront: true, due: undefined });
    expect(made('a', { atFront: true }).job.enqueueAtFront).toBeUndefined();
  });
});
