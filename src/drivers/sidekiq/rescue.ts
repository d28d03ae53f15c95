import { createHash } from 'node:crypto';
import { decodeJob, jidOf } from '../../../protocols/sidekiq/message.ts';
import { afterDeath } from '../../../protocols/sidekiq/morgue.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { type Agent, pause } from '../../source.ts';
import type { SidekiqProcess } from './process.ts';

/** Jobs are given back a few at a time, since they may be large. */
const BATCH = 20;

/**
 * Gives back the jobs of processes that are dead: whose entry has expired, at two looks in a row, so that all of them have time
 * to beat again after Redis was away. The first job of a process runs next.
 */
export class Rescue implements Agent {
  readonly name = 'sidekiq: rescue jobs of dead processes';
  readonly #process: SidekiqProcess;
  #suspects = new Set<string>();

  constructor(process: SidekiqProcess) {
    this.#process = process;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.look(signal);
      } catch (error) {
        // Whoever could not be asked is not suspected.
        this.#suspects = new Set();
        throw error;
      }
      await pause(this.#process.options.rescueMs * (0.9 + Math.random() / 5), signal);
    }
  }

  async look(signal: AbortSignal): Promise<void> {
    const { keys, identity } = this.#process;
    const others = (await this.#process.run(wire.claimants(keys))).filter((one) => one !== identity);
    const alive = await this.#process.run(wire.alive(keys, others));
    const dead = others.filter((_, at) => alive[at] !== true);
    const known = this.#suspects;
    this.#suspects = new Set(dead);
    for (const one of dead) if (known.has(one) && !signal.aborted) await this.#rescue(one, signal);
  }

  async #rescue(identity: string, signal: AbortSignal): Promise<void> {
    const process = this.#process;
    const { keys, options, log } = process;
    const claims = [...(await process.run(wire.claimsOf(keys, identity)))];
    // What it fetched first is pushed last, and so runs first.
    claims.sort((a, b) => wire.readClaim(b).number - wire.readClaim(a).number);
    let back = 0;
    for (let at = 0; at < claims.length && !signal.aborted; at += BATCH) {
      const some = claims.slice(at, at + BATCH);
      const values = await process.run(wire.claimedBytes(keys, identity, some));
      const rescues = some.flatMap((claim, index) => {
        const bytes = values[index];
        return bytes === undefined ? [] : [this.#rescueOf(claim, bytes, identity)];
      });
      const nowMs = Date.now();
      const done = await process.run(
        wire.rescue(keys, identity, rescues, { limit: options.poisonLimit, nowMs, dead: options.dead }),
      );
      for (const [index, what] of done.entries()) {
        if (what === 'alive') return;
        if (what === 'back') back += 1;
        if (what === 'dead') this.#report(rescues[index] as wire.Rescue, identity);
      }
    }
    await process.run(wire.forgetClaimant(keys, identity));
    if (back > 0) log.warn({ process: identity, jobs: back }, 'a process died; its jobs are back in their queues');
  }

  #rescueOf(claim: string, bytes: Buffer, identity: string): wire.Rescue {
    const { queue } = wire.readClaim(claim);
    const { options, dialect } = this.#process;
    let id = '';
    try {
      id = jidOf(decodeJob(bytes, queue).hash);
    } catch {
      // No job, but somebody's bytes: counted by what they are.
    }
    return {
      claim,
      bytes,
      // A jid may be any text, and this one is part of a key.
      id: id === '' || id.length > 200 ? createHash('sha256').update(bytes).digest('hex') : id,
      dead: afterDeath(bytes, queue, { times: options.poisonLimit, process: identity, dialect, nowMs: Date.now() }),
    };
  }

  #report({ claim, id }: wire.Rescue, identity: string): void {
    const { queue } = wire.readClaim(claim);
    this.#process.host?.poison({
      system: 'sidekiq',
      queue,
      id,
      code: 'poison',
      reason: `its process died ${this.#process.options.poisonLimit} times while it ran, last ${identity}`,
      kept: 'The job is in the dead set; retry it from there once its handler is mended.',
    });
  }
}
