import { createHash } from 'node:crypto';
import { readClaim } from '../../../protocols/claims.ts';
import { wrappedClass } from '../../../protocols/resque/active-job.ts';
import { aliveKey, claimsKey, quarantineKey } from '../../../protocols/resque/keys.ts';
import { className, decodePayload } from '../../../protocols/resque/message.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import { type Agent, every, pause } from '../../source.ts';
import { Rescuer } from '../../transports/redis-claims.ts';
import type { ResqueProcess } from './process.ts';

/** Shows these workers to Resque, and writes the sign of life that other processes of this package read. */
export function heartbeats(process: ResqueProcess): readonly Agent[] {
  const { options } = process;
  const signs = Math.min(options.deadAfterSeconds * 250, options.heartbeatMs);
  return [
    every('resque: heartbeat', options.heartbeatMs, () => process.register(), 0),
    every('resque: sign of life', signs, () => signOfLife(process), 0.1),
  ];
}

async function signOfLife(process: ResqueProcess): Promise<void> {
  if (await process.sayAlive()) return;
  // Another process may have given these jobs to other workers and removed these workers from the list.
  const lost = await process.claims.verify();
  await process.register();
  if (lost === 0) return;
  process.log.warn(
    { jobs: lost },
    'this process was silent for so long that it was taken for dead: jobs of it were given to others and may run twice. Was the event loop blocked, or Redis away?',
  );
}

/** Gives back the jobs of dead processes of this package, before another process considers their workers dead and fails their jobs. */
export function rescue(process: ResqueProcess): Agent {
  let rescuer: Rescuer | undefined;
  return {
    name: 'resque: rescue jobs of dead processes',
    async run(signal) {
      // The first check only marks processes as suspect, so it need not wait.
      while (!signal.aborted) {
        rescuer ??= rescuerOf(process);
        await rescuer.look(signal);
        await pause(process.options.rescueMs * (0.9 + Math.random() / 5), signal);
      }
    },
  };
}

function rescuerOf(process: ResqueProcess): Rescuer {
  const { keys, options, redis, name } = process;
  return new Rescuer({
    redis,
    claimants: keys.claimants,
    begun: keys.begun,
    process: name,
    aliveKey: (other) => aliveKey(keys, other),
    claimsKey: (other) => claimsKey(keys, other),
    limit: options.poisonLimit,
    rescueOf: (claim, bytes, other) => {
      const { queue } = readClaim(claim);
      const why = { code: 'poison', queue, deaths: options.poisonLimit, process: other, at: Date.now() / 1000 };
      const digest = createHash('sha1').update(queue).update('\0').update(bytes).digest('hex');
      const harmless = isUnknown(process, bytes, queue);
      return { ...wire.rescueOf(keys, claim, bytes, digest, JSON.stringify(why)), harmless };
    },
    buried: (claim, other) => {
      const { queue } = readClaim(claim);
      const list = quarantineKey(keys, queue);
      process.host?.poison({
        system: 'resque',
        queue,
        id: undefined,
        code: 'poison',
        reason: `its process died ${options.poisonLimit} times while it ran, last ${other}`,
        kept: keptWords(list, `${keys.prefix}queue:${queue}`),
      });
    },
    gone: async (other, jobs) => {
      const ids = (await process.run(wire.workers(keys))).filter((id) => presence.isSlotOf(other, id));
      await process.run(wire.bury(keys, other, presence.unregister(keys, ids)));
      if (jobs > 0)
        process.log.warn({ process: other, jobs }, 'a process died; its jobs are at the heads of their queues');
    },
  });
}

/** Whether the dead process only held the job: its class has no handler here, and unknown tasks are not rejected. Only for queues of this worker. */
function isUnknown({ options, host }: ResqueProcess, bytes: Uint8Array, queue: string): boolean {
  if (options.unknownTask === 'reject' || host === undefined || options.queues.expand([queue]).length === 0)
    return false;
  try {
    const payload = decodePayload(bytes);
    const names = [className(payload.class), wrappedClass(payload)];
    return names.every((name) => name === undefined || host.tasks.find('resque', name) === undefined);
  } catch {
    return false;
  }
}

export function keptWords(list: string, queue: string): string {
  return `The bytes are kept in the list '${list}', the reason in '${list}:why'. To try it again: LMOVE '${list}' '${queue}' LEFT RIGHT`;
}

/** Removes workers without a heartbeat from the list, and records the jobs they died with as failures, as Ruby does at its start. */
export function pruner(process: ResqueProcess): readonly Agent[] {
  const { pruneMs } = process.options;
  return pruneMs === undefined ? [] : [every('resque: prune dead workers', pruneMs, () => prune(process))];
}

export async function prune(process: ResqueProcess): Promise<void> {
  const { keys, options } = process;
  if (!(await process.run(presence.lockPruning(keys, process.slots.ids[0] as string)))) return;
  const { beats, now } = await process.run(presence.roster(keys));
  const dead = presence.expired(beats, now);
  if (dead.length === 0) return;
  const doing = await process.run(
    presence.doing(
      keys,
      dead.map(({ id }) => id),
    ),
  );
  // Workers of this package that still have claims are left to the rescue: their jobs are not lost.
  const claimants = await process.run(wire.claimants(keys));
  for (const [at, { id, beat }] of dead.entries()) {
    if (claimants.some((name) => presence.isSlotOf(name, id))) continue;
    if (await process.run(presence.prune(keys, { id, beat, doing: doing[at] }, options.failures, now)))
      process.log.warn({ worker: id }, 'a worker did not beat for five minutes; it is off the list');
  }
}
