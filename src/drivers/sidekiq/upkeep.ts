import { createHash } from 'node:crypto';
import { readClaim, type Rescue } from '../../../protocols/claims.ts';
import { wrappedClass } from '../../../protocols/sidekiq/active-job.ts';
import { claimsKey, rescuesKey } from '../../../protocols/sidekiq/keys.ts';
import { decodeJob, jidOf } from '../../../protocols/sidekiq/message.ts';
import { afterDeath } from '../../../protocols/sidekiq/morgue.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { type Agent, pause } from '../../source.ts';
import { Rescuer } from '../../transports/redis-claims.ts';
import type { SidekiqContext } from './context.ts';

/** Gives back the jobs of dead processes: processes whose entry has expired. A job that kills its process repeatedly goes to the dead set. */
export class JobRescue implements Agent {
  readonly name = 'sidekiq: rescue jobs of dead processes';
  readonly #context: SidekiqContext;
  /** The jobs of this check that may be buried, by their process and claim. */
  readonly #ids = new Map<string, string>();

  constructor(context: SidekiqContext) {
    this.#context = context;
  }

  async run(signal: AbortSignal): Promise<void> {
    const rescuer = this.#rescuer();
    while (!signal.aborted) {
      this.#ids.clear();
      await rescuer.look(signal);
      await pause(this.#context.options.rescueMs * (0.9 + Math.random() / 5), signal);
    }
  }

  #rescuer(): Rescuer {
    const { redis, keys, identity, options, log } = this.#context;
    return new Rescuer({
      redis,
      claimants: keys.claimants,
      begun: keys.begun,
      process: identity,
      aliveKey: (one) => keys.prefix + one,
      claimsKey: (one) => claimsKey(keys, one),
      rescueOf: (claim, bytes, one) => this.#rescueOf(claim, bytes, one),
      limit: options.poisonLimit,
      buried: (claim, one) => this.#report(claim, one),
      gone: (one, jobs) => {
        if (jobs > 0) log.warn({ process: one, jobs }, 'a process died; its jobs are back in their queues');
        return Promise.resolve();
      },
    });
  }

  #rescueOf(claim: string, bytes: Uint8Array, identity: string): Rescue {
    const { queue } = readClaim(claim);
    const { keys, options, dialect } = this.#context;
    const nowMs = Date.now();
    const id = idOf(bytes, queue);
    const dead = afterDeath(bytes, queue, { times: options.poisonLimit, process: identity, dialect, nowMs });
    const back = wire.requeue(keys, queue, bytes, 'front');
    const counter = rescuesKey(keys, id);
    // A job of an unknown task only waited here for other workers, so it did not kill the process.
    if (this.#isUnknown(bytes, queue)) return { claim, counter, back, bury: back, harmless: true };
    this.#ids.set(`${identity} ${claim}`, id);
    return { claim, counter, back, bury: wire.bury(keys, nowMs, dead, options.dead) };
  }

  /** Whether the class of the job is left for other workers. This process can only know that for a job on one of its queues and without a handler. */
  #isUnknown(bytes: Uint8Array, queue: string): boolean {
    const { options, capsules, host } = this.#context;
    if (options.unknownTask === 'reject' || host === undefined) return false;
    if (!capsules.some(({ weights }) => weights.some(([name]) => name === queue))) return false;
    try {
      const { hash } = decodeJob(bytes, queue);
      const names = [hash['class'] as string, wrappedClass(hash)];
      return names.every((name) => name === undefined || host.tasks.find('sidekiq', name) === undefined);
    } catch {
      return false;
    }
  }

  #report(claim: string, identity: string): void {
    const id = this.#ids.get(`${identity} ${claim}`);
    if (id === undefined) return;
    this.#context.host?.poison({
      system: 'sidekiq',
      queue: readClaim(claim).queue,
      id,
      code: 'poison',
      reason: `its process died ${this.#context.options.poisonLimit} times while it ran, last ${identity}`,
      kept: 'The job is in the dead set; retry it from there once its handler is mended.',
    });
  }
}

/** The name of a job among the rescue counters. */
function idOf(bytes: Uint8Array, queue: string): string {
  let id = '';
  try {
    id = jidOf(decodeJob(bytes, queue).hash);
  } catch {
    // Bytes that are not a job are counted by their digest.
  }
  // A jid may be any text, and the name becomes part of a key.
  return id === '' || id.length > 200 ? createHash('sha256').update(bytes).digest('hex') : id;
}
