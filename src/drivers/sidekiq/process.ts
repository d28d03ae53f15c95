import { randomBytes } from 'node:crypto';
import { acknowledge, type ClaimLimits } from '../../../protocols/claims.ts';
import type { Disposition } from '../../../protocols/job.ts';
import type { Command, Exchange } from '../../../protocols/redis.ts';
import { type Dialect, NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import { claimsKey, type Keyspace } from '../../../protocols/sidekiq/keys.ts';
import { Metrics } from '../../../protocols/sidekiq/metrics.ts';
import * as presence from '../../../protocols/sidekiq/presence.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { RenewingSet } from '../../renewing.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import type { Agent, Host } from '../../source.ts';
import { Claims } from '../../transports/redis-claims.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { peersDialect } from './peers.ts';
import { Heartbeat } from './heartbeat.ts';
import type { ResolvedApp, ResolvedWorker } from './options.ts';
import { Poller } from './poller.ts';
import { JobRescue } from './rescue.ts';

/** A job that runs, as the heartbeat shows it. */
export interface Working {
  readonly work: presence.Work;
}

export const SUCCEEDED: Disposition = { state: 'succeeded' };

/**
 * One process of Sidekiq: one identity, one heartbeat and one poller, however many capsules fetch for it. Opened with its first
 * capsule, closed with its last.
 */
export class SidekiqProcess {
  readonly app: ResolvedApp;
  readonly options: ResolvedWorker;
  readonly capsules: presence.Capsule[] = [];
  readonly limits: ClaimLimits;
  readonly metrics: Metrics = new Metrics();
  readonly working: RenewingSet<Working> = new RenewingSet();
  readonly #agents: readonly Agent[];
  readonly startedAtMs: number = Date.now();
  readonly poller: Poller;
  /** Queues that a person has paused. */
  paused: ReadonlySet<string> = new Set();
  dialect: Dialect;
  identity = '';
  log: Logger = silent;
  host: Host | undefined;
  processed = 0;
  failed = 0;
  readonly #heartbeat: Heartbeat;
  #redis: RedisConnection | undefined;
  #claims: Claims | undefined;
  #done: ((claim: string) => Promise<void>) | undefined;
  #opening: Promise<void> | undefined;
  #open = 0;
  #quiet = 0;
  #tids = 0;
  #owner: object | undefined;

  constructor(app: ResolvedApp, options: ResolvedWorker) {
    this.app = app;
    this.options = options;
    this.dialect = app.dialect ?? NEUTRAL;
    this.limits = { jobBytes: options.maxJobBytes, batchBytes: Math.min(options.maxJobBytes, 16 * 2 ** 20) };
    this.#heartbeat = new Heartbeat(this);
    this.poller = new Poller(this);
    const rescue = new JobRescue(this);
    this.#agents = [
      this.#heartbeat,
      ...(options.poll ? [this.poller] : []),
      ...(options.fetch === 'reliable' ? [rescue] : []),
    ];
  }

  get keys(): Keyspace {
    return this.app.keys;
  }

  get redis(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('sidekiq: the source is not open');
    return this.#redis;
  }

  /** What was fetched here and is not settled. */
  get claims(): Claims {
    if (this.#claims === undefined) throw new ConfigError('sidekiq: the source is not open');
    return this.#claims;
  }

  /** Every capsule takes nothing more. */
  get isQuiet(): boolean {
    return this.#open > 0 && this.#quiet >= this.#open;
  }

  /** The chores of the process, for one of its capsules to run. */
  agentsFor(capsule: object): readonly Agent[] {
    this.#owner ??= capsule;
    return this.#owner === capsule ? this.#agents : [];
  }

  /** Names a slot for the UI. */
  newTid(): string {
    return (this.#tids++).toString(36).padStart(3, '0');
  }

  /** A connection of its own to the same server. */
  connection(): RedisConnection {
    return new RedisConnection(this.app.target, { log: this.log });
  }

  async open(host: Host): Promise<void> {
    this.#open += 1;
    await (this.#opening ??= this.#start(host));
  }

  /** One capsule takes nothing more. The UI shows it without waiting for the next beat. */
  quiet(): void {
    this.#quiet += 1;
    if (this.isQuiet) this.#heartbeat.soon();
  }

  async close(): Promise<void> {
    this.#open -= 1;
    if (this.#open > 0 || this.#redis === undefined) return;
    const redis = this.#redis;
    try {
      // A server that is away has a second; after that others see by our heartbeat that we are gone.
      await redis.whenReady(AbortSignal.timeout(1_000));
      await this.#heartbeat.end();
    } finally {
      this.#redis = undefined;
      this.#opening = undefined;
      await redis.close();
    }
  }

  /** What the processes around can read; asked at the start and each minute. */
  async learnDialect(): Promise<void> {
    this.dialect = this.app.dialect ?? (await peersDialect(this.redis, this.keys));
  }

  /** One run has ended, and how. `name` is the class it is counted under. */
  count(name: string, failed: boolean, ms: number): void {
    this.processed += 1;
    if (failed) this.failed += 1;
    if (this.options.metrics) this.metrics.add(name, failed, ms);
  }

  /** The job is done: nothing of it is kept. Those of one turn leave as one command. */
  async acknowledge(claim: string): Promise<void> {
    await this.#done?.(claim);
    this.claims.ended(claim);
  }

  /**
   * Do this with a job, and give up its claim in the same step. False when the claim was gone: others have the job, and nothing was
   * done. Without a claim (basic fetch) only the commands are sent.
   */
  async dispose(claim: string | undefined, commands: readonly Command[]): Promise<boolean> {
    if (claim !== undefined && commands.length > 0) return this.claims.exchange(claim, commands);
    if (claim !== undefined) await this.acknowledge(claim);
    else await this.redis.run(wire.writes(commands, commands.length > 1));
    return true;
  }

  run<Reply>(exchange: Exchange<Reply>): Promise<Reply> {
    return this.redis.run(exchange);
  }

  async #start(host: Host): Promise<void> {
    this.host = host;
    this.log = host.log;
    const { hostname, pid } = host.identity;
    // A worker may be started beside another one in the same process, and each has its own claims.
    this.identity = presence.identity({ hostname, pid, nonce: randomBytes(6).toString('hex') });
    const redis = this.connection();
    try {
      await redis.connect();
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
    this.#redis = redis;
    const claims = claimsKey(this.keys, this.identity);
    this.#claims = new Claims({
      redis,
      log: this.log,
      claims,
      begun: this.keys.begun,
      process: this.identity,
      giveBack: (queue, bytes) => wire.requeue(this.keys, queue, bytes, 'front'),
    });
    this.#done = redis.batchPerTick((done: readonly string[]) => wire.writes(acknowledge(claims, done)));
    await this.learnDialect();
    // Before anything is fetched: whoever looks at our claims must find us alive.
    await this.#heartbeat.beat();
  }
}
