import { describe, expect, it } from 'vitest';
import type { TaskCall } from '../../../protocols/celery/message/message.ts';
import { encodeTask } from '../../../protocols/celery/message/message.ts';
import { resultTuple } from '../../../protocols/celery/outcome/result.ts';
import { encodeJson } from '../../../protocols/celery/message/serializers.ts';
import { type Application, apply } from '../../../protocols/celery/canvas/apply.ts';
import type { Publisher } from '../../../protocols/celery/message/call.ts';
import { type Extra, groupOf, readSignature, signatureToMap } from '../../../protocols/celery/canvas/signature.ts';
import { WireError } from '../../../protocols/errors.ts';
import { parseExact } from '../../../protocols/formats/json.ts';
import { Numeral } from '../../../protocols/formats/values.ts';

// What follows from signatures in a worker is compared with recordings of Celery in lifecycle.test.ts.

describe('reading a signature', () => {
  it('keeps every byte of what it does not change', () => {
    const text =
      '{"task": "x.a", "args": [1.0, 12345678901234567890], "kwargs": {"b": 1, "a": 2}, "options": {"queue": "q", "task_id": "t"}, "subtask_type": null, "immutable": true}';
    expect(encodeJson(signatureToMap(readSignature(parseExact(text))))).toBe(text);
  });

  it('takes what is missing as empty', () => {
    expect(readSignature({ task: 'x.a', args: null })).toEqual({
      task: 'x.a',
      args: [],
      kwargs: new Map(),
      options: new Map(),
      subtaskType: null,
      immutable: false,
    });
  });

  it.each([
    null,
    7,
    [],
    {},
    { task: '' },
    { task: 'a', args: 7 },
    { task: 'a', kwargs: [] },
    { task: 'a', options: 'x' },
  ])('refuses %o', (value) => {
    expect(() => readSignature(value)).toThrow(WireError);
  });
});

describe('applying a task', () => {
  it('puts arguments in front, unless it is immutable', () => {
    const kwargs = new Map([['a', 3]]);
    expect(call({ args: [2], kwargs: { a: 1, b: 2 } }, { args: [1], kwargs })).toMatchObject({ args: [1, 2] });
    expect(call({ args: [2], kwargs: { a: 1 } }, { args: [1], kwargs }).kwargs).toEqual(kwargs);
    const fixed = call({ args: [2], kwargs: { a: 1 }, immutable: true }, { args: [1], kwargs });
    expect(fixed).toMatchObject({ args: [2], kwargs: new Map([['a', 1]]) });
  });

  it('lets the options of the call win, except over group and stamps', () => {
    const own = { priority: 1, group_id: 'g', stamp: 'a', stamped_headers: ['stamp'], shadow: 'kept' };
    const over = new Map<string, unknown>([
      ['priority', 2],
      ['group_id', 'other'],
      ['stamp', 'b'],
      ['stamped_headers', []],
      ['shadow', null],
    ]);
    expect(call({ options: own }, { options: over })).toMatchObject({
      priority: 2,
      group: 'g',
      stamps: { stamp: 'a' },
      stampedHeaders: ['stamp'],
      shadow: 'kept',
    });
  });

  it.each([
    [{ countdown: 90 }, { eta: '2026-11-21T03:05:35.678000+00:00' }],
    [{ countdown: new Numeral('0.5') }, { eta: '2026-11-21T03:04:06.178000+00:00' }],
    [{ countdown: 0, eta: '2030-01-01T00:00:00' }, { eta: '2030-01-01T00:00:00' }],
    [{ expires: 60 }, { expires: '2026-11-21T03:05:05.678000+00:00', expiration: '60000' }],
    [{ expires: '2026-11-21T03:04:06+00:00' }, { expires: '2026-11-21T03:04:06+00:00', expiration: '322' }],
    [{ expires: -5 }, { expires: '2026-11-21T03:04:00.678000+00:00', expiration: '0' }],
    [
      { expires: { __type__: 'datetime', __value__: '2026-11-21T03:04:06+00:00' } },
      { expires: '2026-11-21T03:04:06+00:00', expiration: '322' },
    ],
    [{ link: { task: 'x.l' } }, { callbacks: [{ task: 'x.l' }] }],
    [
      { link: [], link_error: null },
      { callbacks: [], errbacks: null },
    ],
    [
      { root_id: 'r', parent_id: 'p' },
      { rootId: 'r', parentId: 'p' },
    ],
    [{}, { rootId: 'root', parentId: 'parent', id: 'id1', origin: 'gen1@js', replyTo: 'oid' }],
    [
      { task_id: null, group_id: null },
      { id: 'id1', group: null },
    ],
    [
      { time_limit: 9, soft_time_limit: 8.5 },
      { timeLimit: 9, softTimeLimit: 8.5 },
    ],
    [{ queue: 'fast' }, { exchange: '', routingKey: 'fast' }],
    [
      { reply_to: 'r', origin: 'o', serializer: 'yaml', compression: 'gzip' },
      { replyTo: 'r', origin: 'o', serializer: 'yaml', compression: 'gzip' },
    ],
  ])('%o', (options, expected) => {
    expect(call({ options })).toMatchObject(expected);
  });

  it('takes what is known of the task where the signature says nothing', () => {
    const defaults = (): ReadonlyMap<string, unknown> =>
      new Map([
        ['priority', 4],
        ['queue', 'own'],
      ] as [string, unknown][]);
    const [first] = applied({ task: 'x.a', options: { priority: 1 } }, {}, { ...publisher(), defaults }).calls;
    expect(first).toMatchObject({ priority: 1, routingKey: 'own' });
  });

  it.each(['xmap', 'xstarmap', 'chunks'])('%s goes where its inner task goes, under its own id', (type) => {
    const route = (task: string): { exchange: string; routingKey: string } => ({
      exchange: '',
      routingKey: `of ${task}`,
    });
    const signature = {
      task: 'celery.map',
      kwargs: { task: { task: 'x.inner' }, it: [1] },
      options: { task_id: 't' },
      subtask_type: type,
      immutable: true,
    };
    const { calls, children } = applied(signature, { args: [1] }, { ...publisher(), route });
    expect(calls).toMatchObject([{ task: 'celery.map', id: 't', args: [], routingKey: 'of x.inner' }]);
    expect(children).toEqual([resultTuple('t')]);
  });
});

describe('applying a composite', () => {
  it('an empty chain or group is nothing', () => {
    expect(applied(chain())).toEqual({ chords: [], calls: [], children: [], result: undefined });
    expect(apply(groupOf([]), {}, publisher())).toMatchObject({ chords: [], calls: [], children: [] });
  });

  it('a chain takes the rest of an outer one along, after its own', () => {
    const options = new Map([['chain', [{ task: 'x.outer' }]]]);
    const { calls } = applied(chain({ task: 'x.a' }, chain({ task: 'x.b' }, { task: 'x.c' })), { args: [1], options });
    expect(calls).toHaveLength(1);
    expect(calls[0]).toMatchObject({ task: 'x.a', args: [1] });
    expect(tasksOf(calls[0]?.chain)).toEqual(['x.outer', 'x.c', 'x.b']);
  });

  it('an errback that a step has already is not added again', () => {
    const errback = { task: 'x.err', args: [], kwargs: {}, options: {}, subtask_type: null, immutable: false };
    const step = { task: 'x.a', options: { link_error: [errback] } };
    const [first] = applied({ ...chain(step, { task: 'x.b' }), options: { link_error: [errback] } }).calls;
    expect(first?.errbacks).toHaveLength(1);
  });

  it('a group in the middle of a chain becomes the header of a chord', () => {
    const middle = {
      task: 'celery.group',
      kwargs: { tasks: [{ task: 'x.m' }, { task: 'x.n' }] },
      subtask_type: 'group',
    };
    const { calls } = applied(chain({ task: 'x.a' }, middle, { task: 'x.body' }, { task: 'x.end' }));
    expect(calls).toHaveLength(1);
    expect(tasksOf(calls[0]?.chain)).toEqual(['x.end', 'celery.chord']);
  });

  describe('a chord', () => {
    const member = { task: 'x.m', options: { task_id: 'm', chord: {} } };
    const chord = {
      task: 'celery.chord',
      kwargs: {
        kwargs: {},
        header: {
          task: 'celery.group',
          kwargs: { tasks: [member, { task: 'x.n' }] },
          options: { task_id: 'gid' },
          subtask_type: 'group',
        },
        body: { task: 'x.body', options: { task_id: 'b', queue: 'q' } },
      },
      options: { task_id: 'gid' },
      subtask_type: 'chord',
    };
    const counted: Publisher = { ...publisher(), chords: 'counted' };

    it('publishes its header, each member with the body that follows, and is counted', () => {
      const options = new Map<string, unknown>([
        ['chain', [{ task: 'x.later' }]],
        ['root_id', 'r'],
        ['priority', null],
      ]);
      const { calls, chords, children } = applied(chord, { args: [5], options }, counted);
      expect(chords).toEqual([{ group: 'gid', size: 2, saved: undefined }]);
      expect(calls.map(({ task, args, group, groupIndex, rootId }) => [task, args, group, groupIndex, rootId])).toEqual(
        [
          ['x.m', [5], 'gid', 0, 'r'],
          ['x.n', [5], 'gid', 1, 'r'],
        ],
      );
      expect(calls.map(({ chain: rest }) => rest)).toEqual([null, null]);
      const bodies = calls.map((each) => JSON.parse(encodeJson(each.chord)));
      expect(bodies[0].options).toEqual({
        task_id: 'b',
        queue: 'q',
        chain: [{ task: 'x.later' }],
        root_id: 'r',
        priority: null,
        reply_to: 'oid',
        group_id: 'gid',
      });
      expect(bodies[1]).toEqual(bodies[0]);
      expect(children.map(([[id], members]) => [id, members?.length])).toEqual([['gid', 2]]);
    });

    it('asks for the results of its header where nobody counts', () => {
      const { calls, chords } = applied(chord, {}, publisher());
      expect(chords).toEqual([]);
      expect(calls.map(({ task }) => task)).toEqual(['celery.chord_unlock', 'x.m', 'x.n']);
      const [unlock] = calls;
      expect(unlock).toMatchObject({ routingKey: 'q', eta: '2026-11-21T03:04:06.678000+00:00', ignoreResult: true });
      expect(unlock?.args[0]).toBe('gid');
      expect(unlock?.kwargs).toEqual(
        new Map<string, unknown>([
          ['interval', null],
          ['max_retries', null],
          ['result', [resultTuple('m'), expect.anything()]],
        ]),
      );
    });

    it('is refused where there are no results at all', () => {
      expect(() => applied(chord, {}, { ...publisher(), chords: 'refused' })).toThrow('need a result backend');
    });

    it('without a header applies its body to an empty list', () => {
      const empty = { ...chord, kwargs: { ...chord.kwargs, header: [] } };
      const { calls, chords } = applied(empty, {}, counted);
      expect(calls).toMatchObject([{ task: 'x.body', id: 'b', args: [[]] }]);
      expect(chords).toEqual([]);
    });

    it('counts what its members end in, and remembers their shape where that is more than a list', () => {
      const ending = chain({ task: 'x.a' }, { ...groupMap({ task: 'x.b' }, { task: 'x.c' }) });
      const nested = { ...chord, options: {}, kwargs: { ...chord.kwargs, header: [ending, { task: 'x.d' }, chord] } };
      const { chords, calls } = applied(nested, {}, counted);
      expect(chords.map(({ size }) => size)).toEqual([4, 2]);
      expect(chords[0]?.saved?.[1]?.map(([, members]) => members?.length ?? null)).toEqual([2, null, null]);
      expect(calls.map(({ task }) => task)).toEqual(['x.a', 'x.d', 'x.m', 'x.n']);
      // The body of the inner chord is what the outer one waits for.
      const inner = JSON.parse(encodeJson(calls[2]?.chord));
      expect(inner.options).toMatchObject({ task_id: 'b', group_id: chords[0]?.group, group_index: 2 });
      expect(inner.options.chord.task).toBe('x.body');
    });

    it('that a group carries as a step of a chain keeps its size', () => {
      const step = {
        ...groupMap({ task: 'x.a' }, { task: 'x.b' }),
        options: { task_id: 'gid', chord: { task: 'x.body' } },
      };
      const { chords, calls } = applied(step, { args: [1] }, counted);
      expect(chords).toEqual([]);
      expect(
        calls.map(({ group, chord: body }) => [group, (body as ReadonlyMap<string, unknown>).get('task')]),
      ).toEqual([
        ['gid', 'x.body'],
        ['gid', 'x.body'],
      ]);
    });

    it('in the body of a chord in the body of a chord does not grow with each level', () => {
      let deep: object = { task: 'x.end' };
      for (let level = 0; level < 40; level++)
        deep = { ...chord, options: {}, kwargs: { kwargs: {}, header: [{ task: 'x.m' }], body: deep } };
      const { calls } = applied(deep as Record<string, unknown>, {}, counted);
      expect(encodeJson(calls[0]?.chord).length).toBeLessThan(100_000);
    });
  });

  it.each([
    { task: 'celery.chain', kwargs: { tasks: [7] }, subtask_type: 'chain' },
    { task: 'celery.group', kwargs: { tasks: ['x'] }, subtask_type: 'group' },
    { task: 'celery.chord', kwargs: { header: [] }, subtask_type: 'chord' },
  ])('%o is refused', (signature) => {
    expect(() => applied(signature)).toThrow(WireError);
  });

  it('what comes out can be written', () => {
    const { calls } = applied(chain({ task: 'x.a', options: { headers: { h: 1 } } }, { task: 'x.b' }), { args: [1] });
    const publication = encodeTask(calls[0] as TaskCall);
    expect(publication.headers.get('h')).toBe(1);
    expect(publication.headers.get('root_id')).toBe('root');
  });
});

function publisher(): Publisher {
  let minted = 0;
  return {
    now: new Date('2026-11-21T03:04:05.678Z'),
    newId: () => `id${++minted}`,
    origin: 'gen1@js',
    route: (_task, options) => ({ exchange: '', routingKey: (options.get('queue') ?? 'celery') as string }),
    replyTo: 'oid',
    rootId: 'root',
    parentId: 'parent',
  };
}

function applied(signature: object, extra: Extra = {}, by: Publisher = publisher()): Application {
  return apply(readSignature(parseExact(encodeJson(signature))), extra, by);
}

function call(signature: object, extra: Extra = {}): TaskCall {
  const { calls } = apply(readSignature({ task: 'x.a', ...signature }), extra, publisher());
  return calls[0] as TaskCall;
}

function chain(...tasks: readonly object[]): object {
  return { task: 'celery.chain', kwargs: { tasks }, subtask_type: 'chain' };
}

function groupMap(...tasks: readonly object[]): object {
  return { task: 'celery.group', kwargs: { tasks }, subtask_type: 'group' };
}

function tasksOf(list: readonly unknown[] | null | undefined): unknown[] {
  return (list ?? []).map((item) =>
    item instanceof Map ? (item.get('task') as unknown) : (item as { task: unknown }).task,
  );
}
