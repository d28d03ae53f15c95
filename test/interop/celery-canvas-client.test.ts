import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import type { CeleryClient } from '../../src/drivers/celery/index.ts';
import type { PythonWorker } from '../support/python.ts';
import { type Cast, endsOf, Plays } from './support/play.ts';
import { type Shape, SHAPES } from './support/shapes.ts';
import { type NodeWorker, Stage } from './support/stage.ts';
import { facts, SETTINGS } from './support/table.ts';

/** Who runs the tasks of a workflow that Node starts. */
const CASTS: Readonly<Record<string, Cast>> = {
  'by Python alone': () => 'python',
  'by Node and Python in turns': (at) => (at % 2 === 0 ? 'node' : 'python'),
  'by Python and Node in turns': (at) => (at % 2 === 0 ? 'python' : 'node'),
};

/** One of each kind, for the settings that differ little from the first. */
const KINDS: ReadonlySet<string> = new Set([
  'a task',
  'a chain of five',
  'a chain in a chain',
  'a chain whose errback is called',
  'a link that is a chain',
  'two errbacks, one immutable',
  'a group',
  'a group in a group',
  'a group with an errback',
  'a chain that ends in a group',
  'a chord',
  'a chord without a header',
  'a chord with a member that fails',
  'a chord of chains',
  'a chord with a chain in its body',
  'a chord in a chord',
  'a chain with a group in its middle and two steps after it',
  'a chain of groups and tasks',
  'a chain with a chord in its middle',
  'a step that is replaced by a group',
  'a member that adds to its chord',
  'a map',
  'a starmap',
  'a chain with a map in its middle',
  'chunks',
]);

describe.each(SETTINGS)(
  'workflows that Node starts for Celery $version over $broker end as those that Python starts',
  ({ version, broker }) => {
    const fact = facts('celery-canvas-client', { version, broker }, 'both');
    let stage: Stage;
    let python: PythonWorker;
    let node: NodeWorker;
    let client: CeleryClient;
    let results: Redis;
    let plays: Plays;

    beforeAll(async () => {
      // Acknowledged when all is written: what no queue and no worker has is over.
      stage = await Stage.start(version, { task_acks_late: true }, { broker });
      python = await stage.worker({ queues: ['python', 'celery'] });
      node = await stage.node({ queues: ['node', 'celery'], acksLate: true });
      client = stage.client();
      results = stage.redis.client({ db: 1 });
      plays = new Plays(stage, results);
    });
    afterAll(async () => {
      results.disconnect();
      await client.close();
      await node[Symbol.asyncDispose]();
      await python.kill();
      await stage[Symbol.asyncDispose]();
    });

    const every = version === '5.6' && broker === 'redis';
    for (const shape of SHAPES.filter(({ name }) => every || KINDS.has(name))) {
      fact('workflows that Node starts', shape.name, async () => {
        const { name, fault, last } = shape;
        const right = OURS[name];
        if (right !== undefined) return cured({ ...shape, fault: '', rightly: right, cured: [] });
        if (fault !== undefined) return cured(shape);
        const played = await plays.play(shape, () => 'python');
        const theirs = await plays.look(played, last);
        for (const [who, cast] of Object.entries(every ? CASTS : SHORT)) {
          const ours = await plays.play(shape, cast, plays.byNode(client));
          expect(await plays.settledAs(ours, last, theirs), who).toEqual(theirs);
          expect(ours.heard, who).toEqual(played.heard);
        }
      });
    }

    /** What Celery gets wrong is right where Node has a say, also when Node starts it. */
    async function cured({ name, build, fault = '', last, cured: roles, rightly = {} }: Shape): Promise<void> {
      for (const [who, cast] of Object.entries(CASTS)) {
        const played = await plays.play(
          { name, build, fault },
          (at, role) => ((roles?.includes(role) ?? true) ? 'node' : cast(at, role)),
          plays.byNode(client),
        );
        const seen = await plays.settled(played, last, (now) => isDeepStrictEqual(endsOf(now, rightly), rightly));
        expect(endsOf(seen, rightly), who).toEqual(rightly);
      }
    }
  },
);

/** What Celery gets wrong as it starts a workflow, and we do not, whoever runs it. */
const OURS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  // The members of a group in a header are turned around.
  'a chord of a group': { body: [[[3, 7]], {}] },
};

const SHORT = { 'by Node and Python in turns': CASTS['by Node and Python in turns'] as Cast };
