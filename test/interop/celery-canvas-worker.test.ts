import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { PythonWorker } from '../support/python.ts';
import { type Observation, observe } from './support/observe.ts';
import { type Role, type Shape, SHAPES } from './support/shapes.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts, SETTINGS } from './support/table.ts';

type Language = 'python' | 'node';

/** Who runs the tasks of a shape, in the order they are written down. */
const CASTS: Readonly<Record<string, (at: number) => Language>> = {
  'by Node alone': () => 'node',
  'by Node and Python in turns': (at) => (at % 2 === 0 ? 'node' : 'python'),
  'by Python and Node in turns': (at) => (at % 2 === 0 ? 'python' : 'node'),
};

/** What a version of Celery makes of a workflow does not depend on the broker: over RabbitMQ, which is slow to ask, the last one. */
const RUNS = SETTINGS.filter(({ version, broker }) => broker === 'redis' || version === '5.6');

describe.each(RUNS)(
  'workflows of Celery $version over $broker end with Node as they end in Python',
  ({ version, broker }) => {
    const fact = facts('celery-canvas-worker', { version, broker }, 'both');
    let stage: Stage;
    let python: PythonWorker;
    let node: NodeWorker;
    let results: Redis;
    let runs = 0;

    beforeAll(async () => {
      // Acknowledged when all is written: what no queue and no worker has is over.
      stage = await Stage.start(version, { task_acks_late: true }, { broker });
      python = await stage.worker({ queues: ['python', 'celery'] });
      node = await stage.node({ queues: ['node', 'celery'], acksLate: true });
      results = stage.redis.client({ db: 1 });
    });
    afterAll(async () => {
      results.disconnect();
      await node[Symbol.asyncDispose]();
      await python.kill();
      await stage[Symbol.asyncDispose]();
    });

    /** Send a shape, and wait until nothing is left to do. What it left is then read with the prefix of its ids. */
    async function play(shape: Shape, cast: (at: number, role: string) => Language): Promise<string> {
      await results.flushdb();
      const prefix = `run${version}.${++runs}`;
      let at = 0;
      const role: Role = (name, task, args = [], { options, ...more } = {}) => {
        const given = { queue: cast(at++, name), task_id: `${prefix}--${name}`, ...options };
        const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
        return { task: `both.${task}`, args, kwargs: {}, options: set, subtask_type: null, immutable: false, ...more };
      };
      const { id } = await stage.python.apply(shape.build(role));
      if (shape.fault === undefined) await stage.python.get(id, 20);
      await until(`'${shape.name}' is over`, idle);
      return prefix;
    }

    /** Whether nobody has anything to do, for long enough that a message is not just on its way from a list into `unacked`. */
    async function idle(): Promise<boolean> {
      for (let looks = 0; looks < 3; looks++) {
        if (looks > 0) await new Promise((resolve) => setTimeout(resolve, 15));
        const waiting = await Promise.all(['python', 'node', 'celery'].map((queue) => stage.waiting(queue)));
        if (waiting.some((length) => length > 0) || (await stage.unacked()) > 0) return false;
      }
      return true;
    }

    function look(prefix: string, last: Shape['last']): Promise<Observation> {
      return observe(results, prefix, { last, groups: version === '5.6' });
    }

    /** What came of it, once it is what it should be; or what it is at last, for the difference to be seen. */
    async function settled(
      prefix: string,
      last: Shape['last'],
      right: (seen: Observation) => boolean,
    ): Promise<Observation> {
      let seen = await look(prefix, last);
      const deadline = Date.now() + 5_000;
      while (!right(seen) && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        seen = await look(prefix, last);
      }
      return seen;
    }

    for (const shape of SHAPES) {
      fact('workflows', shape.name, async () => {
        const { fault, last, cured, rightly = {} } = shape;
        if (fault === undefined) {
          const theirs = await look(await play(shape, () => 'python'), last);
          for (const [who, cast] of Object.entries(CASTS)) {
            const ours = await settled(await play(shape, cast), last, (seen) => isDeepStrictEqual(seen, theirs));
            expect(ours, who).toEqual(theirs);
          }
          return;
        }
        for (const [who, cast] of Object.entries(CASTS)) {
          const prefix = await play(shape, (at, role) => ((cured?.includes(role) ?? true) ? 'node' : cast(at)));
          const seen = await settled(prefix, last, (now) => isDeepStrictEqual(endsOf(now, rightly), rightly));
          expect(endsOf(seen, rightly), who).toEqual(rightly);
        }
      });
    }
  },
);

/** Of the roles that are asked for: the state, where that is what is expected, else the result. */
function endsOf({ results }: Observation, asked: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(asked).map(([role, right]) => {
      const stored = results[role];
      return [role, typeof right === 'string' ? (stored?.status ?? 'PENDING') : stored?.result];
    }),
  );
}
