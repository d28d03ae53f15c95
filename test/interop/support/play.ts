import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import type { CeleryClient } from '../../../src/drivers/celery/index.ts';
import { RemoteError } from '../../../src/errors.ts';
import type { PythonCanvas } from '../../support/python.ts';
import { PyValue } from '../../support/tagged.ts';
import { canvasOf } from './canvas-of.ts';
import { type Observation, observe } from './observe.ts';
import type { Role, Shape } from './shapes.ts';
import { type Stage, until } from './stage.ts';

export type Language = 'python' | 'node';

/** Who runs the tasks of a shape, in the order they are written down. */
export type Cast = (at: number, role: string) => Language;

/** Sends a workflow. `wait`: resolves when it has ended, to what its sender heard of it. */
export type Start = (canvas: PythonCanvas, wait: boolean) => Promise<unknown>;

export interface Played {
  /** What the ids of this run begin with. */
  readonly prefix: string;
  /** What the sender heard: `['value', …]` or `['error', type, args]`; undefined where it did not wait. */
  readonly heard: unknown;
}

const PATIENCE_SECONDS = 20;

/** Runs shapes on a stage with workers on the queues `python`, `node` and `celery`, and looks at what they left. */
export class Plays {
  readonly #stage: Stage;
  readonly #results: Redis;
  #runs = 0;

  constructor(stage: Stage, results: Redis) {
    this.#stage = stage;
    this.#results = results;
  }

  byPython: Start = async (canvas, wait) => {
    const { id } = await this.#stage.python.apply(canvas);
    if (!wait) return undefined;
    const outcome = await this.#stage.python.get(id, PATIENCE_SECONDS);
    if (!outcome.ok) return ['error', outcome.type, outcome.args];
    // The driver asks a group for all its results, and among them are the errors.
    const members = Array.isArray(outcome.value) ? (outcome.value as readonly unknown[]) : [];
    const failed = members.find((value) => value instanceof PyValue && value.type === 'exception');
    if (!(failed instanceof PyValue)) return ['value', outcome.value];
    const [type, , args] = failed.value as readonly unknown[];
    return ['error', type, args];
  };

  byNode(client: CeleryClient): Start {
    return async (canvas, wait) => {
      // Celery forgets the options of a map that it sends by itself; so that the ends can be compared, ours has none either.
      const alone = 'map' in canvas || 'starmap' in canvas ? { ...canvas, options: {} } : canvas;
      const result = (await client.apply(canvasOf(alone))) as { get(options: object): Promise<unknown> };
      if (!wait) return undefined;
      try {
        return ['value', await result.get({ timeoutMs: PATIENCE_SECONDS * 1000 })];
      } catch (error) {
        if (!(error instanceof RemoteError)) return ['nothing'];
        return ['error', error.type, error.args];
      }
    };
  }

  /** Send a shape, and wait until nothing is left to do. What it left is then read with the prefix of its ids. */
  async play(shape: Shape, cast: Cast, start: Start = this.byPython): Promise<Played> {
    await this.#results.flushdb();
    const prefix = `run${this.#stage.version}.${++this.#runs}`;
    let at = 0;
    const role: Role = (name, task, args = [], { options, ...more } = {}) => {
      const given = { queue: cast(at++, name), task_id: `${prefix}--${name}`, ...options };
      const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      return { task: `both.${task}`, args, kwargs: {}, options: set, subtask_type: null, immutable: false, ...more };
    };
    const heard = await start(shape.build(role), shape.fault === undefined);
    await until(`'${shape.name}' is over`, () => this.#idle());
    return { prefix, heard: withoutPrefix(heard, prefix) };
  }

  look({ prefix }: Played, last: Shape['last']): Promise<Observation> {
    return observe(this.#results, prefix, { last, groups: this.#stage.version === '5.6' });
  }

  /** What came of it, once it is what it should be; or what it is at last, for the difference to be seen. */
  async settled(played: Played, last: Shape['last'], right: (seen: Observation) => boolean): Promise<Observation> {
    let seen = await this.look(played, last);
    const deadline = Date.now() + 5_000;
    while (!right(seen) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      seen = await this.look(played, last);
    }
    return seen;
  }

  /** The same, once it is this. */
  async settledAs(played: Played, last: Shape['last'], theirs: Observation): Promise<Observation> {
    return this.settled(played, last, (seen) => isDeepStrictEqual(seen, theirs));
  }

  /** Whether nobody has anything to do, for long enough that a message is not just on its way from a list into `unacked`. */
  async #idle(): Promise<boolean> {
    for (let looks = 0; looks < 3; looks++) {
      if (looks > 0) await new Promise((resolve) => setTimeout(resolve, 15));
      const waiting = await Promise.all(['python', 'node', 'celery'].map((queue) => this.#stage.waiting(queue)));
      if (waiting.some((length) => length > 0) || (await this.#stage.unacked()) > 0) return false;
    }
    return true;
  }
}

/** Of the roles that are asked for: the state, where that is what is expected, else the result. */
export function endsOf(
  { results }: Observation,
  asked: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(asked).map(([role, right]) => {
      const stored = results[role];
      return [role, typeof right === 'string' ? (stored?.status ?? 'PENDING') : stored?.result];
    }),
  );
}

function withoutPrefix(value: unknown, prefix: string): unknown {
  if (typeof value === 'string') return value.replaceAll(`${prefix}--`, '').replace(UUID, '*');
  return Array.isArray(value) ? value.map((item) => withoutPrefix(item, prefix)) : value;
}

const UUID = /[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}/g;
