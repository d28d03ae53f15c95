import { describe, expect, expectTypeOf, test } from 'vitest';
import {
  type AnySignature,
  type AsyncResult,
  chain,
  chord,
  chunks,
  type GroupResult,
  group,
  immutable,
  link,
  linkError,
  type ReceiptOf,
  signature,
  stamp,
  withOptions,
  xmap,
  xstarmap,
} from '../../../src/drivers/celery/index.ts';
import type { CeleryClient } from '../../../src/drivers/celery/client/client.ts';
import { ConfigError } from '../../../src/errors.ts';
import { defineTask } from '../../../src/task.ts';

const add = defineTask<(x: number, y: number) => number>('proj.add');
const sum = defineTask<(xs: readonly number[]) => number>('proj.sum');
const text = defineTask<(x: number, unit?: string) => string>('proj.text');
const join = defineTask<(words: readonly string[], by: string) => string>('proj.join');
const most = defineTask<(...xs: number[]) => number>('proj.most');
const resize = defineTask<(key: string) => void, { width?: number }>('images.resize');
const told = defineTask<(id: string) => void>('proj.told');

describe('a signature', () => {
  test('is a dictionary as Celery has it', () => {
    expect(signature(add, [1, 2])).toEqual({
      task: 'proj.add',
      args: [1, 2],
      kwargs: {},
      options: {},
      subtask_type: null,
      immutable: false,
    });
  });

  test('has keyword arguments, options under their names on the wire, links and errbacks', () => {
    const eta = new Date();
    const call = {
      kwargs: { width: 3 },
      queue: 'x',
      eta,
      timeLimit: 3,
      routingKey: 'r',
      link: signature(told),
      linkError: [signature(told)],
    };
    expect(signature(resize, ['a'], call)).toMatchObject({
      args: ['a'],
      kwargs: { width: 3 },
      options: {
        queue: 'x',
        eta,
        time_limit: 3,
        routing_key: 'r',
        link: [{ task: 'proj.told', subtask_type: null }],
        link_error: [{ task: 'proj.told' }],
      },
    });
  });

  test('has the name that the task has in Celery', () => {
    expect(signature(defineTask('send', { names: { celery: 'mail.send' } })).task).toBe('mail.send');
    expect(signature('by.name', [1])).toMatchObject({ task: 'by.name', args: [1] });
  });

  test('refuses options that cannot be', () => {
    for (const options of [{ priority: 1.5 }, { countdown: Number.NaN }, { taskId: '' }, { delay: 3 } as object])
      expect(() => signature(add, [1, 2], options)).toThrow(ConfigError);
  });

  test('a chain put together step by step is the one put together at once', () => {
    const steps = Array.from({ length: 50 }, (_, at) => signature('proj.step', [at]));
    const errback = signature(told);
    const grown = steps.slice(1).reduce<AnySignature>((all, step) => chain(all, step), steps[0] as AnySignature);
    expect(grown).toEqual(chain(...steps));
    expect(chain(linkError(grown, errback), signature('proj.last'))).toEqual(
      chain(...steps.map((step) => linkError(step, errback)), signature('proj.last')),
    );
  });

  test('does not change what it is made of', () => {
    const one = signature(add, [1, 2]);
    const before = structuredClone(one);
    immutable(one);
    link(one, signature(told));
    linkError(one, signature(told));
    stamp(one, { tenant: 'acme' });
    withOptions(one, { queue: 'x' });
    expect(one).toEqual(before);
  });

  test('keeps keyword arguments that are named like parts of a workflow', () => {
    const odd = signature('proj.odd', [], { kwargs: { tasks: new Map([['task', 1]]), ['__proto__']: 2 } });
    expect(odd.kwargs['tasks']).toBeInstanceOf(Map);
    expect(Object.keys(odd.kwargs)).toEqual(['tasks', '__proto__']);
  });
});

describe('options of a workflow', () => {
  test('a callback is the last step’s of a chain, the body’s of a chord, and the first member’s of a group', () => {
    const callback = signature(told, ['x']);
    const steps = chain(signature(add, [1, 2]), signature(add, [3]));
    expect(link(steps, callback).options).toEqual({ link: [callback] });
    const counted = chord([signature(add, [1, 2])], signature(sum));
    expect(link(counted, callback).kwargs).toMatchObject({ body: { options: { link: [callback] } } });
    const members = link(group(signature(add, [1, 2]), signature(add, [1, 2])), callback).kwargs['tasks'];
    expect(members).toMatchObject([{ options: { link: [{ ...callback, immutable: true }] } }, { options: {} }]);
  });

  test('an errback is told once, however often it is added', () => {
    const errback = signature(told);
    const twice = linkError(linkError(signature(add, [1, 2]), errback), errback);
    expect(twice.options['link_error']).toEqual([errback]);
  });

  test('what takes nothing is the first step of a chain, and every member of a group and of a header', () => {
    expect(immutable(chain(signature(add, [1, 2]), signature(add, [3]))).kwargs['tasks']).toMatchObject([
      { immutable: true },
      { immutable: false },
    ]);
    expect(immutable(group(signature(add, [1, 2]))).kwargs['tasks']).toMatchObject([{ immutable: true }]);
    expect(immutable(chord([signature(add, [1, 2])], signature(sum))).kwargs).toMatchObject({
      header: [{ immutable: true }],
      body: { immutable: false },
    });
  });

  test('stamps are on every task and on what is linked to it', () => {
    const steps = chain(
      signature(add, [1, 2], { link: signature(told) }),
      group(signature(add, [3]), signature(text)),
      signature(most.name),
    );
    const stamped = JSON.stringify(stamp(steps, { tenant: 'acme' }));
    expect(stamped.match(/"tenant":"acme","stamped_headers":\["tenant"\]/g)).toHaveLength(5);
  });

  test('a second stamp takes the place of the first, or is put before it', () => {
    const once = stamp(signature(add, [1, 2]), { tenant: 'a', build: 1 });
    expect(stamp(once, { tenant: 'b' }).options).toEqual({
      tenant: 'b',
      build: 1,
      stamped_headers: ['tenant', 'build'],
    });
    const appended = stamp(once, { tenant: 'b', who: ['c'] }, { append: true });
    expect(appended.options).toEqual({
      tenant: ['b', 'a'],
      build: 1,
      who: ['c'],
      stamped_headers: ['tenant', 'build', 'who'],
    });
  });
});

describe('its types', () => {
  test('a chain gives what its last step gives', () => {
    const three = chain(signature(add, [1, 2]), signature(add, [3]), signature(text, ['kg']));
    expectTypeOf<ReceiptOf<typeof three>>().toEqualTypeOf<AsyncResult<string>>();
    const ends = chain(signature(add, [1, 2]), group(signature(add, [3]), signature(text)));
    expectTypeOf<ReceiptOf<typeof ends>>().toEqualTypeOf<GroupResult<[number, string]>>();
    const one = chain(signature(add, [1, 2]), group(signature(text)));
    expectTypeOf<ReceiptOf<typeof one>>().toEqualTypeOf<AsyncResult<string>>();
    const list = [signature(add, [3])];
    const some = chain(signature(add, [1, 2]), group(list));
    expectTypeOf<ReceiptOf<typeof some>>().toEqualTypeOf<GroupResult<number[]> | AsyncResult<number>>();
    const inner = chain(chain(signature(add, [1, 2]), signature(text)), signature(join.name));
    expectTypeOf<ReceiptOf<typeof inner>>().toEqualTypeOf<AsyncResult<unknown>>();
  });

  test('a group gives the results of its members, and those of groups in it', () => {
    const flat = group(signature(add, [1, 2]), group(signature(text, [1]), signature(resize, ['a'])));
    expectTypeOf<ReceiptOf<typeof flat>>().toEqualTypeOf<GroupResult<[number, string, void]>>();
    const list = group([1, 2, 3].map((n) => signature(add, [n, n])));
    expectTypeOf<ReceiptOf<typeof list>>().toEqualTypeOf<GroupResult<number[]>>();
  });

  test('a chord, a map and chunks give what they come to', () => {
    const counted = chord(
      [1, 2].map((n) => signature(add, [n, n])),
      signature(sum),
    );
    expectTypeOf<ReceiptOf<typeof counted>>().toEqualTypeOf<AsyncResult<number>>();
    const ofGroup = chord(group(signature(text, [1]), signature(text, [2])), signature(join, [', ']));
    expectTypeOf<ReceiptOf<typeof ofGroup>>().toEqualTypeOf<AsyncResult<string>>();
    const lengths = xmap(text, [1, 2]);
    expectTypeOf<ReceiptOf<typeof lengths>>().toEqualTypeOf<AsyncResult<string[]>>();
    const parts = chunks(add, [[1, 2], [3, 4]], 1); // prettier-ignore
    expectTypeOf<ReceiptOf<typeof parts>>().toEqualTypeOf<GroupResult<number[][]>>();
  });

  test('steps take what the one before them gives, whatever the rest of their arguments', () => {
    const accepted = (): unknown[] => [
      chain(signature(add, [1, 2]), signature(most, [3, 4]), signature(text)),
      chain(signature(add, [1, 2]), immutable(signature(add, [3, 4]))),
      chain(group(signature(add, [1, 2]), signature(add, [3, 4])), signature(sum), signature(text, ['kg'])),
      chain(signature('of.no.type', [1]), signature(add, [1])),
      chain(signature(add, [1, 2]), signature('of.no.type', ['own'])),
      chain(signature(add, [1, 2]), group(signature(add, [1]), signature(text)), signature('any.body')),
      chain(signature(add, [1, 2]), chord([signature(add, [1])], signature(sum)), signature(text)),
    ];
    expect(accepted).toBeTypeOf('function');
  });

  test('what does not fit is not compiled', () => {
    const refused = (client: CeleryClient): unknown[] => [
      // @ts-expect-error an argument of another type
      signature(add, ['1', 2]),
      // @ts-expect-error too many arguments
      signature(add, [1, 2, 3]),
      // @ts-expect-error a keyword argument of another type
      signature(resize, ['a'], { kwargs: { width: 'wide' } }),
      // @ts-expect-error no such option
      signature(add, [1, 2], { delay: 1 }),
      // @ts-expect-error a number is given to what takes a list
      chain(signature(add, [1, 2]), signature(sum)),
      // @ts-expect-error a text is given to what takes a number
      chain(signature(text, [1]), signature(add, [2])),
      // @ts-expect-error one argument too many: the result comes first
      chain(signature(add, [1, 2]), signature(add, [3, 4])),
      // @ts-expect-error one argument is missing
      chain(signature(add, [1, 2]), signature(add)),
      // @ts-expect-error a member of the group takes something else
      chain(signature(text, [1]), group(signature(join, [', ']), signature(add, [1]))),
      // @ts-expect-error how many are in the list is not known, and a group of one gives no list
      chain(group([signature(add, [1, 2])].slice()), signature(sum)),
      // @ts-expect-error the body takes a list of numbers
      chord([signature(text, [1])], signature(sum)),
      // @ts-expect-error an item of another type
      xmap(text, ['a']),
      // @ts-expect-error too few arguments in an item
      xstarmap(add, [[1]]),
      // @ts-expect-error an argument is missing
      client.apply(signature(add, [1])),
      // @ts-expect-error the first step lacks an argument
      client.apply(chain(signature(add, [1]), signature(text))),
      // @ts-expect-error a member lacks an argument
      client.apply(group(signature(add, [1, 2]), signature(add, [1]))),
    ];
    expect(refused).toBeTypeOf('function');
  });

  test('the receipt of a workflow is that of its type', () => {
    const sent = (client: CeleryClient): void => {
      expectTypeOf(client.apply(signature(add, [1, 2]))).resolves.toEqualTypeOf<AsyncResult<number>>();
      expectTypeOf(client.apply(chain(signature(add, [1, 2]), signature(text)))).resolves.toEqualTypeOf<
        AsyncResult<string>
      >();
      expectTypeOf(client.apply(chunks(add, [[1, 2]], 1))).resolves.toEqualTypeOf<GroupResult<number[][]>>();
      expectTypeOf(client.apply(xstarmap(add, [[1, 2]]))).resolves.toEqualTypeOf<AsyncResult<number[]>>();
    };
    expect(sent).toBeTypeOf('function');
  });
});
