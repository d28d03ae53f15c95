import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import type { Publisher } from '../../../protocols/celery/message/call.ts';
import { bodyFailed, join, memberPrefix, readEnded, readMember } from '../../../protocols/celery/canvas/chord.ts';
import { unreachedTasks } from '../../../protocols/celery/outcome/unreached.ts';
import type { CeleryPolicy } from '../../../protocols/celery/outcome/policy.ts';
import { chordKeys, countMember } from '../../../protocols/celery/canvas/redis-chord.ts';
import { groupTuple, resultTuple } from '../../../protocols/celery/outcome/result.ts';
import { defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import { WireError } from '../../../protocols/errors.ts';
import { Numeral } from '../../../protocols/formats/values.ts';

const ok = (id: string, result: unknown): { id: string; state: string; result: unknown } => ({
  id,
  state: 'SUCCESS',
  result,
});
const failed = (id: string, message: string): { id: string; state: string; result: unknown } => ({
  id,
  state: 'FAILURE',
  result: { exc_type: 'ValueError', exc_message: [message], exc_module: 'builtins' },
});

describe('a member of a chord', () => {
  it('is read exactly', () => {
    const member = readMember(Buffer.from('[1, "a", "SUCCESS", [1.0, 12345678901234567890]]'), 'json', defaultLimits);
    expect(member).toEqual({ id: 'a', state: 'SUCCESS', result: [new Numeral('1.0'), 12345678901234567890n] });
  });

  it.each(['', 'x', '7', 'null', '{}', '[]', '[1, "a", "SUCCESS"]', '[1, 2, "SUCCESS", 3]', '[1, "a", "S", 3, 4]'])(
    'that is %j is refused',
    (text) => {
      expect(() => readMember(Buffer.from(text), 'json', defaultLimits)).toThrow(WireError);
    },
  );

  it('begins in one way, whatever its id', () => {
    expect(memberPrefix('a"ü')).toBe('[1, "a\\"\\u00fc", ');
  });

  it('is counted in one transaction, at the end where it has no place', () => {
    const keys = chordKeys('p_', 'g');
    const member = { member: 'm', index: undefined, again: undefined };
    const { commands, atomic, read } = countMember(keys, member, true, 0);
    expect(atomic).toBe(true);
    expect(commands).toEqual([
      ['ZADD', 'p_celery-taskset-meta-g.j', '+inf', 'm'],
      ['ZCOUNT', 'p_celery-taskset-meta-g.j', '-inf', '+inf'],
      ['GET', 'p_celery-taskset-meta-g.t'],
      ['GET', 'p_celery-taskset-meta-g.s'],
    ]);
    expect(read([1, 2, null, Buffer.from('3')])).toEqual({ ended: 2, added: undefined, size: '3' });
  });
});

describe('a stored result', () => {
  it('is read where the task has ended', () => {
    expect(readEnded('a', Buffer.from('{"status": "SUCCESS", "result": 1.0}'), 'json', defaultLimits)).toEqual(
      ok('a', new Numeral('1.0')),
    );
    expect(readEnded('a', Buffer.from('{"status": "STARTED", "result": {}}'), 'json', defaultLimits)).toBeUndefined();
    expect(readEnded('a', Buffer.from('[]'), 'json', defaultLimits)).toBeUndefined();
  });
});

describe('joining a header', () => {
  const shape = groupTuple('g', [groupTuple('g', [resultTuple('a'), resultTuple('b')]), resultTuple('c')]);

  it('gives the results in the order of the members', () => {
    expect(join([ok('b', 2), ok('a', 1)], undefined)).toEqual({ kind: 'joined', results: [2, 1] });
  });

  it('names the first that failed', () => {
    expect(join([ok('a', 1), failed('b', 'no'), failed('c', 'never')], undefined)).toMatchObject({
      kind: 'failed',
      failure: { reason: "Dependency b raised ValueError('no')", cause: { type: 'ValueError' } },
    });
  });

  it('gives them in the shape that was saved', () => {
    expect(join([ok('c', 3), ok('b', 2), ok('a', 1)], shape)).toEqual({ kind: 'joined', results: [[1, 2], 3] });
  });

  it('says which are missing in that shape, unless one failed', () => {
    expect(join([ok('c', 3)], shape)).toEqual({ kind: 'missing', ids: ['a', 'b'] });
    expect(join([failed('b', 'no')], shape)).toMatchObject({ failure: { reason: "Join error: ValueError('no')" } });
  });
});

describe('a body that does not run', () => {
  const cause = { type: 'KeyError', module: 'builtins', args: ['k'] };
  const failure = { reason: 'why', cause };
  const outer = { task: 'x.outer', options: { task_id: 'outer' } };
  const fail = (body: unknown, policy: Partial<CeleryPolicy> = {}): ReturnType<typeof bodyFailed> =>
    bodyFailed(body, failure, { ...POLICY, ...policy }, PUBLISHER());
  const stored = (body: unknown): Record<string, string> =>
    Object.fromEntries(
      fail(body).results.map(({ id, meta }) => [id, (JSON.parse(String(meta)) as Meta).result.exc_type]),
    );

  it('fails under its id, and calls its errbacks with it', () => {
    const body = { task: 'x.body', options: { task_id: 'b', link_error: [{ task: 'x.err' }] } };
    expect(stored(body)).toEqual({ b: 'ChordError' });
    const [errback, ...more] = fail(body).errbacks;
    expect(more).toEqual([]);
    expect(errback?.headers.get('task')).toBe('x.err');
    expect(String(errback?.body)).toMatch(/^\[\["b"\]/);
  });

  it('hands an errback that takes the request to this process', () => {
    const body = { task: 'x.body', options: { task_id: 'b', link_error: [{ task: 'x.err', args: [1] }] } };
    const { errbacks, errbackCalls } = fail(body, { takesRequest: () => true });
    expect(errbacks).toEqual([]);
    expect(errbackCalls).toMatchObject([
      {
        task: 'x.err',
        args: [1],
        request: { id: 'b', task: 'x.body' },
        failure: { type: 'ChordError', message: 'why' },
      },
    ]);
  });

  it('is the end of a chain, and what was to follow', () => {
    const chain = {
      task: 'celery.chain',
      kwargs: {
        tasks: [
          { task: 'x.a', options: { task_id: 'a' } },
          { task: 'x.b', options: { task_id: 'b' } },
        ],
      },
      options: { task_id: 'b', chain: [{ task: 'x.later', options: { task_id: 'later' } }] },
      subtask_type: 'chain',
    };
    expect(stored(chain)).toEqual({ b: 'ChordError', later: 'ChordError' });
  });

  it('is each task of a group, which fails by what the member raised', () => {
    const tasks = ['a', 'b'].map((id) => ({ task: 'x', options: { task_id: id } }));
    const group = { task: 'celery.group', kwargs: { tasks }, options: { task_id: 'gid' }, subtask_type: 'group' };
    expect(stored(group)).toEqual({ a: 'KeyError', b: 'KeyError', gid: 'KeyError' });
  });

  it('is the body of a chord, and its part in the chord around it', () => {
    const inner = { task: 'x.body', options: { task_id: 'b', chord: outer, group_id: 'og', group_index: 3 } };
    const kwargs = { header: [{ task: 'x.h', options: { task_id: 'h' } }], body: inner, kwargs: {} };
    const body = { task: 'celery.chord', kwargs, subtask_type: 'chord' };
    expect(stored(body)).toEqual({ b: 'ChordError' });
    expect(fail(body).chordParts).toMatchObject([{ id: 'b', group: 'og', groupIndex: 3, state: 'FAILURE' }]);
  });

  it.each([7, null, {}, { task: '' }])('and is %j is a problem, no more', (body) => {
    expect(fail(body)).toMatchObject({
      results: [],
      errbacks: [],
      chordParts: [],
      problems: [{ code: 'bad-signature' }],
    });
  });
});

describe('the ends of what will not run', () => {
  it.each([7, null, 'x', [], {}])('of %j are none, or nothing that anybody waits for', (value) => {
    for (const end of unreachedTasks(value)) expect(end).toMatchObject({ id: undefined, chord: undefined });
  });

  it('are found under names of prototypes, too', () => {
    const signature = new Map<string, unknown>([
      ['task', '__proto__'],
      [
        'options',
        new Map([
          ['__proto__', 'x'],
          ['task_id', 'a'],
        ]),
      ],
    ]);
    expect(unreachedTasks(signature)).toMatchObject([{ id: 'a', task: '__proto__' }]);
  });
});

interface Meta {
  readonly result: { readonly exc_type: string };
}

const POLICY: CeleryPolicy = {
  ignoreResult: false,
  storeErrorsEvenIfIgnored: false,
  acksLate: false,
  acksOnFailureOrTimeout: true,
  retry: {},
  resultSerializer: 'json',
  resultExtended: false,
  typed: true,
  nodename: 'celery@here',
  origin: 'gen1@here',
  replyTo: '',
  route: () => ({ exchange: '', routingKey: 'celery' }),
  taskSerializer: 'json',
  inheritParentPriority: false,
};

function PUBLISHER(): Publisher {
  let minted = 0;
  const { origin, route } = POLICY;
  return { now: new Date('2026-11-21T03:04:05.678Z'), newId: () => `id${++minted}`, origin, route };
}
