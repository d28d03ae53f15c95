import { randomBytes } from 'node:crypto';
import { acknowledge } from '../../../protocols/claims.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { claimsKey, type Keyspace } from '../../../protocols/resque/keys.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import type { Host } from '../../source.ts';
import { Claims } from '../../transports/redis-claims.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { ResolvedApp, ResolvedWorker } from './options.ts';
import { type Occupant, Slots } from './presence.ts';

/** The version of Resque whose behaviour is followed. The title of the process shows it. */
export const FOLLOWS = '3.0.0';

/** A finished job: its claim, and the worker under which it is counted. */
interface Done {
  readonly claim: string;
  readonly worker: string;
}

/** The state of a worker of this process in Redis: its connection, its claims, and one worker of Resque for each slot. */
export class ResqueProcess {
  readonly app: ResolvedApp;
  readonly options: ResolvedWorker;
  log: Logger = silent;
  host: Host | undefined;
  name = '';
  slots: Slots;
  #startedAt = new Date(0);
  #claims: Claims | undefined;
  #redis: RedisConnection | undefined;
  #turn: ((done: Done | undefined) => Promise<void>) | undefined;

  constructor(app: ResolvedApp, options: ResolvedWorker) {
    this.app = app;
    this.options = options;
    this.slots = new Slots(app.keys, []);
  }

  get keys(): Keyspace {
    return this.app.keys;
  }

  get redis(): RedisConnection {
    return this.#redis ?? notOpen();
  }

  get claims(): Claims {
    return this.#claims ?? notOpen();
  }

  run<Reply>(exchange: Exchange<Reply>): Promise<Reply> {
    return this.redis.run(exchange);
  }

  whenReady(signal: AbortSignal): Promise<void> | undefined {
    return this.redis.whenReady(signal);
  }

  async open(host: Host): Promise<void> {
    this.host = host;
    this.log = host.log;
    const redis = new RedisConnection(this.app.target, { log: this.log });
    await redis.connect();
    this.#redis = redis;
    const { hostname, pid } = host.identity;
    // Another worker may run in the same process, and each has its own claims.
    const nonce = randomBytes(3).toString('hex');
    this.name = presence.processName(this.options.hostname ?? hostname, nonce);
    const identity = { process: this.name, pid, queues: this.options.queues.shown };
    const ids = Array.from({ length: this.options.concurrency }, (_, at) => presence.workerId(identity, at + 1));
    this.slots = new Slots(this.keys, ids);
    const claims = claimsKey(this.keys, this.name);
    this.#claims = new Claims({
      redis,
      log: this.log,
      claims,
      begun: this.keys.begun,
      process: this.name,
      giveBack: (queue, bytes) => wire.giveBack(this.keys, queue, bytes),
    });
    this.#turn = redis.batchPerTick((items: readonly (Done | undefined)[]) => this.#settled(claims, items));
    this.#startedAt = await this.run(presence.serverTime());
    // Write the sign of life before any claim: a process that checks the claims of this one must see that it is alive.
    await this.sayAlive();
    await this.register();
  }

  /** Returns true when this process still counted as alive. */
  sayAlive(): Promise<boolean> {
    const { keys, name, options } = this;
    return this.run(presence.sayAlive(keys, name, options.deadAfterSeconds, new Date()));
  }

  /** Writes everything that shows these workers, also after another process has removed them from the list. */
  async register(): Promise<void> {
    const now = await this.run(presence.serverTime());
    await this.run(presence.register(this.keys, this.slots.ids, now, this.#startedAt));
  }

  /** The job begins. It is shown when the commands of this tick are sent; nothing waits for that. */
  begin(occupant: Occupant): void {
    this.slots.enter(occupant);
    this.#show();
  }

  /** The job left its worker without being done: it goes back or elsewhere. */
  leave(occupant: Occupant): string {
    const id = this.slots.leave(occupant);
    this.#show();
    return id;
  }

  /** The job is done, and Redis keeps nothing of it. */
  async done(claim: string, worker: string): Promise<void> {
    await this.#send({ claim, worker });
    this.claims.ended(claim);
  }

  async close(): Promise<void> {
    const redis = this.#redis;
    if (redis === undefined) return;
    try {
      const { keys, name, slots } = this;
      // Wait one second for a server that cannot be reached. After that, the missing heartbeats show other processes that this one is gone.
      await redis.whenReady(AbortSignal.timeout(1_000));
      await redis.run(wire.leave(keys, name, slots.ids));
    } finally {
      this.#redis = undefined;
      await redis.close();
    }
  }

  #show(): void {
    this.#send(undefined).catch((error: unknown) =>
      this.log.debug({ error }, 'what our workers do could not be shown'),
    );
  }

  async #send(done: Done | undefined): Promise<void> {
    try {
      await (this.#turn ?? notOpen())(done);
    } catch (error) {
      this.slots.forget();
      // A counter that is not a number must not fail the job: the claim of the job ended with the same commands.
      if (!(error instanceof Error) || !/not an integer|WRONGTYPE/.test(error.message)) throw error;
      this.log.warn({ error }, 'a counter, or what is shown of a worker, could not be written');
    }
  }

  #settled(claims: string, items: readonly (Done | undefined)[]): Exchange<void> {
    const done = items.filter((item) => item !== undefined);
    return {
      commands: [
        ...acknowledge(
          claims,
          done.map(({ claim }) => claim),
        ),
        ...this.slots.commands(),
        ...presence.doneAll(
          this.keys,
          done.map(({ worker }) => worker),
        ),
      ],
      atomic: false,
      read: () => undefined,
    };
  }
}

function notOpen(): never {
  throw new ConfigError('resque: the source is not open');
}
