import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { PythonWorker } from '../support/python.ts';
import { type Cast, endsOf, Plays } from './support/play.ts';
import { SHAPES } from './support/shapes.ts';
import { type NodeWorker, Stage } from './support/stage.ts';
import { facts, SETTINGS } from './support/table.ts';

const CASTS: Readonly<Record<string, Cast>> = {
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
    let plays: Plays;

    beforeAll(async () => {
      // Acknowledged when all is written: what no queue and no worker has is over.
      stage = await Stage.start(version, { task_acks_late: true }, { broker });
      python = await stage.worker({ queues: ['python', 'celery'] });
      node = await stage.node({ queues: ['node', 'celery'], acksLate: true });
      results = stage.redis.client({ db: 1 });
      plays = new Plays(stage, results);
    });
    afterAll(async () => {
      results.disconnect();
      await node[Symbol.asyncDispose]();
      await python.kill();
      await stage[Symbol.asyncDispose]();
    });

    for (const shape of SHAPES) {
      fact('workflows', shape.name, async () => {
        const { fault, last, cured, rightly = {} } = shape;
        if (fault === undefined) {
          const theirs = await plays.look(await plays.play(shape, () => 'python'), last);
          for (const [who, cast] of Object.entries(CASTS)) {
            const ours = await plays.settledAs(await plays.play(shape, cast), last, theirs);
            expect(ours, who).toEqual(theirs);
          }
          return;
        }
        for (const [who, cast] of Object.entries(CASTS)) {
          const played = await plays.play(shape, (at, role) =>
            (cured?.includes(role) ?? true) ? 'node' : cast(at, role),
          );
          const seen = await plays.settled(played, last, (now) => isDeepStrictEqual(endsOf(now, rightly), rightly));
          expect(endsOf(seen, rightly), who).toEqual(rightly);
        }
      });
    }
  },
);
