import type { PythonCanvas } from '../../support/python.ts';

/**
 * Workflows, each a tree of tasks with a role in it. A run gives every role a place: Python's queue or Node's. The tasks are
 * those both sides have (`both.…`), so that one shape run in two ways differs in nothing but who did what.
 */
export interface Shape {
  readonly name: string;
  readonly build: (task: Role) => PythonCanvas;
  /**
   * What Celery gets wrong here, for tests of what happens where a Node worker has a say: then the end is what `rightly` says
   * of the results by role, and not what Python made of it.
   */
  readonly fault?: string;
  readonly rightly?: Readonly<Record<string, unknown>>;
  /** Roles that whoever ended last has published: anybody may be their parent. @default those called body */
  readonly last?: readonly string[];
  /** Roles that must be Node's for it to come right. @default all */
  readonly cured?: readonly string[];
}

type Options = Readonly<Record<string, unknown>>;

/** A task in its role; the role is also its id, as far as the run's own prefix. */
export type Role = (role: string, name: string, args?: readonly unknown[], more?: RoleOptions) => PythonCanvas & Plain;

export interface RoleOptions {
  readonly immutable?: boolean;
  readonly options?: Options;
  readonly link?: readonly PythonCanvas[];
  readonly link_error?: readonly PythonCanvas[];
}

/** A signature as data, for tasks that take one as an argument. */
type Plain = Readonly<Record<string, unknown>>;

const dict = (type: string, kwargs: Plain): Plain => ({
  task: `celery.${type}`,
  args: [],
  kwargs,
  options: {},
  subtask_type: type,
  immutable: false,
});
const chainOf = (...tasks: readonly Plain[]): Plain => dict('chain', { tasks });
const groupOf = (...tasks: readonly Plain[]): Plain => dict('group', { tasks });
const chordOf = (header: readonly Plain[], body: Plain): Plain => dict('chord', { header, body, kwargs: {} });

export const SHAPES: readonly Shape[] = [
  { name: 'a task', build: (t) => t('a', 'add', [1, 2]) },
  { name: 'a chain of two', build: (t) => ({ chain: [t('a', 'add', [1, 2]), t('b', 'mul', [10])] }) },
  {
    name: 'a chain of five',
    build: (t) => ({
      chain: [t('a', 'add', [1, 2]), t('b', 'mul', [10]), t('c', 'add', [1]), t('d', 'echo'), t('e', 'echo', ['own'])],
    }),
  },
  {
    name: 'a chain with an immutable step',
    build: (t) => ({ chain: [t('a', 'add', [1, 2]), t('b', 'mul', [3, 4], { immutable: true }), t('c', 'add', [1])] }),
  },
  {
    name: 'a chain in a chain',
    build: (t) => ({
      chain: [t('a', 'add', [1, 2]), { chain: [t('b', 'add', [1]), t('c', 'mul', [2])] }, t('d', 'add', [1])],
    }),
  },
  {
    name: 'a chain that fails at its start',
    build: (t) => ({ chain: [t('a', 'fail', ['KeyError', 'k']), t('b', 'add', [1]), t('c', 'add', [1])] }),
  },
  {
    name: 'a chain that fails in its middle',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        t('b', 'fail', ['ValueError', 'no'], { immutable: true }),
        t('c', 'add', [1]),
        t('d', 'add', [1]),
      ],
    }),
  },
  {
    name: 'a chain that fails at its end',
    build: (t) => ({ chain: [t('a', 'add', [1, 2]), t('b', 'fail', ['ValueError', 'no'], { immutable: true })] }),
  },
  {
    name: 'a chain with a step that is retried',
    build: (t) => ({ chain: [t('a', 'retry_twice', [0.02]), t('b', 'add', [40])] }),
  },
  {
    name: 'a chain with a link and an errback',
    build: (t) => ({
      chain: [t('a', 'add', [1, 2]), t('b', 'add', [1])],
      link: [t('l', 'echo')],
      link_error: [t('x', 'told')],
    }),
  },
  {
    name: 'a chain whose errback is called',
    build: (t) => ({
      chain: [t('a', 'add', [1, 2]), t('b', 'fail', ['ValueError', 'no'], { immutable: true }), t('c', 'add', [1])],
      link_error: [t('x', 'told')],
    }),
  },

  { name: 'a link', build: (t) => t('a', 'add', [1, 2], { link: [t('l', 'add', [10])] }) },
  {
    name: 'three links',
    build: (t) => t('a', 'add', [1, 2], { link: [t('l', 'add', [10]), t('m', 'mul', [2]), t('n', 'echo')] }),
  },
  {
    name: 'a link with a link',
    build: (t) => t('a', 'add', [1, 2], { link: [t('l', 'add', [10], { link: [t('m', 'mul', [2])] })] }),
  },
  {
    name: 'a link that is a chain',
    build: (t) => t('a', 'add', [1, 2], { link: [{ chain: [t('l', 'add', [10]), t('m', 'mul', [2])] }] }),
  },
  {
    name: 'a link that is a group',
    build: (t) => t('a', 'add', [1, 2], { link: [{ group: [t('l', 'add', [10]), t('m', 'mul', [2])] }] }),
  },
  {
    name: 'a link that is a chord',
    build: (t) =>
      t('a', 'add', [1, 2], { link: [{ chord: [t('l', 'add', [10]), t('m', 'mul', [2])], body: t('body', 'tsum') }] }),
  },
  {
    name: 'an immutable link',
    build: (t) => t('a', 'add', [1, 2], { link: [t('l', 'add', [10, 20], { immutable: true })] }),
  },
  { name: 'an errback', build: (t) => t('a', 'fail', ['ValueError', 'no'], { link_error: [t('x', 'told')] }) },
  {
    name: 'two errbacks, one immutable',
    build: (t) =>
      t('a', 'fail', ['ValueError', 'no'], {
        link_error: [t('x', 'told'), t('y', 'told', ['own'], { immutable: true })],
      }),
  },
  {
    name: 'links of a task that fails',
    build: (t) => t('a', 'fail', ['ValueError', 'no'], { link: [t('l', 'echo')], link_error: [t('x', 'told')] }),
  },

  { name: 'a group', build: (t) => ({ group: [t('a', 'add', [1, 2]), t('b', 'mul', [3, 4]), t('c', 'echo', [5])] }) },
  {
    name: 'a group with a member that fails',
    build: (t) => ({ group: [t('a', 'add', [1, 2]), t('b', 'fail', ['KeyError', 'k'])] }),
  },
  {
    name: 'a group of chains',
    build: (t) => ({
      group: [
        { chain: [t('a', 'add', [1, 2]), t('b', 'mul', [10])] },
        { chain: [t('c', 'add', [3, 4]), t('d', 'mul', [10])] },
      ],
    }),
  },
  {
    name: 'a group in a group',
    build: (t) => ({ group: [t('a', 'add', [1, 2]), { group: [t('b', 'add', [3, 4]), t('c', 'add', [5, 6])] }] }),
  },
  {
    name: 'a chain that ends in a group',
    build: (t) => ({ chain: [t('a', 'add', [1, 2]), { group: [t('b', 'add', [1]), t('c', 'add', [2])] }] }),
  },
  {
    name: 'a chain that ends in a group of chains',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        { group: [{ chain: [t('b', 'add', [1]), t('c', 'mul', [2])] }, t('d', 'add', [2])] },
      ],
    }),
  },
  {
    name: 'a chain that fails before a group',
    build: (t) => ({
      chain: [t('a', 'fail', ['ValueError', 'no']), { group: [t('b', 'add', [1]), t('c', 'add', [2])] }],
    }),
    fault: 'the members of the group stay PENDING',
    rightly: { a: 'FAILURE', b: 'FAILURE', c: 'FAILURE' },
    cured: ['a'],
  },
  {
    name: 'a group with an errback',
    build: (t) => ({ group: [t('a', 'add', [1, 2]), t('b', 'fail', ['KeyError', 'k'])], link_error: [t('x', 'told')] }),
  },

  {
    name: 'a chord',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'mul', [3, 4]), t('c', 'add', [5, 6])],
      body: t('body', 'tsum'),
    }),
  },
  { name: 'a chord with one member', build: (t) => ({ chord: [t('a', 'add', [1, 2])], body: t('body', 'tsum') }) },
  {
    name: 'a chord whose results are of every kind',
    build: (t) => ({
      chord: [
        t('a', 'echo', ['ü"\\\u2028', null, true]),
        t('b', 'echo', [{ b: 1, a: [1.5, 2n ** 70n] }]),
        t('c', 'echo'),
      ],
      body: t('body', 'echo'),
    }),
  },
  {
    name: 'a chord with an immutable body',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])],
      body: t('body', 'add', [7, 8], { immutable: true }),
    }),
  },
  {
    name: 'a chord with arguments of its body',
    build: (t) => ({ chord: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])], body: t('body', 'echo', ['own']) }),
  },
  { name: 'a chord without a header', build: (t) => ({ chord: [], body: t('body', 'echo') }) },
  {
    name: 'a chord with a member that fails',
    build: (t) => ({ chord: [t('a', 'add', [1, 2]), t('b', 'fail', ['ValueError', 'no'])], body: t('body', 'tsum') }),
  },
  {
    name: 'a chord whose first member fails',
    build: (t) => ({
      chord: [t('a', 'fail', ['KeyError', 'k']), t('b', 'add', [1, 2]), t('c', 'add', [1, 2])],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord whose members all fail',
    build: (t) => ({
      chord: [t('a', 'fail', ['ValueError', 'one']), t('b', 'fail', ['ValueError', 'two'])],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord whose body fails',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])],
      body: t('body', 'fail', ['ValueError', 'no'], { immutable: true }),
    }),
  },
  {
    name: 'a chord with an errback, whose member fails',
    build: (t) => ({
      chord: [t('a', 'fail', ['ValueError', 'no']), t('b', 'add', [1, 2])],
      body: t('body', 'tsum', [], { link_error: [t('x', 'told')] }),
    }),
  },
  {
    name: 'a chord with an errback, whose body fails',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'add', [1, 2])],
      body: t('body', 'fail', ['ValueError', 'no'], { immutable: true, link_error: [t('x', 'told')] }),
    }),
  },
  {
    name: 'a chord with a link of its body and one of a member',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2], { link: [t('m', 'echo')] }), t('b', 'add', [3, 4])],
      body: t('body', 'tsum', [], { link: [t('l', 'echo')] }),
    }),
  },
  {
    name: 'a chord with a member that is retried',
    build: (t) => ({ chord: [t('a', 'retry_twice', [0.02]), t('b', 'add', [3, 4])], body: t('body', 'tsum') }),
  },
  {
    name: 'a chord with a member that gives up',
    build: (t) => ({
      chord: [t('a', 'retry_out', [0.02]), t('b', 'add', [3, 4])],
      body: t('body', 'tsum', [], { link_error: [t('x', 'told')] }),
    }),
    fault: 'the error has the name of each language',
    rightly: { body: 'FAILURE', x: 'SUCCESS' },
    cured: [],
  },
  {
    name: 'a chord with a member whose result is ignored',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2], { options: { ignore_result: true } }), t('b', 'add', [3, 4])],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord with a member that has expired',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2], { options: { expires: -60 } }), t('b', 'add', [3, 4])],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord of chains',
    build: (t) => ({
      chord: [
        { chain: [t('a', 'add', [1, 2]), t('b', 'mul', [10])] },
        { chain: [t('c', 'add', [3, 4]), t('d', 'mul', [10])] },
      ],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord of chains, one of which fails at its start',
    build: (t) => ({
      chord: [
        { chain: [t('a', 'fail', ['KeyError', 'k']), t('b', 'mul', [10])] },
        { chain: [t('c', 'add', [3, 4]), t('d', 'mul', [10])] },
      ],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord of chains, one of which fails at its end',
    build: (t) => ({
      chord: [
        { chain: [t('a', 'add', [1, 2]), t('b', 'fail', ['ValueError', 'no'], { immutable: true })] },
        t('c', 'add', [3, 4]),
      ],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a chord with a chain in its body',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])],
      body: { chain: [t('body', 'tsum'), t('d', 'mul', [10])] },
    }),
  },
  {
    name: 'a chord with a group in its body',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])],
      body: { group: [t('body', 'tsum'), t('body2', 'echo')] },
    }),
  },
  {
    name: 'a chord with a chord in its body',
    build: (t) => ({
      chord: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])],
      body: { chord: [t('body1', 'tsum'), t('body2', 'tsum')], body: t('body', 'tsum') },
    }),
  },
  {
    name: 'a chord of a group',
    build: (t) => ({ chord: [{ group: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])] }], body: t('body', 'echo') }),
  },
  {
    name: 'a chord in a chord',
    build: (t) => ({
      chord: [
        t('a', 'add', [1, 2]),
        { chord: [t('b', 'add', [3, 4]), t('c', 'add', [5, 6])], body: t('bodyin', 'tsum') },
      ],
      body: t('body', 'tsum'),
    }),
  },

  {
    name: 'a chain with a group in its middle',
    build: (t) => ({
      chain: [t('a', 'add', [1, 2]), { group: [t('b', 'add', [1]), t('c', 'add', [2])] }, t('body', 'tsum')],
    }),
  },
  {
    name: 'a chain with a group in its middle and two steps after it',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        { group: [t('b', 'add', [1]), t('c', 'add', [2])] },
        t('body', 'tsum'),
        t('e', 'mul', [10]),
      ],
    }),
  },
  {
    name: 'a chain that begins with a group',
    build: (t) => ({
      chain: [{ group: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])] }, t('body', 'tsum'), t('c', 'mul', [10])],
    }),
  },
  {
    name: 'a chain of groups and tasks',
    build: (t) => ({
      chain: [
        { group: [t('a', 'add', [1, 2]), t('b', 'add', [3, 4])] },
        t('body', 'tsum'),
        { group: [t('c', 'add', [1]), t('d', 'add', [2])] },
        t('bodyend', 'tsum'),
      ],
    }),
  },
  {
    name: 'a chain with a chord in its middle',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        { chord: [t('b', 'add', [1]), t('c', 'add', [2])], body: t('body', 'tsum') },
        t('d', 'mul', [10]),
      ],
    }),
  },
  {
    name: 'a chain with a group in its middle, whose member fails',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        { group: [t('b', 'add', [1]), t('c', 'fail', ['KeyError', 'k'], { immutable: true })] },
        t('body', 'tsum'),
      ],
    }),
  },
  {
    name: 'a chain that fails before a chord',
    build: (t) => ({
      chain: [
        t('a', 'fail', ['KeyError', 'k']),
        { group: [t('b', 'add', [1]), t('c', 'add', [2])] },
        t('body', 'tsum'),
      ],
    }),
    fault: 'the body stays PENDING',
    rightly: { a: 'FAILURE', body: 'FAILURE' },
    cured: ['a'],
  },

  {
    name: 'a chord with a chain that ends in a group',
    build: (t) => ({
      chord: [
        { chain: [t('a', 'add', [1, 2]), { group: [t('b', 'add', [1]), t('c', 'add', [2])] }] },
        t('d', 'add', [9, 1]),
      ],
      body: t('body', 'echo'),
    }),
    fault: 'the inner group overwrites the size of the chord',
    rightly: { body: [[[[4, 5], 10]], {}] },
    cured: ['a'],
  },
  {
    name: 'a chord with a chain that fails before its group',
    build: (t) => ({
      chord: [
        { chain: [t('a', 'fail', ['KeyError', 'k']), { group: [t('b', 'add', [1]), t('c', 'add', [2])] }] },
        t('d', 'add', [9, 1]),
      ],
      body: t('body', 'echo'),
    }),
    fault: 'the body waits for the group for ever',
    rightly: { b: 'FAILURE', c: 'FAILURE', body: 'FAILURE' },
    cured: ['a', 'd'],
  },
  {
    name: 'a chord in a chord, whose member fails',
    build: (t) => ({
      chord: [
        t('a', 'add', [1, 2]),
        { chord: [t('b', 'fail', ['KeyError', 'k']), t('c', 'add', [5, 6])], body: t('bodyin', 'tsum') },
      ],
      body: t('body', 'tsum'),
    }),
    fault: 'the outer chord is not told',
    rightly: { bodyin: 'FAILURE', body: 'FAILURE' },
  },
  {
    name: 'a chord with a member that is discarded',
    build: (t) => ({ chord: [t('a', 'ignore'), t('b', 'add', [3, 4])], body: t('body', 'tsum') }),
    fault: 'the body waits for ever',
    rightly: { body: 'FAILURE' },
    cured: ['a'],
  },

  {
    name: 'a task that is replaced',
    build: (t) => t('a', 'become', [t('b', 'add', [3, 4], { options: { task_id: undefined } })]),
  },
  {
    name: 'a step that is replaced',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        t('b', 'become', [t('i', 'add', [10], { options: { task_id: undefined } })]),
        t('c', 'mul', [2]),
      ],
    }),
  },
  {
    name: 'a task with a link that is replaced',
    build: (t) =>
      t('a', 'become', [t('i', 'add', [3, 4], { options: { task_id: undefined } })], { link: [t('l', 'echo')] }),
  },
  {
    name: 'a task that is replaced by a chain',
    build: (t) =>
      t('a', 'become', [chainOf(t('i', 'add', [3, 4]), t('j', 'mul', [10], { options: { task_id: undefined } }))]),
  },
  {
    name: 'a step that is replaced by a chain',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        t('b', 'become', [chainOf(t('i', 'add', [3, 4]), t('j', 'mul', [10], { options: { task_id: undefined } }))]),
        t('c', 'add', [1]),
      ],
    }),
  },
  {
    name: 'a task that is replaced by a group',
    last: ['a'],
    build: (t) => t('a', 'become', [groupOf(t('i', 'add', [3, 4]), t('j', 'mul', [3, 4]))]),
  },
  {
    name: 'a step that is replaced by a group',
    last: ['b'],
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        t('b', 'become', [groupOf(t('i', 'add', [3, 4]), t('j', 'mul', [3, 4]))]),
        t('c', 'tsum'),
      ],
    }),
  },
  {
    name: 'a task that is replaced by a chord',
    last: ['a'],
    build: (t) =>
      t('a', 'become', [
        chordOf(
          [t('i', 'add', [3, 4]), t('j', 'mul', [3, 4])],
          t('k', 'tsum', [], { options: { task_id: undefined } }),
        ),
      ]),
  },
  {
    name: 'a member of a chord that is replaced',
    build: (t) => ({
      chord: [t('a', 'become', [t('i', 'add', [3, 4], { options: { task_id: undefined } })]), t('b', 'add', [1, 2])],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a member of a chord that is replaced by a chain',
    build: (t) => ({
      chord: [
        t('a', 'become', [chainOf(t('i', 'add', [3, 4]), t('j', 'mul', [10], { options: { task_id: undefined } }))]),
        t('b', 'add', [1, 2]),
      ],
      body: t('body', 'tsum'),
    }),
  },
  {
    name: 'a member of a chord that is replaced by a group',
    last: ['a'],
    build: (t) => ({
      chord: [t('a', 'become', [groupOf(t('i', 'add', [3, 4]), t('j', 'mul', [3, 4]))]), t('b', 'add', [1, 2])],
      body: t('body', 'echo'),
    }),
  },
  {
    name: 'a successor that fails',
    build: (t) => ({
      chain: [
        t('a', 'become', [t('i', 'fail', ['KeyError', 'k'], { options: { task_id: undefined } })]),
        t('b', 'add', [1]),
      ],
      link_error: [t('x', 'told')],
    }),
  },

  {
    name: 'a member that adds to its chord',
    build: (t) => ({ chord: [t('a', 'grow', [t('i', 'add', [3, 4])]), t('b', 'echo')], body: t('body', 'echo') }),
  },
  { name: 'a task that sends another', build: (t) => t('a', 'spawn', [t('i', 'add', [3, 4])]) },
  {
    name: 'a task that sends a group',
    build: (t) => t('a', 'spawn', [groupOf(t('i', 'add', [3, 4]), t('j', 'add', [1, 2]))]),
  },
  {
    name: 'a task that sends a chord',
    build: (t) => t('a', 'spawn', [chordOf([t('i', 'add', [3, 4]), t('j', 'add', [1, 2])], t('body', 'tsum'))]),
  },
  {
    name: 'a map',
    build: (t) => ({ map: t('i', 'tsum'), it: [[1, 2], [3]], options: t('m', 'x')['options'] as Options }),
  },
  {
    name: 'a starmap',
    build: (t) => ({
      starmap: t('i', 'add'),
      it: [
        [1, 2],
        [3, 4],
      ],
      options: t('m', 'x')['options'] as Options,
    }),
  },
  {
    name: 'a chain with a map in its middle',
    build: (t) => ({
      chain: [
        t('a', 'add', [1, 2]),
        { map: t('i', 'tsum'), it: [[1, 2], [3]], options: t('m', 'x')['options'] as Options },
        t('b', 'tsum'),
      ],
    }),
  },
  {
    name: 'a chord of a starmap and a task',
    build: (t) => ({
      chord: [
        { starmap: t('i', 'add'), it: [[1, 2]], options: t('m', 'x')['options'] as Options },
        t('a', 'add', [3, 4]),
      ],
      body: t('body', 'echo'),
    }),
  },
  {
    name: 'chunks',
    build: (t) => ({
      chunks: t('i', 'add'),
      it: [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      n: 2,
    }),
  },
];
