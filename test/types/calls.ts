import { type CallArguments, type Client, defineTask, type Task } from '../../src/index.ts';
import type { CeleryClient, EnqueueOptions } from '../../src/drivers/celery/index.ts';
import type { ResqueClient } from '../../src/drivers/resque/index.ts';
import type { RqClient } from '../../src/drivers/rq/index.ts';
import type { SidekiqClient } from '../../src/drivers/sidekiq/index.ts';
import type { CeleryInline, CeleryRecorder } from '../../src/testing/index.ts';

// Nothing here runs: the compiler checks that each call compiles, or does not where it says so (`tsc -p test`).

const add = defineTask<(x: number, y: number) => number>('add');
const partly = defineTask<(name: string, count?: number) => void>('partly');
const optional = defineTask<(count?: number) => void>('optional');
const rest = defineTask<(name: string, ...counts: number[]) => void>('rest');
const nothing = defineTask<() => void>('nothing');
const untyped = defineTask('untyped');
const keyworded = defineTask<(x: number) => void, { to: string; copies?: number }>('keyworded');
const optionalKeywords = defineTask<() => void, { copies?: number }>('optionalKeywords');
declare const readonlyPair: readonly [number, number];
declare const taskOrName: Task | string;

export function celery(client: CeleryClient): void {
  void client.enqueue(add, { args: [1, 2], queue: 'q' });
  void client.enqueue(add, { args: readonlyPair });
  void client.enqueue(partly, { args: ['a'] });
  void client.enqueue(partly, { args: ['a', 1] });
  void client.enqueue(optional);
  void client.enqueue(optional, { args: [] });
  void client.enqueue(rest, { args: ['a'] });
  void client.enqueue(rest, { args: ['a', 1, 2, 3] });
  void client.enqueue(nothing);
  void client.enqueue(nothing, { queue: 'q' });
  void client.enqueue(untyped);
  void client.enqueue(untyped, { args: [1, 'a', {}] });
  void client.enqueue('named');
  void client.enqueue('named', { args: [1, 'a', {}] });
  void client.enqueue(taskOrName, { args: [1] });
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add);
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add, {});
  // @ts-expect-error: the second argument is missing
  void client.enqueue(add, { args: [1] });
  // @ts-expect-error: one argument too many
  void client.enqueue(add, { args: [1, 2, 3] });
  // @ts-expect-error: the second argument is a text
  void client.enqueue(add, { args: [1, '2'] });
  // @ts-expect-error: the first argument is missing
  void client.enqueue(partly, { args: [] });
  // @ts-expect-error: a text among the numbers
  void client.enqueue(rest, { args: ['a', 1, 'b'] });
  // @ts-expect-error: the task has no parameters
  void client.enqueue(nothing, { args: [1] });
  // @ts-expect-error: args is not a list
  void client.enqueue(untyped, { args: 'ab' });
  // @ts-expect-error: no such option
  void client.enqueue(add, { args: [1, 2], qeue: 'q' });
  void client.enqueue(keyworded, { args: [1], kwargs: { to: 'a' } });
  void client.enqueue(keyworded, { args: [1], kwargs: { to: 'a', copies: 2 } });
  void client.enqueue(optionalKeywords);
  void client.enqueue(optionalKeywords, { kwargs: { copies: 2 } });
  void client.enqueue(untyped, { kwargs: { any: 1 } });
  void client.enqueue('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the keywords are missing
  void client.enqueue(keyworded, { args: [1] });
  // @ts-expect-error: the call is missing
  void client.enqueue(keyworded);
  // @ts-expect-error: the keyword 'to' is missing
  void client.enqueue(keyworded, { args: [1], kwargs: { copies: 2 } });
  // @ts-expect-error: 'to' is a text
  void client.enqueue(keyworded, { args: [1], kwargs: { to: 1 } });
  // @ts-expect-error: no such keyword
  void client.enqueue(optionalKeywords, { kwargs: { copys: 2 } });
  // @ts-expect-error: kwargs is not an object
  void client.enqueue('named', { kwargs: 5 });
  void client.enqueueMany(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  void client.enqueueMany(nothing, [{}, { queue: 'q' }]);
  void client.enqueueMany('named', [{}, { args: ['a'] }]);
  // @ts-expect-error: the second call has no arguments
  void client.enqueueMany(add, [{ args: [1, 2] }, {}]);
  // @ts-expect-error: a text among the arguments
  void client.enqueueMany(add, [{ args: [1, '2'] }]);
  client.message(add, { args: [1, 2], taskId: 'id' });
  // @ts-expect-error: the arguments are missing
  client.message(add, { taskId: 'id' });
  // @ts-expect-error: the id is missing
  client.message(add, { args: [1, 2] });
  const sum: Promise<number> = client.enqueue(add, { args: [1, 2] }).then((result) => result.get());
  void sum;
}

export function rq(client: RqClient): void {
  void client.enqueue(add, { args: [1, 2], queue: 'q' });
  void client.enqueue(add, { args: readonlyPair });
  void client.enqueue(partly, { args: ['a'] });
  void client.enqueue(partly, { args: ['a', 1] });
  void client.enqueue(optional);
  void client.enqueue(optional, { args: [] });
  void client.enqueue(rest, { args: ['a'] });
  void client.enqueue(rest, { args: ['a', 1, 2, 3] });
  void client.enqueue(nothing);
  void client.enqueue(nothing, { queue: 'q' });
  void client.enqueue(untyped);
  void client.enqueue(untyped, { args: [1, 'a', {}] });
  void client.enqueue('named');
  void client.enqueue('named', { args: [1, 'a', {}] });
  void client.enqueue(taskOrName, { args: [1] });
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add);
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add, {});
  // @ts-expect-error: the second argument is missing
  void client.enqueue(add, { args: [1] });
  // @ts-expect-error: one argument too many
  void client.enqueue(add, { args: [1, 2, 3] });
  // @ts-expect-error: the second argument is a text
  void client.enqueue(add, { args: [1, '2'] });
  // @ts-expect-error: the first argument is missing
  void client.enqueue(partly, { args: [] });
  // @ts-expect-error: a text among the numbers
  void client.enqueue(rest, { args: ['a', 1, 'b'] });
  // @ts-expect-error: the task has no parameters
  void client.enqueue(nothing, { args: [1] });
  // @ts-expect-error: args is not a list
  void client.enqueue(untyped, { args: 'ab' });
  // @ts-expect-error: no such option
  void client.enqueue(add, { args: [1, 2], qeue: 'q' });
  void client.enqueue(keyworded, { args: [1], kwargs: { to: 'a' } });
  void client.enqueue(keyworded, { args: [1], kwargs: { to: 'a', copies: 2 } });
  void client.enqueue(optionalKeywords);
  void client.enqueue(optionalKeywords, { kwargs: { copies: 2 } });
  void client.enqueue(untyped, { kwargs: { any: 1 } });
  void client.enqueue('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the keywords are missing
  void client.enqueue(keyworded, { args: [1] });
  // @ts-expect-error: the call is missing
  void client.enqueue(keyworded);
  // @ts-expect-error: the keyword 'to' is missing
  void client.enqueue(keyworded, { args: [1], kwargs: { copies: 2 } });
  // @ts-expect-error: 'to' is a text
  void client.enqueue(keyworded, { args: [1], kwargs: { to: 1 } });
  // @ts-expect-error: no such keyword
  void client.enqueue(optionalKeywords, { kwargs: { copys: 2 } });
  // @ts-expect-error: kwargs is not an object
  void client.enqueue('named', { kwargs: 5 });
  void client.enqueueMany(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  void client.enqueueMany(nothing, [{}, { queue: 'q' }]);
  void client.enqueueMany('named', [{}, { args: ['a'] }]);
  // @ts-expect-error: the second call has no arguments
  void client.enqueueMany(add, [{ args: [1, 2] }, {}]);
  // @ts-expect-error: a text among the arguments
  void client.enqueueMany(add, [{ args: [1, '2'] }]);
  client.prepare(nothing);
  client.prepare(add, { args: [1, 2] });
  // @ts-expect-error: the arguments are missing
  client.prepare(add);
}

export function sidekiq(client: SidekiqClient): void {
  void client.enqueue(add, { args: [1, 2], queue: 'q' });
  void client.enqueue(add, { args: readonlyPair });
  void client.enqueue(partly, { args: ['a'] });
  void client.enqueue(partly, { args: ['a', 1] });
  void client.enqueue(optional);
  void client.enqueue(optional, { args: [] });
  void client.enqueue(rest, { args: ['a'] });
  void client.enqueue(rest, { args: ['a', 1, 2, 3] });
  void client.enqueue(nothing);
  void client.enqueue(nothing, { queue: 'q' });
  void client.enqueue(untyped);
  void client.enqueue(untyped, { args: [1, 'a', {}] });
  void client.enqueue('named');
  void client.enqueue('named', { args: [1, 'a', {}] });
  void client.enqueueMany(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  void client.enqueueMany(nothing, [{}, { queue: 'q' }]);
  // @ts-expect-error: the second call has no arguments
  void client.enqueueMany(add, [{ args: [1, 2] }, {}]);
  // @ts-expect-error: Sidekiq has no keywords
  void client.enqueueMany(nothing, [{ kwargs: { a: 1 } }]);
  void client.enqueue(taskOrName, { args: [1] });
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add);
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add, {});
  // @ts-expect-error: the second argument is missing
  void client.enqueue(add, { args: [1] });
  // @ts-expect-error: one argument too many
  void client.enqueue(add, { args: [1, 2, 3] });
  // @ts-expect-error: the second argument is a text
  void client.enqueue(add, { args: [1, '2'] });
  // @ts-expect-error: the first argument is missing
  void client.enqueue(partly, { args: [] });
  // @ts-expect-error: a text among the numbers
  void client.enqueue(rest, { args: ['a', 1, 'b'] });
  // @ts-expect-error: the task has no parameters
  void client.enqueue(nothing, { args: [1] });
  // @ts-expect-error: args is not a list
  void client.enqueue(untyped, { args: 'ab' });
  // @ts-expect-error: no such option
  void client.enqueue(add, { args: [1, 2], qeue: 'q' });
  // @ts-expect-error: a job of this system has no keywords
  void client.enqueue(untyped, { kwargs: { any: 1 } });
  // @ts-expect-error: a job of this system has no keywords
  void client.enqueue('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the task needs keywords, a job of this system has none
  void client.enqueue(keyworded, { args: [1] });
  void client.performLater(nothing);
  void client.performLater(add, { args: [1, 2], queue: 'q' });
  // @ts-expect-error: the arguments are missing
  void client.performLater(add);
  // @ts-expect-error: the second argument is a text
  void client.performLater(add, { args: [1, '2'] });
  void client.performLater(keyworded, { args: [1], kwargs: { to: 'a' } });
  void client.performLater(keyworded, { args: [1], kwargs: { to: 'a', copies: 2 } });
  void client.performLater(optionalKeywords);
  void client.performLater(optionalKeywords, { kwargs: { copies: 2 } });
  void client.performLater(untyped, { kwargs: { any: 1 } });
  void client.performLater('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the keywords are missing
  void client.performLater(keyworded, { args: [1] });
  // @ts-expect-error: the call is missing
  void client.performLater(keyworded);
  // @ts-expect-error: the keyword 'to' is missing
  void client.performLater(keyworded, { args: [1], kwargs: { copies: 2 } });
  // @ts-expect-error: 'to' is a text
  void client.performLater(keyworded, { args: [1], kwargs: { to: 1 } });
  // @ts-expect-error: no such keyword
  void client.performLater(optionalKeywords, { kwargs: { copys: 2 } });
  // @ts-expect-error: kwargs is not an object
  void client.performLater('named', { kwargs: 5 });
  void client.performAllLater(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  // @ts-expect-error: the second call has no arguments
  void client.performAllLater(add, [{ args: [1, 2] }, {}]);
}

export function resque(client: ResqueClient): void {
  void client.enqueue(add, { args: [1, 2], queue: 'q' });
  void client.enqueue(add, { args: readonlyPair });
  void client.enqueue(partly, { args: ['a'] });
  void client.enqueue(partly, { args: ['a', 1] });
  void client.enqueue(optional);
  void client.enqueue(optional, { args: [] });
  void client.enqueue(rest, { args: ['a'] });
  void client.enqueue(rest, { args: ['a', 1, 2, 3] });
  void client.enqueue(nothing);
  void client.enqueue(nothing, { queue: 'q' });
  void client.enqueue(untyped);
  void client.enqueue(untyped, { args: [1, 'a', {}] });
  void client.enqueue('named');
  void client.enqueue('named', { args: [1, 'a', {}] });
  void client.enqueue(taskOrName, { args: [1] });
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add);
  // @ts-expect-error: the arguments are missing
  void client.enqueue(add, {});
  // @ts-expect-error: the second argument is missing
  void client.enqueue(add, { args: [1] });
  // @ts-expect-error: one argument too many
  void client.enqueue(add, { args: [1, 2, 3] });
  // @ts-expect-error: the second argument is a text
  void client.enqueue(add, { args: [1, '2'] });
  // @ts-expect-error: the first argument is missing
  void client.enqueue(partly, { args: [] });
  // @ts-expect-error: a text among the numbers
  void client.enqueue(rest, { args: ['a', 1, 'b'] });
  // @ts-expect-error: the task has no parameters
  void client.enqueue(nothing, { args: [1] });
  // @ts-expect-error: args is not a list
  void client.enqueue(untyped, { args: 'ab' });
  // @ts-expect-error: no such option
  void client.enqueue(add, { args: [1, 2], qeue: 'q' });
  // @ts-expect-error: a job of this system has no keywords
  void client.enqueue(untyped, { kwargs: { any: 1 } });
  // @ts-expect-error: a job of this system has no keywords
  void client.enqueue('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the task needs keywords, a job of this system has none
  void client.enqueue(keyworded, { args: [1] });
  void client.performLater(nothing);
  void client.performLater(add, { args: [1, 2], queue: 'q' });
  // @ts-expect-error: the arguments are missing
  void client.performLater(add);
  // @ts-expect-error: the second argument is a text
  void client.performLater(add, { args: [1, '2'] });
  void client.performLater(keyworded, { args: [1], kwargs: { to: 'a' } });
  void client.performLater(keyworded, { args: [1], kwargs: { to: 'a', copies: 2 } });
  void client.performLater(optionalKeywords);
  void client.performLater(optionalKeywords, { kwargs: { copies: 2 } });
  void client.performLater(untyped, { kwargs: { any: 1 } });
  void client.performLater('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the keywords are missing
  void client.performLater(keyworded, { args: [1] });
  // @ts-expect-error: the call is missing
  void client.performLater(keyworded);
  // @ts-expect-error: the keyword 'to' is missing
  void client.performLater(keyworded, { args: [1], kwargs: { copies: 2 } });
  // @ts-expect-error: 'to' is a text
  void client.performLater(keyworded, { args: [1], kwargs: { to: 1 } });
  // @ts-expect-error: no such keyword
  void client.performLater(optionalKeywords, { kwargs: { copys: 2 } });
  // @ts-expect-error: kwargs is not an object
  void client.performLater('named', { kwargs: 5 });
  void client.performAllLater(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  // @ts-expect-error: the second call has no arguments
  void client.performAllLater(add, [{ args: [1, 2] }, {}]);
  void client.enqueueTo('q', add, 1, 2);
  void client.enqueueTo('q', nothing);
  void client.enqueueTo('q', 'named', 1, 'a');
  // @ts-expect-error: the second argument is a text
  void client.enqueueTo('q', add, 1, '2');
  // @ts-expect-error: the second argument is missing
  void client.enqueueTo('q', add, 1);
  void client.enqueueAt(new Date(), add, { args: [1, 2] });
  void client.enqueueAt(new Date(), nothing);
  // @ts-expect-error: the arguments are missing
  void client.enqueueAt(new Date(), add);
  void client.enqueueIn(5, add, { args: [1, 2] });
  // @ts-expect-error: the arguments are missing
  void client.enqueueIn(5, add);
}

export function testing(tape: CeleryRecorder, now: CeleryInline): void {
  void tape.enqueue(add, { args: [1, 2], queue: 'q' });
  void tape.enqueue(add, { args: readonlyPair });
  void tape.enqueue(partly, { args: ['a'] });
  void tape.enqueue(partly, { args: ['a', 1] });
  void tape.enqueue(optional);
  void tape.enqueue(optional, { args: [] });
  void tape.enqueue(rest, { args: ['a'] });
  void tape.enqueue(rest, { args: ['a', 1, 2, 3] });
  void tape.enqueue(nothing);
  void tape.enqueue(nothing, { queue: 'q' });
  void tape.enqueue(untyped);
  void tape.enqueue(untyped, { args: [1, 'a', {}] });
  void tape.enqueue('named');
  void tape.enqueue('named', { args: [1, 'a', {}] });
  void tape.enqueue(taskOrName, { args: [1] });
  // @ts-expect-error: the arguments are missing
  void tape.enqueue(add);
  // @ts-expect-error: the arguments are missing
  void tape.enqueue(add, {});
  // @ts-expect-error: the second argument is missing
  void tape.enqueue(add, { args: [1] });
  // @ts-expect-error: one argument too many
  void tape.enqueue(add, { args: [1, 2, 3] });
  // @ts-expect-error: the second argument is a text
  void tape.enqueue(add, { args: [1, '2'] });
  // @ts-expect-error: the first argument is missing
  void tape.enqueue(partly, { args: [] });
  // @ts-expect-error: a text among the numbers
  void tape.enqueue(rest, { args: ['a', 1, 'b'] });
  // @ts-expect-error: the task has no parameters
  void tape.enqueue(nothing, { args: [1] });
  // @ts-expect-error: args is not a list
  void tape.enqueue(untyped, { args: 'ab' });
  // @ts-expect-error: no such option
  void tape.enqueue(add, { args: [1, 2], qeue: 'q' });
  void tape.enqueue(keyworded, { args: [1], kwargs: { to: 'a' } });
  void tape.enqueue(keyworded, { args: [1], kwargs: { to: 'a', copies: 2 } });
  void tape.enqueue(optionalKeywords);
  void tape.enqueue(optionalKeywords, { kwargs: { copies: 2 } });
  void tape.enqueue(untyped, { kwargs: { any: 1 } });
  void tape.enqueue('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the keywords are missing
  void tape.enqueue(keyworded, { args: [1] });
  // @ts-expect-error: the call is missing
  void tape.enqueue(keyworded);
  // @ts-expect-error: the keyword 'to' is missing
  void tape.enqueue(keyworded, { args: [1], kwargs: { copies: 2 } });
  // @ts-expect-error: 'to' is a text
  void tape.enqueue(keyworded, { args: [1], kwargs: { to: 1 } });
  // @ts-expect-error: no such keyword
  void tape.enqueue(optionalKeywords, { kwargs: { copys: 2 } });
  // @ts-expect-error: kwargs is not an object
  void tape.enqueue('named', { kwargs: 5 });
  void tape.enqueueMany(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  void tape.enqueueMany(nothing, [{}, { queue: 'q' }]);
  void tape.enqueueMany('named', [{}, { args: ['a'] }]);
  // @ts-expect-error: the second call has no arguments
  void tape.enqueueMany(add, [{ args: [1, 2] }, {}]);
  // @ts-expect-error: a text among the arguments
  void tape.enqueueMany(add, [{ args: [1, '2'] }]);
  void now.enqueue(add, { args: [1, 2], queue: 'q' });
  void now.enqueue(add, { args: readonlyPair });
  void now.enqueue(partly, { args: ['a'] });
  void now.enqueue(partly, { args: ['a', 1] });
  void now.enqueue(optional);
  void now.enqueue(optional, { args: [] });
  void now.enqueue(rest, { args: ['a'] });
  void now.enqueue(rest, { args: ['a', 1, 2, 3] });
  void now.enqueue(nothing);
  void now.enqueue(nothing, { queue: 'q' });
  void now.enqueue(untyped);
  void now.enqueue(untyped, { args: [1, 'a', {}] });
  void now.enqueue('named');
  void now.enqueue('named', { args: [1, 'a', {}] });
  void now.enqueue(taskOrName, { args: [1] });
  // @ts-expect-error: the arguments are missing
  void now.enqueue(add);
  // @ts-expect-error: the arguments are missing
  void now.enqueue(add, {});
  // @ts-expect-error: the second argument is missing
  void now.enqueue(add, { args: [1] });
  // @ts-expect-error: one argument too many
  void now.enqueue(add, { args: [1, 2, 3] });
  // @ts-expect-error: the second argument is a text
  void now.enqueue(add, { args: [1, '2'] });
  // @ts-expect-error: the first argument is missing
  void now.enqueue(partly, { args: [] });
  // @ts-expect-error: a text among the numbers
  void now.enqueue(rest, { args: ['a', 1, 'b'] });
  // @ts-expect-error: the task has no parameters
  void now.enqueue(nothing, { args: [1] });
  // @ts-expect-error: args is not a list
  void now.enqueue(untyped, { args: 'ab' });
  // @ts-expect-error: no such option
  void now.enqueue(add, { args: [1, 2], qeue: 'q' });
  void now.enqueue(keyworded, { args: [1], kwargs: { to: 'a' } });
  void now.enqueue(keyworded, { args: [1], kwargs: { to: 'a', copies: 2 } });
  void now.enqueue(optionalKeywords);
  void now.enqueue(optionalKeywords, { kwargs: { copies: 2 } });
  void now.enqueue(untyped, { kwargs: { any: 1 } });
  void now.enqueue('named', { kwargs: { any: 1 } });
  // @ts-expect-error: the keywords are missing
  void now.enqueue(keyworded, { args: [1] });
  // @ts-expect-error: the call is missing
  void now.enqueue(keyworded);
  // @ts-expect-error: the keyword 'to' is missing
  void now.enqueue(keyworded, { args: [1], kwargs: { copies: 2 } });
  // @ts-expect-error: 'to' is a text
  void now.enqueue(keyworded, { args: [1], kwargs: { to: 1 } });
  // @ts-expect-error: no such keyword
  void now.enqueue(optionalKeywords, { kwargs: { copys: 2 } });
  // @ts-expect-error: kwargs is not an object
  void now.enqueue('named', { kwargs: 5 });
  void now.enqueueMany(add, [{ args: [1, 2] }, { args: [3, 4], queue: 'q' }]);
  void now.enqueueMany(nothing, [{}, { queue: 'q' }]);
  void now.enqueueMany('named', [{}, { args: ['a'] }]);
  // @ts-expect-error: the second call has no arguments
  void now.enqueueMany(add, [{ args: [1, 2] }, {}]);
  // @ts-expect-error: a text among the arguments
  void now.enqueueMany(add, [{ args: [1, '2'] }]);
}

/** A function that enqueues any task takes what `enqueue` takes, and passes it on. */
export function wrapped<A extends readonly unknown[], K, R>(
  client: Client<EnqueueOptions, { readonly id: string }>,
  task: Task<A, K, R>,
  ...call: CallArguments<A, K, EnqueueOptions>
): Promise<{ readonly id: string }> {
  return client.enqueue(task, ...call);
}

export function wrapper(client: CeleryClient): void {
  void wrapped(client, add, { args: [1, 2] });
  void wrapped(client, nothing);
  // @ts-expect-error: the arguments are missing
  void wrapped(client, add);
}
