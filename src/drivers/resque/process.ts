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
import { type Occupant, Slots } from './slots.ts';

/** The version whose behaviour is followed, shown in the title of the process. */
export const FOLLOWS = '3.0.0';

/** A job that is done: its claim, and the worker that is to be counted. */
interface Done {
  readonly claim: string;
  readonly worker: string;
}

/** What a worker of this process has in Redis: its connection, its claims, and as many workers of Resque as it has slots. */
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
    // Another worker may run beside this one in the same process, and each has its own claims.
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
    // Before anything is claimed: whoever looks at our claims must find us alive.
    await this.sayAlive();
    await this.register();
  }

  /** True when this process was still known to be alive. */
  sayAlive(): Promise<boolean> {
    const { keys, name, options } = this;
    return this.run(presence.sayAlive(keys, name, options.deadAfterSeconds, new Date()));
  }

  /** Everything that shows our workers: also after somebody took them off the list. */
  async register(): Promise<void> {
    const now = await this.run(presence.serverTime());
    await this.run(presence.register(this.keys, this.slots.ids, now, this.#startedAt));
  }

  /** The job begins. Whoever looks sees it when the commands of this turn leave; nothing waits for that. */
  begin(occupant: Occupant): void {
    this.slots.enter(occupant);
    this.#show();
  }

  /** The job left its worker without being done: it went elsewhere. */
  leave(occupant: Occupant): string {
    const id = this.slots.leave(occupant);
    this.#show();
    return id;
  }

  /** The job is done and nothing of it is kept. */
  async done(claim: string, worker: string): Promise<void> {
    await this.#send({ claim, worker });
    this.claims.ended(claim);
  }

  async close(): Promise<void> {
    const redis = this.#redis;
    if (redis === undefined) return;
    try {
      const { keys, name, slots } = this;
      // A server that is away has a second; after that others see by our heartbeats that we are gone.
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
      // A counter that is no number is not worth a job: its claim ended with the same commands.
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
