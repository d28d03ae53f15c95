import { randomBytes } from 'node:crypto';
import { identity } from '../../../protocols/sidekiq/presence.ts';
import type { Agent, Host } from '../../source.ts';
import { SidekiqContext } from './context.ts';
import type { ResolvedApp, ResolvedWorker } from './options.ts';
import { Presence } from './presence.ts';
import { Poller } from './scheduler.ts';
import { JobRescue } from './upkeep.ts';

/**
 * One Sidekiq process: one identity, one heartbeat and one poller, for any number of capsules. It opens with its first capsule and closes with its
 * last.
 */
export class SidekiqProcess {
  readonly context: SidekiqContext;
  readonly #agents: readonly Agent[];
  readonly #presence: Presence;
  #opening: Promise<void> | undefined;
  #open = 0;
  #quiet = 0;
  #owner: object | undefined;

  constructor(app: ResolvedApp, options: ResolvedWorker) {
    const context = new SidekiqContext(app, options);
    const poller = new Poller(context);
    this.context = context;
    context.onDue = (atMs) => poller.expect(atMs);
    this.#presence = new Presence(context);
    this.#agents = [
      this.#presence,
      ...(options.poll ? [poller] : []),
      ...(options.fetch === 'reliable' ? [new JobRescue(context)] : []),
    ];
  }

  /** The agents of the process, for one of its capsules to run. */
  agentsFor(capsule: object): readonly Agent[] {
    this.#owner ??= capsule;
    return this.#owner === capsule ? this.#agents : [];
  }

  async open(host: Host): Promise<void> {
    this.#open += 1;
    await (this.#opening ??= this.#start(host));
  }

  /** One capsule stops fetching. The UI shows this without waiting for the next heartbeat. */
  quiet(): void {
    this.#quiet += 1;
    if (this.#open === 0 || this.#quiet < this.#open) return;
    this.context.isQuiet = true;
    this.#presence.soon();
  }

  async close(): Promise<void> {
    this.#open -= 1;
    if (this.#open > 0 || !this.context.connected) return;
    try {
      // Wait one second for a server that cannot be reached. After that, the missing heartbeat shows other processes that this one is gone.
      await this.context.redis.whenReady(AbortSignal.timeout(1_000));
      await this.#presence.end();
    } finally {
      this.#opening = undefined;
      await this.context.disconnect();
    }
  }

  async #start(host: Host): Promise<void> {
    const { hostname, pid } = host.identity;
    try {
      // Two workers may be started in the same process, and each has its own claims.
      await this.context.connect(host, identity({ hostname, pid, nonce: randomBytes(6).toString('hex') }));
    } catch (error) {
      this.#opening = undefined;
      await this.context.disconnect();
      throw error;
    }
    // Send the heartbeat before any fetch: a process that checks the claims of this one must see that it is alive.
    await this.#presence.beat();
  }
}
