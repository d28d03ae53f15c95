import { WireError } from '../errors.ts';
import type { Capsule } from './presence.ts';

/**
 * Which queues, and which first. Mirrors lib/sidekiq/capsule.rb queues= and fetch.rb queues_cmd (8.1).
 *
 *     ['critical', 'default']                    strict: the first that has any
 *     { critical: 5, default: 1 }                weighted: drawn anew each time
 *     ['critical,5', ['default', 1]]             the same
 *     { a: 1, b: 1 }                             random: all alike
 */
export type QueuesOption =
  readonly (string | readonly [name: string, weight: number])[] | Readonly<Record<string, number>>;

/** Reads any of the forms. Throws WireError `bad-option` for a name or a weight that is none. */
export function readQueues(queues: QueuesOption): Pick<Capsule, 'mode' | 'weights'> {
  const given: readonly (readonly [string, number])[] = Array.isArray(queues)
    ? (queues as readonly (string | readonly [string, number])[]).map((one) => {
        if (typeof one !== 'string') return [one[0], one[1] ?? 0] as const;
        const [name = '', weight = '0'] = one.split(',');
        return [name.trim(), Number(weight)] as const;
      })
    : Object.entries(queues as Readonly<Record<string, number>>);
  const weights = new Map<string, number>();
  for (const [name, weight] of given) {
    if (typeof name !== 'string' || name === '')
      throw new WireError('sidekiq', 'bad-option', `queues: a queue needs a name, not ${JSON.stringify(name)}`);
    if (!Number.isInteger(weight) || weight < 0)
      throw new WireError('sidekiq', 'bad-option', `queues: the weight of '${name}' must be a whole number`);
    weights.set(name, Math.max(weight, weights.get(name) ?? 0));
  }
  const all = [...weights.values()];
  const mode = all.every((weight) => weight === 0)
    ? 'strict'
    : all.every((weight) => weight === 1)
      ? 'random'
      : 'weighted';
  return { mode, weights: [...weights] };
}

/** The order for one fetch, without the queues that are paused. `random` is asked for numbers in [0, 1). */
export function fetchOrder(
  { mode, weights }: Pick<Capsule, 'mode' | 'weights'>,
  paused: ReadonlySet<string>,
  random: () => number,
): readonly string[] {
  const left = paused.size === 0 ? weights : weights.filter(([queue]) => !paused.has(queue));
  if (mode === 'strict' || left.length < 2) return left.map(([queue]) => queue);
  // As if each name were there as often as it weighs, all were shuffled, and the first of each counted.
  return left
    .map(([queue, weight]) => ({ queue, turn: Math.log(1 - random()) / Math.max(weight, 1) }))
    .sort((a, b) => b.turn - a.turn)
    .map(({ queue }) => queue);
}
