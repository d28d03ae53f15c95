import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Cluster, type ClusterNode, Redis, type RedisOptions as AnyRedisOptions } from 'ioredis';
import type { Command, Exchange } from '../../protocols/redis.ts';
import { ConfigError, ConnectionError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { pause } from '../source.ts';

type RedisOptions = Omit<AnyRedisOptions, 'replyMapping'>;

/** Where Redis is and how to get in. `maskedUrl` is for banners and logs. */
export interface RedisTarget {
  readonly maskedUrl: string;
  readonly db: number;
  readonly options: RedisOptions;
  /** Nodes of a Redis Cluster; then every key must share one hash tag. */
  readonly cluster?: readonly ClusterNode[];
}

export interface RedisTargetOptions {
  /** TLS settings beyond the URL's, as node:tls takes them. */
  readonly tls?: RedisOptions['tls'];
  /** Sentinel: the name of the master. */
  readonly masterName?: string;
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
  readonly username?: string;
  readonly password?: string;
  readonly connectTimeoutMs?: number;
  /** A server that answers nothing for so long is given up, and connected to anew. @default 30 000 */
  readonly socketTimeoutMs?: number;
  /** TCP keep-alive. @default true */
  readonly socketKeepalive?: boolean;
  readonly clientName?: string;
  /** Treat the URL's hosts as nodes of a Redis Cluster. */
  readonly cluster?: boolean;
}

/**
 * Reads `redis://`, `rediss://`, `redis+socket://`, `socket://`, `unix://`, `sentinel://h1;sentinel://h2` as kombu does: user, password and
 * path are percent-decoded, the path is the database. Throws ConfigError naming the URL (masked) and what is wrong with it.
 */
export function redisTarget(url: string, options: RedisTargetOptions = {}): RedisTarget {
  const parts = url.split(/[;,](?=[a-z+]+:\/\/)/i).map((part) => parse(part.trim(), url));
  const first = parts[0] as ParsedUrl;
  const common: RedisOptions = {
    protocol: 2,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    // With null, ioredis forgets a pipeline that was under way when the connection closed: its promise never settles.
    maxRetriesPerRequest: 0,
    connectTimeout: options.connectTimeoutMs ?? 10_000,
    socketTimeout: options.socketTimeoutMs ?? 30_000,
    keepAlive: options.socketKeepalive === false ? 0 : 30_000,
    retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 6), 2_000) * (0.5 + Math.random() / 2),
    // After a failover the connection may be one to a replica: look for the master again.
    reconnectOnError: (error) => error.message.includes('READONLY'),
    ...(options.clientName === undefined ? {} : { connectionName: options.clientName }),
  };
  const username = options.username ?? first.username;
  const password = options.password ?? first.password;
  const auth: RedisOptions = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
  const tls = first.scheme === 'rediss' || options.tls !== undefined ? { tls: { ...first.tls, ...options.tls } } : {};
  const maskedUrl = parts.map((part) => part.masked).join(';');
  const db = first.db;
  if (first.scheme === 'sentinel') {
    const name = options.masterName ?? first.query.get('master_name') ?? undefined;
    if (name === undefined) throw new ConfigError(`redis: ${maskedUrl} names sentinels but no master; pass masterName`);
    const sentinels = parts.map(({ host, port }) => ({ host, port: port ?? 26379 }));
    const secret = options.sentinelPassword === undefined ? {} : { sentinelPassword: options.sentinelPassword };
    const user = options.sentinelUsername === undefined ? {} : { sentinelUsername: options.sentinelUsername };
    // The old master goes on answering until the sentinels have told it, ten seconds later; they tell us at once.
    const follow = { sentinels, name, failoverDetector: true };
    return { maskedUrl, db, options: { ...common, ...auth, ...secret, ...user, ...tls, ...follow, db } };
  }
  if (options.cluster === true) {
    if (db !== 0)
      throw new ConfigError(`redis: ${maskedUrl} names database ${db}; a Redis Cluster has only database 0`);
    return {
      maskedUrl,
      db,
      options: { ...common, ...auth, ...tls },
      cluster: parts.map(({ host, port }) => ({ host, port: port ?? 6379 })),
    };
  }
  if (first.socketPath !== undefined)
    return { maskedUrl, db, options: { ...common, ...auth, path: first.socketPath, db } };
  return { maskedUrl, db, options: { ...common, ...auth, ...tls, host: first.host, port: first.port ?? 6379, db } };
}

interface ParsedUrl {
  readonly scheme: string;
  readonly host: string;
  readonly port: number | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly socketPath: string | undefined;
  readonly tls: NonNullable<RedisOptions['tls']>;
  readonly query: URLSearchParams;
  readonly masked: string;
}

const SOCKETS = new Set(['redis+socket', 'socket', 'unix']);
const SCHEMES = new Set(['redis', 'rediss', 'sentinel', ...SOCKETS]);

function parse(part: string, whole: string): ParsedUrl {
  const masked = maskedUrl(part);
  const match = /^([a-z][a-z0-9+]*):\/\/(.*)$/i.exec(part);
  const scheme = match?.[1]?.toLowerCase() ?? '';
  if (match === null || !SCHEMES.has(scheme)) {
    throw new ConfigError(
      `redis: '${masked}' is no Redis URL; expected redis://[user:password@]host[:6379][/db], rediss://, redis+socket:///path or sentinel://`,
    );
  }
  const [address = '', search = ''] = splitOnce(match[2] as string, '?');
  const query = new URLSearchParams(search);
  const at = endOfUser(scheme, address);
  const [rawUser, rawPassword] = at < 0 ? [] : splitOnce(address.slice(0, at), ':');
  const rest = address.slice(at + 1);
  const credentials = {
    username: rawUser === undefined || rawUser === '' ? undefined : unquote(rawUser),
    password: rawPassword === undefined || rawPassword === '' ? undefined : unquote(rawPassword),
  };
  const fixed = { scheme, query, masked, tls: tlsOptions(query, masked), ...credentials };
  if (SOCKETS.has(scheme)) {
    return {
      ...fixed,
      host: '',
      port: undefined,
      db: database(query.get('virtual_host') ?? query.get('db') ?? '', masked),
      socketPath: unquote(rest),
    };
  }
  const slash = rest.indexOf('/');
  const hostPort = slash < 0 ? rest : rest.slice(0, slash);
  const path = slash < 0 ? '' : unquote(rest.slice(slash + 1));
  const host = /^(\[[^\]]+\]|[^:]*)(?::(\d+))?$/.exec(hostPort);
  if (host === null)
    throw new ConfigError(
      `redis: '${masked}': '${hostPort}' is no host[:port]${whole === part ? '' : ' (of several URLs)'}`,
    );
  const name = (host[1] ?? '').replace(/^\[|\]$/g, '');
  return {
    ...fixed,
    host: name === '' ? '127.0.0.1' : name,
    port: host[2] === undefined ? undefined : Number(host[2]),
    db: database(query.get('virtual_host') ?? query.get('db') ?? path, masked),
    socketPath: undefined,
  };
}

/** Where user and password end: at the last `@`, as people write passwords. In a path of a socket it is part of the path. */
function endOfUser(scheme: string, address: string): number {
  const path = SOCKETS.has(scheme) ? address.indexOf('/') : -1;
  return path < 0 ? address.lastIndexOf('@') : address.lastIndexOf('@', path);
}

function maskedUrl(part: string): string {
  const [, scheme = '', address = '', query = ''] = /^([^:]*):\/\/([^?]*)(.*)$/s.exec(part) ?? [];
  const at = endOfUser(scheme.toLowerCase(), address);
  if (at < 0) return part;
  const [user, password] = splitOnce(address.slice(0, at), ':');
  return `${scheme}://${password === undefined ? '**' : `${user}:**`}${address.slice(at)}${query}`;
}

/** Percent-decoded as Python does it: what is no escape stays. */
function unquote(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escapes) => {
    try {
      return decodeURIComponent(escapes);
    } catch {
      return escapes;
    }
  });
}

function database(text: string, masked: string): number {
  if (text === '' || text === '/') return 0;
  if (!/^\/?\d+$/.test(text)) throw new ConfigError(`redis: '${masked}': the database must be a number, not '${text}'`);
  return Number(text.replace('/', ''));
}

/** `ssl_*` of the query, with Python's names: ssl_cert_reqs none|optional|required, ssl_ca_certs, ssl_certfile, ssl_keyfile. */
function tlsOptions(query: URLSearchParams, masked: string): NonNullable<RedisOptions['tls']> {
  const file = (name: string): Buffer | undefined => {
    const path = query.get(name);
    if (path === null) return undefined;
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new ConfigError(`redis: '${masked}': ${name} cannot be read: ${path}`, { cause });
    }
  };
  const ca = file('ssl_ca_certs');
  const cert = file('ssl_certfile');
  const key = file('ssl_keyfile');
  const needs = (query.get('ssl_cert_reqs') ?? 'required').toLowerCase().replace('cert_', '');
  if (!['required', 'optional', 'none'].includes(needs)) {
    throw new ConfigError(`redis: '${masked}': ssl_cert_reqs must be required, optional or none, not '${needs}'`);
  }
  const check = (query.get('ssl_check_hostname') ?? 'true').toLowerCase() !== 'false';
  return {
    // For a client, Python's CERT_OPTIONAL means CERT_REQUIRED.
    rejectUnauthorized: needs !== 'none',
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(check ? {} : { checkServerIdentity: () => undefined }),
  };
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

/** What leaves together: builders in the order they joined, each adding its commands. */
interface Turn {
  readonly builders: ((commands: Command[]) => void)[];
  readonly done: Promise<readonly unknown[]>;
}

/**
 * One connection. Commands of the same turn of the event loop leave in one pipeline; scripts go by their hash once the server
 * knows them. While the connection is away, commands wait for it up to `patienceMs` and then fail with ConnectionError.
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
      // ioredis would go on in database 0, which is somebody else's.
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
    // ioredis goes on trying; whoever asked gave up, so must it.
    this.#redis.disconnect();
    // It says "Connection is closed", whatever it was that closed it.
    cause = this.#failure ?? cause;
    const why = cause instanceof Error ? describe(cause) : `no answer within ${limitMs} ms`;
    throw new ConnectionError(`redis: cannot connect to ${maskedUrl}: ${why}`, { cause });
  }

  /** One round trip. Not atomic: it joins what else is sent this turn. Atomic: MULTI, alone in its pipeline. */
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
   * Many small writes of one kind as few commands: what is added during a turn of the event loop is handed to `build`
   * together, when the turn's pipeline leaves. All of them share one promise.
   */
  fold<Item>(build: (items: readonly Item[]) => Exchange<void>): (item: Item) => Promise<void> {
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

  /** The text of SUBSCRIBE, for a connection used for nothing else. */
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
    // What waits for a connection that is away ends now; what can still be written has a second.
    this.#closing.abort();
    if (this.#turn !== undefined) await within(1_000, this.#turn.done);
    if (this.ready) await within(1_000, this.#redis.quit());
    this.#redis.disconnect();
  }

  /** The exchange is built when the turn's pipeline leaves, so that it can gather what comes until then. */
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
        // What is built late gathers late: folds grow while the connection is away.
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
    // The server lost its scripts (a restart, SCRIPT FLUSH): say them again in full.
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

  async #untilReady(): Promise<void> {
    if (this.ready) return;
    const closed = this.#closing.signal;
    if (!closed.aborted) {
      if (this.#redis.status === 'wait') void this.#redis.connect().catch(() => undefined);
      const up = new AbortController();
      const heard = (): void => up.abort();
      this.#redis.once('ready', heard);
      await pause(this.#patienceMs, AbortSignal.any([up.signal, closed]));
      this.#redis.off('ready', heard);
      if (up.signal.aborted) return;
    }
    if (closed.aborted) throw new ConnectionError(`redis: the connection to ${this.target.maskedUrl} is closed`);
    throw new ConnectionError(`redis: ${this.target.maskedUrl} does not answer (waited ${this.#patienceMs} ms)`);
  }
}

/**
 * Tells when any of the lists that a claim found empty gets a message, without popping it: Redis remembers which keys a
 * connection read (CLIENT TRACKING) and tells a second connection when one changes. A pop that blocks would lose its message
 * with the connection it was on the way to.
 */
export class PushWatch {
  readonly #subscriber: RedisConnection;
  readonly #commands: RedisConnection;
  readonly #log: Logger;
  #wake: (() => void) | undefined;
  #seen = 0;
  #tracking = false;
  #refused = false;

  constructor(commands: RedisConnection, log: Logger) {
    this.#commands = commands;
    this.#log = log;
    this.#subscriber = new RedisConnection(commands.target, { log });
    this.#subscriber.onMessage(() => this.#changed());
    const again = (): void => {
      this.#tracking = false;
      void this.#track().catch(() => undefined);
    };
    this.#subscriber.onReady(again);
    commands.onReady(again);
    this.#subscriber.onClose(() => (this.#tracking = false));
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

  async close(): Promise<void> {
    await this.#subscriber.close();
  }

  #changed(): void {
    this.#seen++;
    this.#wake?.();
  }

  async #track(): Promise<void> {
    if (!this.#subscriber.ready || !this.#commands.ready) return;
    try {
      const id = await this.#subscriber.run<number>({
        commands: [['CLIENT', 'ID']],
        atomic: false,
        read: ([reply]) => reply as number,
      });
      await this.#subscriber.subscribe('__redis__:invalidate');
      await this.#commands.run<void>({
        commands: [['CLIENT', 'TRACKING', 'ON', 'REDIRECT', id]],
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
    this.#changed();
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

const shas = new Map<string, string>();

function shaOf(lua: string): string {
  let sha = shas.get(lua);
  if (sha === undefined) shas.set(lua, (sha = createHash('sha1').update(lua).digest('hex')));
  return sha;
}

/** What the server itself refused is the caller's to handle; anything else is a connection that was lost or is not ready. */
function refused(error: Error, target: RedisTarget): Error {
  const own = error.name === 'ReplyError' && !/^(?:LOADING|READONLY|MASTERDOWN|CLUSTERDOWN)/.test(error.message);
  return own ? error : new ConnectionError(`redis: ${target.maskedUrl}: ${error.message}`, { cause: error });
}

/** An AggregateError, as of a name with several addresses, has no message of its own. */
function describe(error: Error): string {
  if (error.message !== '') return error.message;
  return error instanceof AggregateError ? error.errors.map((one: Error) => one.message).join(', ') : error.name;
}

/** Resolves when `work` has ended, whatever came of it, or after `ms`. */
function within(ms: number, work: Promise<unknown>): Promise<unknown> {
  const limit = new AbortController();
  const ended = work.catch(() => undefined).finally(() => limit.abort());
  return Promise.race([ended, pause(ms, limit.signal)]);
}

/** A unique name for this process's claims. */
export function claimant(): string {
  return randomBytes(9).toString('base64url');
}
