import { createHash, randomBytes } from 'node:crypto';
import { Cluster, Redis } from 'ioredis';
import type { Command, Exchange } from '../../protocols/redis.ts';
import { ConnectionError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { pause } from '../source.ts';
import type { RedisTarget } from './redis-url.ts';

/** Commands that are sent together: builders in the order they joined, each adding its commands. */
interface Turn {
  readonly builders: ((commands: Command[]) => void)[];
  readonly done: Promise<readonly unknown[]>;
}

/**
 * One connection. Commands of the same turn of the event loop are sent in one pipeline. Scripts are sent by their hash once the server knows them.
 * While the connection is away, commands wait for it up to `patienceMs` and then fail with ConnectionError.
 */
export class RedisConnection {
  readonly target: RedisTarget;
  readonly #redis: Redis | Cluster;
  readonly #known = new Set<string>();
  readonly #patienceMs: number;
  readonly #closing = new AbortController();
  #turn: Turn | undefined;
  #failure: Error | undefined;

  constructor(target: RedisTarget, options: { readonly log?: Logger; readonly patienceMs?: number } = {}) {
    this.target = target;
    this.#patienceMs = options.patienceMs ?? 5_000;
    this.#redis =
      target.cluster === undefined
        ? new Redis(target.options)
        : new Cluster([...target.cluster], {
            lazyConnect: true,
            enableOfflineQueue: false,
            redisOptions: target.options,
          });
    let down = false;
    this.#redis.on('error', (error: Error & { readonly command?: { readonly name?: string } }) => {
      this.#failure ??= error;
      // Otherwise ioredis would continue in database 0, which may belong to another application.
      if (error.command?.name === 'select') this.#redis.disconnect(true);
      if (!down) options.log?.warn({ broker: target.maskedUrl, error }, 'the connection to Redis failed; reconnecting');
      down = true;
    });
    this.#redis.on('ready', () => {
      this.#known.clear();
      this.#failure = undefined;
      if (down) options.log?.info({ broker: target.maskedUrl }, 'connected to Redis again');
      down = false;
    });
  }

  get ready(): boolean {
    return this.#redis.status === 'ready';
  }

  /**
   * Resolves when commands can be sent. Rejects with ConnectionError when the connection stays away, as `run` would, and at once when `signal`
   * aborts. Call it before a claim, so that a worker that stops need not wait for a claim that was never sent.
   */
  whenReady(signal: AbortSignal): Promise<void> | undefined {
    return this.ready ? undefined : this.#untilReady(signal);
  }

  /** Called each time the connection is ready to take commands. */
  onReady(listener: () => void): void {
    this.#redis.on('ready', listener);
  }
  onClose(listener: () => void): void {
    this.#redis.on('close', listener);
  }

  /** Rejects with ConnectionError, naming the cause, when the first attempt fails or takes longer than `connectTimeoutMs`. */
  async connect(): Promise<void> {
    if (this.ready) return;
    const { maskedUrl, options } = this.target;
    const limitMs = options.connectTimeout ?? 10_000;
    const first = this.#redis.status === 'wait' ? this.#redis.connect() : this.#untilReady();
    let cause: unknown;
    await within(
      limitMs,
      first.catch((error: unknown) => (cause = error)),
    );
    if (this.ready) return;
    // ioredis would continue to try. The caller gave up, so ioredis must stop, too.
    this.#redis.disconnect();
    // The message of ioredis is "Connection is closed", whatever the cause was.
    cause = this.#failure ?? cause;
    const why = cause instanceof Error ? describe(cause) : `no answer within ${limitMs} ms`;
    throw new ConnectionError(`redis: cannot connect to ${maskedUrl}: ${why}`, { cause });
  }

  /** One round trip. Not atomic: it joins the other commands of this turn. Atomic: a MULTI, alone in its pipeline. */
  async run<Reply>(exchange: Exchange<Reply>): Promise<Reply> {
    if (exchange.commands.length === 0) return exchange.read([]);
    if (!exchange.atomic) return this.#join(() => exchange);
    await this.#untilReady();
    const multi = this.#redis.multi();
    for (const command of exchange.commands) multi.callBuffer(command[0], ...(command.slice(1) as Buffer[]));
    const replies = await this.#exec(multi);
    return exchange.read(
      replies.map(([error, reply]) => {
        if (error !== null) throw refused(error, this.target);
        return reply;
      }),
    );
  }

  /**
   * Combines many small writes of one kind into few commands. All items added during a turn of the event loop are passed to `build` together, when
   * the turn's pipeline is sent. They share one promise.
   */
  batchPerTick<Item>(build: (items: readonly Item[]) => Exchange<void>): (item: Item) => Promise<void> {
    let items: Item[] = [];
    let sent: Promise<void> | undefined;
    return (item) => {
      items.push(item);
      return (sent ??= this.#join(() => {
        const all = items;
        items = [];
        sent = undefined;
        return build(all);
      }));
    };
  }

  /** Subscribes to these channels. The connection must be used for nothing else. */
  async subscribe(...channels: readonly string[]): Promise<void> {
    await this.#untilReady();
    await this.#redis.subscribe(...channels);
  }
  async unsubscribe(...channels: readonly string[]): Promise<void> {
    if (this.ready) await this.#redis.unsubscribe(...channels);
  }
  async psubscribe(...patterns: readonly string[]): Promise<void> {
    await this.#untilReady();
    await this.#redis.psubscribe(...patterns);
  }
  async punsubscribe(...patterns: readonly string[]): Promise<void> {
    if (this.ready) await this.#redis.punsubscribe(...patterns);
  }
  onMessage(listener: (channel: string, message: unknown) => void): void {
    this.#redis.on('messageBuffer', (channel: Buffer, message: unknown) => listener(String(channel), message));
  }
  onPatternMessage(listener: (pattern: string, channel: string, message: Buffer) => void): void {
    this.#redis.on('pmessageBuffer', (pattern: string, channel: Buffer, message: Buffer) =>
      listener(String(pattern), String(channel), message),
    );
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    // Commands that wait for a lost connection fail now. Commands that can still be written have a second.
    this.#closing.abort();
    if (this.#turn !== undefined) await within(1_000, this.#turn.done);
    if (this.ready) await within(1_000, this.#redis.quit());
    this.#redis.disconnect();
  }

  /** Builds the exchange when the turn's pipeline is sent, so that it can include all items that come until then. */
  async #join<Reply>(build: () => Exchange<Reply>): Promise<Reply> {
    let exchange: Exchange<Reply> | undefined;
    let from = 0;
    const turn = (this.#turn ??= this.#newTurn());
    turn.builders.push((commands) => {
      exchange = build();
      from = commands.length;
      for (const command of exchange.commands) commands.push(command);
    });
    const replies = await turn.done;
    const { commands, read } = exchange as unknown as Exchange<Reply>;
    const own = replies.slice(from, from + commands.length);
    for (const reply of own) if (reply instanceof Error) throw refused(reply, this.target);
    return read(own);
  }

  #newTurn(): Turn {
    const builders: Turn['builders'] = [];
    const done = new Promise<void>((resolve) => setImmediate(resolve)).then(async () => {
      if (!this.ready) {
        // The exchanges are built only when the connection is back, so batches grow while it is away.
        await this.#untilReady().catch((error: unknown) => {
          this.#turn = undefined;
          for (const build of builders) build([]);
          throw error;
        });
      }
      this.#turn = undefined;
      const commands: Command[] = [];
      for (const build of builders) build(commands);
      return this.#send(commands);
    });
    return { builders, done };
  }

  async #send(commands: readonly Command[]): Promise<readonly unknown[]> {
    if (commands.length === 0) return [];
    const pipeline = this.#redis.pipeline();
    for (const command of commands) pipeline.callBuffer(...this.#wire(command));
    const replies = await this.#exec(pipeline);
    let lost: number[] | undefined;
    const answers = replies.map(([error, reply], at) => {
      if (error?.message.startsWith('NOSCRIPT') === true) (lost ??= []).push(at);
      return error ?? reply;
    });
    if (lost === undefined) return answers;
    // The server lost its scripts (a restart, SCRIPT FLUSH): send them again in full.
    this.#known.clear();
    const again = this.#redis.pipeline();
    for (const at of lost) again.callBuffer(...(commands[at] as unknown as [string, ...Buffer[]]));
    const repeated = await this.#exec(again);
    lost.forEach((at, index) => {
      const [error, reply] = repeated[index] ?? [new Error('no reply')];
      answers[at] = error ?? reply;
    });
    return answers;
  }

  #wire(command: Command): [string, ...Buffer[]] {
    if (command[0] !== 'EVAL') return command as unknown as [string, ...Buffer[]];
    const lua = command[1] as string;
    const sha = shaOf(lua);
    if (this.#known.has(sha)) return ['EVALSHA', sha, ...command.slice(2)] as unknown as [string, ...Buffer[]];
    this.#known.add(sha);
    return command as unknown as [string, ...Buffer[]];
  }

  async #exec(pipeline: { exec(): Promise<[Error | null, unknown][] | null> }): Promise<[Error | null, unknown][]> {
    try {
      return (await pipeline.exec()) ?? [];
    } catch (cause) {
      throw new ConnectionError(`redis: lost ${this.target.maskedUrl} in mid command: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  async #untilReady(signal?: AbortSignal): Promise<void> {
    if (this.ready) return;
    const closed = this.#closing.signal;
    if (!closed.aborted) {
      if (this.#redis.status === 'wait') void this.#redis.connect().catch(() => undefined);
      const up = new AbortController();
      const heard = (): void => up.abort();
      this.#redis.once('ready', heard);
      const ends = signal === undefined ? [up.signal, closed] : [up.signal, closed, signal];
      await pause(this.#patienceMs, AbortSignal.any(ends));
      this.#redis.off('ready', heard);
      if (up.signal.aborted) return;
    }
    if (signal?.aborted === true)
      throw new ConnectionError(`redis: ${this.target.maskedUrl} is away, and no longer waited for`);
    if (closed.aborted) throw new ConnectionError(`redis: the connection to ${this.target.maskedUrl} is closed`);
    throw new ConnectionError(`redis: ${this.target.maskedUrl} does not answer (waited ${this.#patienceMs} ms)`);
  }
}

const shas = new Map<string, string>();

function shaOf(lua: string): string {
  let sha = shas.get(lua);
  if (sha === undefined) shas.set(lua, (sha = createHash('sha1').update(lua).digest('hex')));
  return sha;
}

/** The caller handles an error that the server sent. Any other error means that the connection was lost or is not ready. */
function refused(error: Error, target: RedisTarget): Error {
  const own = error.name === 'ReplyError' && !/^(?:LOADING|READONLY|MASTERDOWN|CLUSTERDOWN)/.test(error.message);
  return own ? error : new ConnectionError(`redis: ${target.maskedUrl}: ${error.message}`, { cause: error });
}

/** The text of an error. An AggregateError, such as for a host name with several addresses, has no message of its own. */
function describe(error: Error): string {
  if (error.message !== '') return error.message;
  return error instanceof AggregateError ? error.errors.map((one: Error) => one.message).join(', ') : error.name;
}

/** Resolves when `work` has resolved or rejected, or after `ms`. */
function within(ms: number, work: Promise<unknown>): Promise<unknown> {
  const limit = new AbortController();
  const ended = work.catch(() => undefined).finally(() => limit.abort());
  return Promise.race([ended, pause(ms, limit.signal)]);
}

/** A unique name for this process's claims. */
export function claimant(): string {
  return randomBytes(9).toString('base64url');
}
