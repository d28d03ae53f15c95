import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import { newJob } from '../../protocols/rq/enqueue.ts';
import { inflate, writeJob } from '../../protocols/rq/index.ts';
import { jobSettings } from '../../protocols/rq/options.ts';
import { type RqCall, RQ_CALLS } from './rq-calls.ts';
import { loadRq, type RqFixture, savesOf } from './rq-support.ts';

/** A job enqueued with these options has the hash that RQ 2.10 writes: the same fields, in the same order, of the same bytes. */

/** The status of a job that depends on others is decided where it is registered. */
const REGISTERED: ReadonlySet<string> = new Set([
  'enqueue-dependency',
  'enqueue-depends-on',
  'enqueue-depends-on-ids',
  'enqueue-depends-on-other-queue',
  'enqueue-depends-on-ttl',
  'enqueue-many-dependents',
  'enqueue-unique-duplicate',
]);

describe.each(loadRq('2.10', 'enqueue-').map((fixture) => [fixture.name, fixture] as const))('%s', (name, fixture) => {
  const calls = RQ_CALLS[name.slice('enqueue-'.length)];
  if (calls === undefined) {
    it.skip('enqueued from here [skipped: only a Python client can make it, or it needs a worker in between]', () => {});
    return;
  }
  const registered = REGISTERED.has(name);
  it.skipIf(registered)(
    `enqueued from here, it is the same${registered ? ' [skipped: in test/conformance/rq-enqueue]' : ''}`,
    () => {
      const now = new Date(fixture.frozen.clock);
      const saved = lastSaves(fixture);
      const ids = [...fixture.frozen.ids];
      const made = calls.map((call) => flatOfCall(call, call.options?.jobId ?? String(ids.shift()), now));
      expect(made.length).toBe(saved.length);
      for (const [at, { flat }] of saved.entries()) expect(texts(made[at] as string[])).toEqual(texts(flat));
    },
  );
});

it('every call that is made here is among the fixtures', () => {
  const names = new Set(loadRq('2.10', 'enqueue-').map(({ name }) => name.slice('enqueue-'.length)));
  expect(Object.keys(RQ_CALLS).filter((name) => !names.has(name))).toEqual([]);
});

function flatOfCall(call: RqCall, id: string, now: Date): readonly (string | Buffer)[] {
  const { task, args = [], kwargs = {}, options = {}, queue = 'default', serializer = 'pickle', due } = call;
  const { job } = newJob(jobSettings(options, call.defaultTimeout), {
    call: { funcName: task, instance: null, args, kwargs },
    id,
    queue,
    serializer,
    now,
    due,
  });
  return writeJob(job);
}

/** Of each job the last save, in the order in which they were first written. */
function lastSaves({ wire }: RqFixture): ReturnType<typeof savesOf> {
  return [...new Map(savesOf(wire).map((save) => [save.id, save])).values()];
}

/** What is deflated, inflated; the number of the pickle protocol, and frames and memos of protocol 5, as those of 4. */
function texts(flat: readonly (string | Buffer)[]): readonly string[] {
  return flat.map((word, at) => {
    const name = at % 2 === 1 ? String(flat[at - 1]) : '';
    const bytes = name === 'data' ? Buffer.from(inflate(Buffer.from(word as Buffer))) : Buffer.from(word);
    if ((name === 'data' || name === 'meta') && bytes[0] === 0x80) bytes[1] = 4;
    return bytes.toString('latin1');
  });
}
