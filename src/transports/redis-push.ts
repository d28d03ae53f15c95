import type { Exchange } from '../../protocols/redis.ts';
import type { Logger } from '../log.ts';
import { RedisConnection } from './redis.ts';
import type { RedisTarget } from './redis-url.ts';

/** The keys that changed; undefined when any key may have changed. */
export type ChangedKeys = readonly string[] | undefined;

/**
 * Reports when one of the lists that a claim found empty gets a message, without popping the message. Redis remembers which keys a connection read
 * (CLIENT TRACKING) and notifies a second connection when one of them changes. A blocking pop would lose its message if the connection ended before
 * the reply arrived. A caller that waits for more than lists gets the names of the keys (`onKeys`). A key is reported once, until it is read again.
 */
export class PushWatch {
  readonly #subscriber: RedisConnection;
  readonly #commands: RedisConnection;
  readonly #log: Logger;
  readonly #onKeys: ((changed: ChangedKeys) => void) | undefined;
  #wake: (() => void) | undefined;
  /** The id of the subscriber's connection. That connection accepts no other command once it is subscribed. */
  #listening: Promise<number> | undefined;
  #seen = 0;
  #tracking = false;
  #refused = false;

  readonly #optIn: boolean;

  /** `optIn`: only keys that `tracked` reads are tracked. @default all keys that the connection reads */
  constructor(
    commands: RedisConnection,
    log: Logger,
    options: { readonly optIn?: boolean; readonly onKeys?: (changed: ChangedKeys) => void } = {},
  ) {
    this.#commands = commands;
    this.#log = log;
    this.#optIn = options.optIn ?? false;
    this.#onKeys = options.onKeys;
    const { target } = commands;
    this.#subscriber = new RedisConnection(
      { ...target, options: { ...target.options, autoResubscribe: false } },
      { log },
    );
    this.#subscriber.onMessage((_, keys) => {
      // Null: the server has dropped all its tracked keys.
      this.#onKeys?.(Array.isArray(keys) ? keys.map(String) : undefined);
      this.#changed();
    });
    const again = (): void => {
      this.#tracking = false;
      void this.#track().catch(() => undefined);
    };
    this.#subscriber.onReady(again);
    commands.onReady(again);
    this.#subscriber.onClose(() => {
      this.#tracking = false;
      this.#listening = undefined;
    });
    commands.onClose(() => (this.#tracking = false));
  }

  /** False where the server does not track keys: then the caller must poll. */
  get active(): boolean {
    return this.#tracking;
  }
  /** Read this before a claim, and pass it to `next`: then a push in between is not missed. */
  get seen(): number {
    return this.#seen;
  }

  async open(): Promise<void> {
    await this.#subscriber.connect();
    await this.#track();
  }

  /** Resolves at the next push after `seen`, after `ms`, or when `signal` aborts. */
  async next(seen: number, ms: number, signal: AbortSignal): Promise<void> {
    if (this.#seen !== seen || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        if (this.#wake === done) this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done, { once: true });
      this.#wake = done;
    });
  }

  /** One command whose keys are tracked from now on, on the connection for commands. The server refuses it unless `active`. */
  tracked<Reply>(exchange: Exchange<Reply>): Exchange<Reply> {
    return {
      commands: [['CLIENT', 'CACHING', 'YES'], ...exchange.commands],
      atomic: false,
      read: (replies) => exchange.read(replies.slice(1)),
    };
  }

  /** Acts as if there had been a push: a list that no claim has read yet is not tracked. */
  poke(): void {
    this.#changed();
  }

  async close(): Promise<void> {
    await this.#subscriber.close();
  }

  #changed(): void {
    this.#seen++;
    this.#wake?.();
  }

  async #track(): Promise<void> {
    // A cluster has connections to several servers, and the client does not choose which of them reads a key. Then the caller polls.
    if (this.#commands.target.cluster !== undefined) return;
    if (!this.#subscriber.ready || !this.#commands.ready) return;
    try {
      const id = await (this.#listening ??= this.#listen());
      await this.#commands.run<void>({
        commands: [['CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, ...(this.#optIn ? ['OPTIN'] : [])]],
        atomic: false,
        read: () => undefined,
      });
      this.#tracking = true;
    } catch (error) {
      this.#tracking = false;
      if (this.#subscriber.ready && !this.#refused) {
        this.#refused = true;
        this.#log.warn({ error }, 'this Redis does not track keys (CLIENT TRACKING); polling instead');
      }
    }
    // All keys that were tracked before are dropped: any of them may have changed.
    this.#onKeys?.(undefined);
    this.#changed();
  }

  async #listen(): Promise<number> {
    const id = await this.#subscriber.run<number>({
      commands: [['CLIENT', 'ID']],
      atomic: false,
      read: ([reply]) => reply as number,
    });
    await this.#subscriber.subscribe('__redis__:invalidate');
    return id;
  }
}

/**
 * A connection that waits at one list. It sends BLMOVE of the list onto itself. A move from the right end to the right end changes nothing, and it
 * answers when there is a message. The caller's exchange is sent right behind it, and the server runs both in the same step. So a claim takes the
 * single round trip of a blocking pop, and never takes a message without claiming it.
 */
export class ListWaiter {
  readonly list: string;
  readonly #connection: RedisConnection;
  #id: number | undefined;

  constructor(list: string, target: RedisTarget, log: Logger) {
    this.list = list;
    this.#connection = new RedisConnection(target, { log });
    this.#connection.onReady(() => void this.#learnId().catch(() => undefined));
  }

  /** The id of this connection, for CLIENT UNBLOCK from another connection. */
  get id(): number | undefined {
    return this.#connection.ready ? this.#id : undefined;
  }

  /** Resolves with the answer to `exchange`, after a push or after `seconds` at most. */
  wait<Reply>(seconds: number, exchange: Exchange<Reply>): Promise<Reply> {
    return this.#connection.run({
      commands: [['BLMOVE', this.list, this.list, 'RIGHT', 'RIGHT', seconds], ...exchange.commands],
      atomic: false,
      read: (replies) => exchange.read(replies.slice(1)),
    });
  }

  async open(): Promise<void> {
    await this.#connection.connect();
    // A user who may not call CLIENT can wait, too; the wait then ends by its own time limit.
    await this.#learnId().catch(() => undefined);
  }
  close(): Promise<void> {
    return this.#connection.close();
  }

  async #learnId(): Promise<void> {
    this.#id = undefined;
    this.#id = await this.#connection.run({
      commands: [['CLIENT', 'ID']],
      atomic: false,
      read: ([reply]) => reply as number,
    });
  }
}
