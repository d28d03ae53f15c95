import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import { decodeTask, type TaskMessage } from '../../../protocols/celery/message/message.ts';
import { chordMember, replacement } from '../../../protocols/celery/canvas/replace.ts';
import { acceptSet, defaultLimits, encodeJson } from '../../../protocols/celery/message/serializers.ts';
import { signatureToMap } from '../../../protocols/celery/canvas/signature.ts';

// That whole workflows end as in Python is seen in test/interop/celery-canvas-worker.test.ts.

describe('the successor of a task', () => {
  it('has its id, its links, its place in a chord and its stamps', () => {
    const message = received({
      callbacks: [{ task: 'x.link' }],
      errbacks: [{ task: 'x.err' }],
      chord: { task: 'x.body' },
    });
    expect(plain(replacement(message, { task: 'x.new', args: [1], options: { queue: 'q' } }))).toMatchObject({
      task: 'x.new',
      args: [1],
      options: {
        queue: 'q',
        task_id: 'own',
        group_id: 'g',
        group_index: 2,
        root_id: 'root',
        chord: { task: 'x.body' },
        link: [{ task: 'x.link' }],
        link_error: [{ task: 'x.err' }],
        tenant: 'acme',
        stamped_headers: ['tenant'],
        replaced_task_nesting: 4,
      },
    });
  });

  it('keeps a stamp of its own', () => {
    const by = { task: 'x.new', options: { stamped_headers: ['tenant'], tenant: 'other' } };
    expect(plain(replacement(received({}), by)).options).toMatchObject({
      tenant: 'other',
      stamped_headers: ['tenant'],
    });
  });

  it('comes before the steps that are left, in their order', () => {
    const chain = [
      { task: 'x.last', options: { task_id: 'l' } },
      { task: 'x.next', options: { task_id: 'n' } },
    ];
    const { kwargs } = plain(replacement(received({ chain }), { task: 'x.new' }));
    expect(kwargs.tasks.map(({ task, options }) => [task, options['task_id']])).toEqual([
      ['x.new', 'own'],
      ['x.next', 'n'],
      ['x.last', 'l'],
    ]);
  });

  it('that is a group is gathered, and so is one at the end of a chain', () => {
    const group = { task: 'celery.group', kwargs: { tasks: [{ task: 'x.a' }] }, subtask_type: 'group' };
    const { subtask_type, kwargs } = plain(replacement(received({}), group));
    expect(subtask_type).toBe('chord');
    expect(kwargs.body).toMatchObject({ task: 'celery.accumulate', kwargs: { index: 0 }, options: { task_id: 'own' } });
    const chain = { task: 'celery.chain', kwargs: { tasks: [{ task: 'x.s' }, group] }, subtask_type: 'chain' };
    expect(plain(replacement(received({}), chain)).kwargs.tasks.at(-1)).toMatchObject({
      task: 'celery.accumulate',
      options: { task_id: 'own' },
    });
  });

  it('a task that joins a chord has its group, its place and its body', () => {
    const message = received({ chord: { task: 'x.body' } });
    expect(plain(chordMember(message, { task: 'x.more' })).options).toMatchObject({
      group_id: 'g',
      group_index: 2,
      chord: { task: 'x.body' },
      root_id: 'root',
    });
    expect(() => chordMember(received({}), { task: 'x.more' })).toThrow('not a member of any chord');
  });
});

interface Plain {
  readonly options: Readonly<Record<string, unknown>>;
  readonly kwargs: { readonly tasks: readonly Plain[]; readonly body: unknown };
  readonly task: string;
  readonly subtask_type: string | null;
}

function plain(signature: ReturnType<typeof replacement>): Plain {
  return JSON.parse(encodeJson(signatureToMap(signature))) as Plain;
}

function received(embed: object): TaskMessage {
  const none = { callbacks: null, errbacks: null, chain: null, chord: null };
  return decodeTask(
    {
      body: Buffer.from(JSON.stringify([[], {}, { ...none, ...embed }])),
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      headers: {
        task: 'x.old',
        id: 'own',
        root_id: 'root',
        group: 'g',
        group_index: 2,
        replaced_task_nesting: 3,
        stamped_headers: ['tenant'],
        stamps: { tenant: 'acme' },
      },
      properties: {},
      raw: undefined,
    },
    { accept: acceptSet(['json']), limits: defaultLimits },
  );
}
