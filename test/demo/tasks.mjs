// The Node side's tasks: what `jobglot worker -A test/demo/tasks.mjs` would run, and what the demo's worker runs.
import { defineTask, Retry, Tasks } from 'jobglot';

/** Python sees the name of an error: there it is a class of that name. */
class OutOfStock extends Error {
  name = 'OutOfStock';
}

export const tasks = new Tasks()
  .handle(defineTask('demo.add'), ({ args: [x, y] }) => x + y)
  .handle(defineTask('demo.fail'), ({ args: [item] }) => {
    throw new OutOfStock(`no ${String(item)} left`);
  })
  .handle(defineTask('demo.remind'), ({ kwargs: { text } }) => ({ text, at: new Date().toISOString() }))
  .handle(defineTask('demo.flaky'), ({ attempt }) => {
    if (attempt <= 2) throw new Retry({ delayMs: 200, cause: new Error(`attempt ${attempt} failed`) });
    return `worked at attempt ${attempt}`;
  })
  // An integer that a JavaScript number cannot hold is a bigint.
  .handle(defineTask('demo.next'), ({ args: [n] }) => BigInt(n) + 1n);
