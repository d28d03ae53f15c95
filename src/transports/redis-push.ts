import type { Exchange } from '../../protocols/redis.ts';
import type { Logger } from '../log.ts';
import { RedisConnection } from './redis.ts';
import type { RedisTarget } from './redis-url.ts';

/** The keys that changed; undefined: any may have. */
export type ChangedKeys = readonly string[] | undefined;

/**
 * Tells when any of the lists that a claim found empty gets a message, without popping it: Redis remembers which keys a
 * connection read (CLIENT TRACKING) and tells a second connection when one changes. A pop that blocks would lose its message
 * with the connection it was on the way to. Whoever waits for more than lists is told which keys they were (`onKeys`); a key is
 * told of once, until it is read again.
 */
export class PushWatch {
  readonly #subscriber: RedisConnection;
  readonly #commands: RedisConnection;
  readonly #log: Logger;
  readonly #onKeys: ((changed: ChangedKeys) => void) | undefined;
  #wake: (() => void) | undefined;
  /** The id of the subscriber's connection, which takes no other command once it listens. */
  #listening: Promise<number> | undefined;
  #seen = 0;
  #tracking = false;
  #refused = false;

  readonly #optIn: boolean;

  /** `optIn`: only what `tracked` reads is tracked. @default whatever the connection reads is */
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
      // Null: the server has forgotten all it was to tell of.
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
  /** Take this before a claim, and hand it to `next`: a push in between is not missed. */
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

  /** As if there had been a push: a list that no claim has looked at yet is not tracked. */
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
    // A cluster has connections to several servers, and which of them reads a key is not ours to say: then the caller polls.
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
    // Whatever was tracked before is forgotten: look again.
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
 * A connection that waits at one list. It sends BLMOVE of the list onto itself, which moves nothing and answers when there is a
 * message, and right behind it what the caller wants done then; the server does that in the same breath, so that a claim
 * comes back in the one trip a blocking pop would take, without taking a message that nobody holds yet.
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

  /** Its id for CLIENT UNBLOCK, from another connection. */
  get id(): number | undefined {
    return this.#connection.ready ? this.#id : undefined;
  }

  /** After a push, or after `seconds` at most: the answer to `exchange`. */
  wait<Reply>(seconds: number, exchange: Exchange<Reply>): Promise<Reply> {
    return this.#connection.run({
      commands: [['BLMOVE', this.list, this.list, 'RIGHT', 'RIGHT', seconds], ...exchange.commands],
      atomic: false,
      read: (replies) => exchange.read(replies.slice(1)),
    });
  }

  async open(): Promise<void> {
    await this.#connection.connect();
    // A user who may not call CLIENT waits all the same; the wait then ends by its own limit.
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
