import { acknowledge, type ClaimLimits } from '../../../protocols/claims.ts';
import type { Command, Exchange } from '../../../protocols/redis.ts';
import { type Dialect, NEUTRAL } from '../../../protocols/sidekiq/dialect.ts';
import { claimsKey, type Keyspace } from '../../../protocols/sidekiq/keys.ts';
import { Metrics } from '../../../protocols/sidekiq/metrics.ts';
import type * as presence from '../../../protocols/sidekiq/presence.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import { RenewingSet } from '../../renewing.ts';
import type { Host } from '../../source.ts';
import { Claims } from '../../transports/redis-claims.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { ResolvedApp, ResolvedWorker } from './options.ts';
import { peersDialect } from './peers.ts';

/** A running job, as the heartbeat shows it. */
export interface Working {
  readonly work: presence.Work;
}

/** The state that the parts of one Sidekiq process share: options, the connection, claims, counters. It starts nothing by itself. */
export class SidekiqContext {
  readonly app: ResolvedApp;
  readonly options: ResolvedWorker;
  readonly capsules: presence.Capsule[] = [];
  readonly limits: ClaimLimits;
  readonly metrics: Metrics = new Metrics();
  readonly working: RenewingSet<Working> = new RenewingSet();
  readonly startedAtMs: number = Date.now();
  /** Queues that are paused. */
  paused: ReadonlySet<string> = new Set();
  dialect: Dialect;
  identity = '';
  log: Logger = silent;
  host: Host | undefined;
  processed = 0;
  failed = 0;
  /** Every capsule has stopped fetching jobs. */
  isQuiet = false;
  /** Called when a job due at this time, in milliseconds, was written to a set. */
  onDue: (atMs: number) => void = () => {};
  #redis: RedisConnection | undefined;
  #claims: Claims | undefined;
  #done: ((claim: string) => Promise<void>) | undefined;
  #tids = 0;

  constructor(app: ResolvedApp, options: ResolvedWorker) {
    this.app = app;
    this.options = options;
    this.dialect = app.dialect ?? NEUTRAL;
    this.limits = { jobBytes: options.maxJobBytes, batchBytes: Math.min(options.maxJobBytes, 16 * 2 ** 20) };
  }

  get keys(): Keyspace {
    return this.app.keys;
  }

  get connected(): boolean {
    return this.#redis !== undefined;
  }

  get redis(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('sidekiq: the source is not open');
    return this.#redis;
  }

  /** The jobs that this process has fetched and not settled. */
  get claims(): Claims {
    if (this.#claims === undefined) throw new ConfigError('sidekiq: the source is not open');
    return this.#claims;
  }

  /** Returns a new name for a slot, shown in the UI. */
  newTid(): string {
    return (this.#tids++).toString(36).padStart(3, '0');
  }

  /** Returns a separate connection to the same server. */
  connection(): RedisConnection {
    return new RedisConnection(this.app.target, { log: this.log });
  }

  /** Opens the connection that the parts share, and the claims of this identity. */
  async connect(host: Host, identity: string): Promise<void> {
    this.host = host;
    this.log = host.log;
    this.identity = identity;
    const redis = this.connection();
    await redis.connect();
    this.#redis = redis;
    const claims = claimsKey(this.keys, identity);
    this.#claims = new Claims({
      redis,
      log: this.log,
      claims,
      begun: this.keys.begun,
      process: identity,
      giveBack: (queue, bytes) => wire.requeue(this.keys, queue, bytes, 'front'),
    });
    this.#done = redis.batchPerTick((done: readonly string[]) => wire.writes(acknowledge(claims, done)));
    await this.learnDialect();
  }

  async disconnect(): Promise<void> {
    const redis = this.#redis;
    this.#redis = undefined;
    await redis?.close();
  }

  /** The dialect that all current processes can read. It is read at the start and each minute. */
  async learnDialect(): Promise<void> {
    this.dialect = this.app.dialect ?? (await peersDialect(this.redis, this.keys));
  }

  /** Counts one finished run and its result. `name` is the class under which it is counted. */
  count(name: string, failed: boolean, ms: number): void {
    this.processed += 1;
    if (failed) this.failed += 1;
    if (this.options.metrics) this.metrics.add(name, failed, ms);
  }

  /** The job is done, and Redis keeps nothing of it. The acknowledgements of one tick are sent as one command. */
  async acknowledge(claim: string): Promise<void> {
    await this.#done?.(claim);
    this.claims.ended(claim);
  }

  /**
   * Sends these commands and gives up the claim of the job in the same step. Returns false when the claim was gone: another process has the job, and
   * nothing was written. Without a claim (basic fetch) only the commands are sent.
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
}
