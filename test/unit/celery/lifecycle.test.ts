import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  type CeleryPolicy,
  type CeleryWrites,
  custom,
  revokedBeforeStart,
  revokedByCommand,
  settle,
  started,
  rejectUnknown,
} from '../../../protocols/celery/outcome/lifecycle.ts';
import { decodeTask, type Publication, type TaskMessage } from '../../../protocols/celery/message/message.ts';
import { acceptSet, defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import { NO_WRITES } from '../../../protocols/celery/outcome/writes.ts';
import { WireError } from '../../../protocols/errors.ts';
import type { Failure, Moment, Outcome } from '../../../protocols/job.ts';

// Messages, results and follow-up messages of Celery 5.6.3 with its Redis transport; bodies are unwrapped, tracebacks are "TB".
interface Envelope {
  readonly body: string;
  readonly 'content-type': string;
  readonly 'content-encoding': string;
  readonly headers: Record<string, unknown>;
  readonly properties: Record<string, unknown>;
}
interface Recording {
  readonly in: Record<string, Envelope>;
  readonly results: Record<string, string>;
  readonly out: readonly Envelope[];
  readonly retried: readonly Envelope[];
  readonly extendedIn: Record<string, Envelope>;
  readonly extended: Record<string, string>;
}
const celery = JSON.parse(readFileSync(new URL('lifecycle.fixture.json', import.meta.url), 'utf8')) as Recording;

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const DATE = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00/g;
/** What Celery's worker has its callbacks reply to. */
const OID = celery.out.find(({ headers }) => headers['task'] === 'x.one')?.properties['reply_to'] as string;

describe('settling a success', () => {
  it.each([
    ['value', { a: [1, 2.5, null, true, 'x'] }],
    ['grouped', 'hé'],
    ['stamped', 1],
    ['link1', 7],
    ['link2', 7],
    ['linkchain', 7],
    ['linkgroup', 7],
    ['linkfull', 7],
    ['chain1', 7],
    ['lastonly', 7],
    ['togroup', 1],
    ['tostar', 1],
    ['chaininlink', 7],
    ['chaintogroup', 7],
    ['chaintogroups', 7],
    ['chainopts', 7],
    ['chainpri', 7],
    ['grpopts', 7],
  ])('%s: publishes and stores what Celery does', (id, value) => {
    const { write, disposition } = run(id, { kind: 'success', value });
    expect(disposition).toEqual({ state: 'succeeded' });
    expect(write.ack).toBe('done');
    expectAsCelery(id, write);
  });

  it('without links is one string and nothing else', () => {
    const { write } = run('value', { kind: 'success', value: undefined });
    expect(write.publish).toEqual([]);
    expect(write.results).toEqual([
      {
        id: 'value',
        meta: '{"status": "SUCCESS", "result": null, "traceback": null, "children": [], "date_done": "2026-11-21T03:04:05.678000+00:00", "task_id": "value"}',
      },
    ]);
  });

  it('stores nothing when results are ignored, but still publishes links', () => {
    expect(
      run('value', { kind: 'success', value: 1 }, { ignoreResult: true }, { ignore_result: null }).write.results,
    ).toEqual([]);
    const linked = run('link1', { kind: 'success', value: 1 }, { ignoreResult: true }, { ignore_result: null }).write;
    expect(linked.publish).toHaveLength(1);
    expect(linked.results).toEqual([]);
  });

  it('a header that says false wins over a task that ignores results', () => {
    expect(run('value', { kind: 'success', value: 1 }, { ignoreResult: true }).write.results).toHaveLength(1);
  });

  it('a value that cannot be encoded fails the task with EncodeError, and publishes no link', () => {
    const { write, disposition } = run('link1', { kind: 'success', value: () => 1 });
    expect(disposition).toEqual({ state: 'failed' });
    expect(write.publish).toEqual([]);
    const celerys = JSON.parse(celery.results['noenc'] as string) as {
      result: { exc_type: string; exc_module: string };
    };
    const ours = metaOf(write);
    expect(ours['status']).toBe('FAILURE');
    expect(ours['result']).toMatchObject({ exc_type: celerys.result.exc_type, exc_module: celerys.result.exc_module });
  });

  it('a callback that is no signature fails the task visibly', () => {
    const message = received('link1', (body) => body.replace('"x.one"', 'null'));
    const { write, disposition } = settle(message, { kind: 'success', value: 1 }, POLICY, MOMENT());
    expect(disposition).toEqual({ state: 'failed' });
    expect(metaOf(write)['result']).toMatchObject({ exc_type: 'InvalidTaskError', exc_module: 'celery.exceptions' });
  });

  it('is acknowledged late where acknowledgements are late', () => {
    expect(run('value', { kind: 'success', value: 1 }, { acksLate: true }).write.ack).toBe('ack');
  });

  it('hands a priority on only where told to', () => {
    const envelope = { ...envelopeOf('link1'), properties: { ...envelopeOf('link1').properties, priority: 6 } };
    const priority = (inheritParentPriority: boolean): unknown =>
      settle(
        decode(envelope),
        { kind: 'success', value: 1 },
        { ...POLICY, inheritParentPriority },
        MOMENT(),
      ).write.publish[0]?.properties.get('priority');
    expect(priority(false)).toBe(0);
    expect(priority(true)).toBe(6);
  });

  it('a member of a chord leaves its part, also when its result is ignored', () => {
    const body = {
      task: 'x.body',
      args: [],
      kwargs: {},
      options: { task_id: 'b' },
      subtask_type: null,
      immutable: false,
    };
    const message = received('grouped', (text) => text.replace('"chord": null', `"chord": ${JSON.stringify(body)}`), {
      ignore_result: true,
    });
    const { write } = settle(message, { kind: 'success', value: 'v' }, POLICY, MOMENT());
    expect(write.results).toEqual([]);
    expect(write.chordParts).toMatchObject([
      { id: 'grouped', group: 'g1', groupIndex: 4, state: 'SUCCESS', result: 'v' },
    ]);
    expect(write.chordParts[0]?.body.get('task')).toBe('x.body');
  });
});

describe('settling a failure', () => {
  const error: Failure = { type: 'ValueError', message: 'bad', args: ['bad', 1, '{1, 2}'], traceback: STACK() };

  it.each(['fail', 'errs', 'fc1'])('%s: stores FAILURE, fails the later steps and publishes errbacks', (id) => {
    const { write, disposition } = run(id, { kind: 'error', error, retriable: false });
    expect(disposition).toEqual({ state: 'failed' });
    expectAsCelery(id, write);
  });

  it('is never retried when the handler says so', () => {
    expect(run('fail', { kind: 'fail', error }).disposition).toEqual({ state: 'failed' });
  });

  it.each([
    [false, true, 'done'],
    [false, false, 'done'],
    [true, true, 'ack'],
    [true, false, 'reject'],
  ] as const)('acksLate %s, acksOnFailureOrTimeout %s: %s', (acksLate, acksOnFailureOrTimeout, ack) => {
    expect(
      run('fail', { kind: 'error', error, retriable: false }, { acksLate, acksOnFailureOrTimeout }).write.ack,
    ).toBe(ack);
  });

  it('is stored where results are ignored only if errors are stored all the same', () => {
    const ignored = (storeErrorsEvenIfIgnored: boolean): number =>
      run('fc1', { kind: 'error', error, retriable: false }, { storeErrorsEvenIfIgnored }, { ignore_result: true })
        .write.results.length;
    expect(ignored(false)).toBe(0);
    expect(ignored(true)).toBe(3);
  });

  it('of a step tells the chords of later steps', () => {
    const message = received('fc1', (body) =>
      body.replace('"group_id": "gg"', '"group_id": "gg", "group_index": 2, "chord": {"task": "x.body"}'),
    );
    const { write } = settle(message, { kind: 'error', error, retriable: false }, POLICY, MOMENT());
    expect(write.chordParts).toMatchObject([{ id: 'fc3', group: 'gg', groupIndex: 2, state: 'FAILURE' }]);
  });

  it('is recorded even where an errback cannot be read', () => {
    const message = received('errs', (body) => body.replace('"x.err1"', '17'));
    const { write } = settle(message, { kind: 'error', error, retriable: false }, POLICY, MOMENT());
    expect(write.results).toHaveLength(1);
    expect(write.errbacks.map((publication) => publication.headers.get('task'))).toEqual(['x.err2']);
    expect(write.problems.map((problem) => problem.code)).toEqual(['bad-signature']);
  });
});

describe('settling a timeout', () => {
  const timeout: Outcome = { kind: 'timeout', limitMs: 1500 };

  it('stores TimeLimitExceeded as billiard has it, and publishes errbacks', () => {
    const { write, disposition } = run('errs', timeout);
    expect(disposition).toEqual({ state: 'failed' });
    expect(write.errbacks).toHaveLength(2);
    expect(String(write.results[0]?.meta)).toContain(
      '"result": {"exc_type": "TimeLimitExceeded", "exc_message": [1.5], "exc_module": "billiard.exceptions"}, "traceback": null',
    );
  });

  it('goes back to its queue where late acknowledgements exclude timeouts', () => {
    const { write, disposition } = run('errs', timeout, { acksLate: true, acksOnFailureOrTimeout: false });
    expect(disposition).toEqual({ state: 'requeued' });
    expect(write.ack).toBe('requeue');
  });
});

describe('settling a retry', () => {
  const key: Failure = { type: 'KeyError', message: 'k', traceback: STACK() };

  it.each([
    ['retry', { kind: 'retry', delayMs: 3_600_000, error: key }, "Retry in 3600s: KeyError('k')"],
    ['retry0', { kind: 'retry', delayMs: undefined, error: undefined }, 'Retry in 180s'],
  ] as const)('%s: the same message once more, then the state RETRY', (id, outcome, ending) => {
    const { write, disposition } = run(id, outcome, { resultExtended: false });
    const [again] = write.publish;
    const celerys = celery.retried.find((message) => message.headers['id'] === id) as Envelope;
    expect(text(again)).toBe(celerys.body);
    const now = MOMENT().now.getTime();
    const delayMs = id === 'retry' ? 3_600_000 : 180_000;
    expect(disposition).toEqual({ state: 'retrying', at: new Date(now + delayMs) });
    expect(Object.fromEntries(again?.headers ?? [])).toEqual({
      ...celerys.headers,
      eta: id === 'retry' ? '2026-11-21T04:04:05.678000+00:00' : '2026-11-21T03:07:05.678000+00:00',
    });
    expect(again).toMatchObject({ exchange: '', routingKey: 'work' });
    expect(anonymous(String(write.results[0]?.meta))).toBe(anonymous(celery.results[id] as string));
    expect(metaOf(write)['traceback']).toMatch(
      new RegExp(`\ncelery.exceptions.Retry: ${ending.replaceAll(/[()]/g, '\\$&')}\n$`),
    );
  });

  it('an error that the task retries by itself is retried', () => {
    expect(run('retry', { kind: 'error', error: key, retriable: true }).disposition).toMatchObject({
      state: 'retrying',
    });
    expect(run('retry', { kind: 'error', error: key, retriable: false }).disposition).toEqual({ state: 'failed' });
  });

  it('a retry without delay has no eta', () => {
    expect(
      run('retry', { kind: 'retry', delayMs: 0, error: undefined }).write.publish[0]?.headers.get('eta'),
    ).toBeNull();
  });

  it('once too often is the failure it was about', () => {
    const { write, disposition } = run(
      'maxexc',
      { kind: 'retry', delayMs: 1000, error: { ...key, message: 'x' } },
      { retry: { max: 0 } },
    );
    expect(disposition).toEqual({ state: 'failed' });
    expectAsCelery('maxexc', write);
  });

  it('once too often and without an error is MaxRetriesExceededError', () => {
    const { write } = run('max', { kind: 'retry', delayMs: 1000, error: undefined }, { retry: { max: 0 } });
    expect(anonymous(String(write.results[0]?.meta)).replace('"traceback": null', '"traceback": "TB"')).toBe(
      anonymous(celery.results['max'] as string),
    );
  });

  it.each([
    [3, 2, 'retrying'],
    [3, 3, 'failed'],
    [0, 0, 'failed'],
    [null, 1000, 'retrying'],
    [undefined, 2, 'retrying'],
    [undefined, 3, 'failed'],
  ] as const)('max %s after %s retries: %s', (max, retries, state) => {
    const rules = max === undefined ? {} : { max };
    const { disposition } = run('retry', { kind: 'error', error: key, retriable: true }, { retry: rules }, { retries });
    expect(disposition.state).toBe(state);
  });

  it('is acknowledged, late or early, and tells no chord', () => {
    const { write } = run(
      'retry',
      { kind: 'retry', delayMs: 1, error: key },
      { acksLate: true, acksOnFailureOrTimeout: false },
    );
    expect(write).toMatchObject({ ack: 'ack', chordParts: [] });
  });
});

describe('settling a rejection', () => {
  const rejected = (requeue: boolean): Outcome => ({ kind: 'reject', reason: 'not mine', requeue });

  it('stores nothing and refuses the message', () => {
    const { disposition, write } = run('value', rejected(false), { acksLate: true });
    expect(disposition).toEqual({ state: 'discarded' });
    expect(write).toMatchObject({ publish: [], results: [], ack: 'reject' });
  });

  it('gives the message back while it is not acknowledged', () => {
    const { disposition, write } = run('value', rejected(true), { acksLate: true });
    expect(disposition).toEqual({ state: 'requeued' });
    expect(write).toMatchObject({ publish: [], results: [], ack: 'requeue' });
  });

  it('publishes it once more, with no retry counted, where it was acknowledged at its start', () => {
    const { write } = run('value', rejected(true), { acksLate: false });
    expect(write.ack).toBe('done');
    expect(write.publish).toHaveLength(1);
    expect(write.publish[0]?.headers.get('retries')).toBe(0);
    expect(write.publish[0]?.headers.get('id')).toBe(celery.in['value']?.headers['id']);
  });
});

describe('the delay of a retry', () => {
  it.each([
    [{}, 0, 180_000],
    [{ max: null, delayMs: 5000 }, 3, 5000],
    [{ max: null, delayMs: (attempt: number) => attempt * 10 }, 3, 40],
    [{ max: null, backoff: { jitter: false } }, 5, 32_000],
    [{ max: null, backoff: { jitter: false } }, 2000, 600_000],
    // The moment draws 0.5.
    [{ max: null, backoff: {} }, 3, 4000],
    [{ max: null, backoff: { factorMs: 51 } }, 0, 26],
  ])('%o after %i retries: %i ms', (rules, retries, expected) => {
    const { disposition } = run(
      'retry',
      { kind: 'retry', delayMs: undefined, error: undefined },
      { retry: rules },
      { retries },
    );
    const at = disposition.state === 'retrying' ? disposition.at.getTime() : Number.NaN;
    expect(at - MOMENT().now.getTime()).toBe(expected);
  });
});

describe('what never runs', () => {
  it('an expired task is stored as Celery stores it', () => {
    const { write, disposition } = revokedBeforeStart(received('expired'), 'expired', POLICY, MOMENT());
    expect(disposition).toEqual({ state: 'cancelled' });
    expect(write.ack).toBe('ack');
    expectAsCelery('expired', write);
    expectAsCelery('expired', run('expired', { kind: 'expired' }).write);
  });

  it('a cancelled run is revoked: terminated', () => {
    const { write } = run('errs', { kind: 'cancelled', reason: 'somebody said so' }, { acksLate: true });
    expect(metaOf(write)).toMatchObject({
      status: 'REVOKED',
      result: { exc_type: 'TaskRevokedError', exc_message: ['terminated'], exc_module: 'celery.exceptions' },
    });
    expect(write).toMatchObject({ publish: [], ack: 'ack' });
  });

  it('a discarded one leaves nothing', () => {
    const { write, disposition } = run('fc1', { kind: 'discard', reason: '' }, { acksLate: true });
    expect(disposition).toEqual({ state: 'discarded' });
    expect(write).toEqual({ ...NO_WRITES, ack: 'ack' });
  });

  it('an unknown task is rejected with NotRegistered, or left to others', () => {
    const { write } = rejectUnknown(received('nobody'), POLICY, MOMENT());
    expect(write.ack).toBe('reject');
    expectAsCelery('nobody', write);
    expect(settle(received('nobody'), { kind: 'unknown' }, POLICY, MOMENT())).toMatchObject({
      disposition: { state: 'requeued' },
      write: { ack: 'back', results: [] },
    });
  });

  it('a revoke command stores REVOKED without knowing the task', () => {
    expect(revokedByCommand('t', POLICY, MOMENT()).meta).toBe(
      '{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}, "traceback": null, "children": null, "date_done": "2026-11-21T03:04:05.678000+00:00", "task_id": "t"}',
    );
  });
});

describe('states on the way', () => {
  it('STARTED says who', () => {
    expect(started(received('grouped'), { pid: 12, hostname: 'w@h' }, POLICY)?.meta).toBe(
      '{"status": "STARTED", "result": {"pid": 12, "hostname": "w@h"}, "traceback": null, "children": [], "date_done": null, "group_id": "g1", "parent_id": "p1", "task_id": "grouped"}',
    );
    expect(
      started(received('grouped', undefined, { ignore_result: true }), { pid: 1, hostname: 'h' }, POLICY),
    ).toBeUndefined();
  });

  it('a state of one’s own holds what it is given', () => {
    expect(custom(received('value'), 'PROGRESS', { done: 3 }, POLICY).meta).toBe(
      '{"status": "PROGRESS", "result": {"done": 3}, "traceback": null, "children": [], "date_done": null, "task_id": "value"}',
    );
  });

  it.each(['SUCCESS', 'FAILURE', 'REVOKED', 'RETRY', ''])('%s is not one’s own', (state) => {
    expect(() => custom(received('value'), state, {}, POLICY)).toThrow(WireError);
  });
});

describe('extended results', () => {
  it.each([
    ['grouped', { kind: 'success', value: 'hé' }],
    ['stamped', { kind: 'success', value: 1 }],
    ['expired', { kind: 'expired' }],
    [
      'fail',
      {
        kind: 'error',
        retriable: false,
        error: { type: 'ValueError', message: '', args: ['bad', 1, '{1, 2}'], traceback: STACK() },
      },
    ],
    ['retry', { kind: 'retry', delayMs: 9, error: { type: 'KeyError', message: 'k', traceback: STACK() } }],
  ] as [string, Outcome][])('%s: the same fields in the same order', (id, outcome) => {
    const message = decode(celery.extendedIn[id] as Envelope);
    const { write } = settle(message, outcome, { ...POLICY, resultExtended: true }, MOMENT());
    expect(anonymous(String(write.results[0]?.meta))).toBe(anonymous(celery.extended[id] as string));
  });

  it('a later step that fails with its chain has no worker', () => {
    const error: Failure = { type: 'ValueError', message: '', args: ['bad', 1, '{1, 2}'], traceback: STACK() };
    const message = decode(celery.extendedIn['fc1'] as Envelope);
    const { write } = settle(
      message,
      { kind: 'error', error, retriable: false },
      { ...POLICY, resultExtended: true },
      MOMENT(),
    );
    const last = write.results.find((result) => result.id === 'fc3');
    expect(anonymous(String(last?.meta))).toBe(anonymous(celery.extended['fc3'] as string));
  });
});

describe('other result serializers', () => {
  it.each(['msgpack', 'yaml'])('%s holds the same fields', (resultSerializer) => {
    const { write } = run('link1', { kind: 'success', value: 7 }, { resultSerializer });
    expect(write.results[0]?.meta).toBeInstanceOf(Uint8Array);
  });
});

const POLICY: CeleryPolicy = {
  ignoreResult: false,
  storeErrorsEvenIfIgnored: false,
  acksLate: false,
  acksOnFailureOrTimeout: true,
  retry: {},
  resultSerializer: 'json',
  resultExtended: false,
  typed: true,
  nodename: 'oracle@host',
  origin: 'gen1@vm',
  replyTo: OID,
  route: (_task, options) => ({ exchange: '', routingKey: (options.get('queue') ?? 'work') as string }),
  taskSerializer: 'json',
  inheritParentPriority: false,
};

/** A moment whose ids count up. */
function MOMENT(): Moment {
  let minted = 0;
  return {
    now: new Date('2026-11-21T03:04:05.678Z'),
    random: 0.5,
    newId: () => `00000000-0000-4000-8000-${String(++minted).padStart(12, '0')}`,
  };
}

function STACK(): string {
  return 'Error: bad\n    at charge (file:///app/shop.js:12:9)\n    at async run (/app/worker.js:3:1)';
}

function envelopeOf(id: string): Envelope {
  return celery.in[id] as Envelope;
}

function received(id: string, change?: (body: string) => string, headers: Record<string, unknown> = {}): TaskMessage {
  const envelope = envelopeOf(id);
  return decode({
    ...envelope,
    body: change === undefined ? envelope.body : change(envelope.body),
    headers: { ...envelope.headers, ...headers },
  });
}

function decode(envelope: Envelope): TaskMessage {
  return decodeTask(
    {
      body: Buffer.from(envelope.body),
      contentType: envelope['content-type'],
      contentEncoding: envelope['content-encoding'],
      headers: envelope.headers,
      properties: envelope.properties,
      raw: undefined,
    },
    { accept: acceptSet(['json']), limits: defaultLimits },
  );
}

function run(
  id: string,
  outcome: Outcome,
  policy: Partial<CeleryPolicy> = {},
  headers: Record<string, unknown> = {},
): ReturnType<typeof settle> {
  return settle(received(id, undefined, headers), outcome, { ...POLICY, ...policy }, MOMENT());
}

/** Everything that follows from one task, in Celery's run and in ours, compared as text. Ids are numbered by first use. */
function expectAsCelery(id: string, write: CeleryWrites): void {
  const envelope = envelopeOf(id);
  const ours = [...write.publish, ...write.errbacks].map((publication) => ({
    body: text(publication),
    headers: Object.fromEntries(publication.headers),
    properties: Object.fromEntries(publication.properties),
  }));
  const theirs = celery.out
    .filter(({ headers }) => headers['parent_id'] === id)
    .map(({ body, headers, properties }) => {
      const own = Object.entries(properties).filter(([name]) => name !== 'delivery_info');
      return { body, headers, properties: Object.fromEntries(own) };
    });
  const queues = new Set(
    [...write.publish, ...write.errbacks].map(({ exchange, routingKey }) => exchange + routingKey),
  );
  expect(queues).toEqual(new Set(ours.length === 0 ? [] : ['out']));
  const stored = write.results.map((result) => untraced(String(result.meta)));
  const celerys = write.results.map((result) => celery.results[result.id] as string);
  // Groups are published first, so the order tells nothing; the tasks have names of their own.
  const order = (list: typeof ours): typeof ours =>
    list.toSorted((a, b) => String(a.headers['task']).localeCompare(String(b.headers['task'])));
  expect(order(ours).map(({ headers }) => Object.keys(headers))).toEqual(
    order(theirs).map(({ headers }) => Object.keys(headers)),
  );
  expect(anonymous(JSON.stringify([stored, order(ours).map(sorted)], undefined, 1), envelope)).toBe(
    anonymous(JSON.stringify([celerys, order(theirs).map(sorted)], undefined, 1), envelope),
  );
}

function sorted<T extends { readonly properties: Record<string, unknown> }>(message: T): T {
  const entries = Object.entries(message.properties).toSorted(([a], [b]) => a.localeCompare(b));
  return { ...message, properties: Object.fromEntries(entries) };
}

/** The traceback of a meta, which is one language's own. */
function untraced(meta: string): string {
  return meta.replace(/"traceback": "(?:[^"\\]|\\.)*"/, '"traceback": "TB"');
}

/** What differs from run to run, out of the way. */
function anonymous(json: string, envelope?: Envelope): string {
  const ids = new Map<string, string>();
  return untraced(json)
    .replaceAll(DATE, 'DATE')
    .replaceAll(/gen\d+@\w+/g, 'ORIGIN')
    .replaceAll(/"lang": "(js|py)"/g, '"lang": "js"')
    .replaceAll(/"expiration": "\d+"/g, '"expiration": "MS"')
    .replaceAll(UUID, (id) => {
      if (id === OID || id === envelope?.properties['reply_to']) return 'OID';
      if (!ids.has(id)) ids.set(id, `id${ids.size + 1}`);
      return ids.get(id) as string;
    });
}

function text(publication: Publication | undefined): string {
  return Buffer.from(publication?.body ?? []).toString('utf8');
}

function metaOf(write: CeleryWrites): Record<string, unknown> {
  return JSON.parse(String(write.results[0]?.meta)) as Record<string, unknown>;
}
