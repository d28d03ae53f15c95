import { type Channel, type ChannelModel, connect, type ConfirmChannel } from 'amqplib';
import type { AmqpMessage, Declaration } from '../../protocols/amqp.ts';
import { backoff } from '../backoff.ts';
import { ConfigError, ConnectionError } from '../errors.ts';
import { type Logger, silent } from '../log.ts';
import { pause } from '../source.ts';
import { type FrameConnection, isFrameConnection, keepHeaderTables } from './amqp-frames.ts';
import type { AmqpNode, AmqpTarget } from './amqp-url.ts';

export type { AmqpMessage, Channel, ConfirmChannel };

/** A connection while it lives. */
export interface AmqpLink {
  readonly model: ChannelModel;
  readonly frames: FrameConnection;
  /** Higher with each connection made: whatever belongs to an earlier connection is gone. */
  readonly generation: number;
}

/**
 * One connection to RabbitMQ that reconnects by itself, trying the nodes of the list in turn. The only file that imports amqplib. Channels and
 * consumers end with a connection; the listeners of `onUp` make them again.
 */
export class AmqpConnection {
  readonly target: AmqpTarget;
  readonly #log: Logger;
  readonly #patienceMs: number;
  readonly #closing = new AbortController();
  readonly #up = new Set<(link: AmqpLink) => void>();
  readonly #down = new Set<(error: unknown) => void>();
  readonly #blocks = new Set<() => void>();
  #link: AmqpLink | undefined;
  #connecting: Promise<AmqpLink> | undefined;
  readonly #waiting = new Set<(link: AmqpLink | undefined) => void>();
  #generation = 0;
  #node = 0;
  #failure: unknown;
  #blocked: string | undefined;

  constructor(target: AmqpTarget, options: { readonly log?: Logger; readonly patienceMs?: number } = {}) {
    this.target = target;
    this.#log = options.log ?? silent;
    this.#patienceMs = options.patienceMs ?? 5_000;
  }

  get ready(): boolean {
    return this.#link !== undefined;
  }
  get link(): AmqpLink | undefined {
    return this.#link;
  }
  /** Why the broker accepts no publications for now: its memory or disk is short. */
  get blocked(): string | undefined {
    return this.#blocked;
  }

  /** Why there is no connection, or why there was none the last time that one failed. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Called with each connection made, from the next one on. */
  onUp(listener: (link: AmqpLink) => void): void {
    this.#up.add(listener);
  }
  onDown(listener: (error: unknown) => void): void {
    this.#down.add(listener);
  }
  /** Called when `blocked` begins, and when it ends while the connection lives. */
  onBlocked(listener: () => void): void {
    this.#blocks.add(listener);
  }

  /** Tries every node once. Rejects with ConnectionError naming the cause; ConfigError where the broker refuses user or virtual host. */
  async connect(): Promise<void> {
    if (this.#link !== undefined) return;
    const { nodes, maskedUrl } = this.target;
    let cause: unknown;
    for (let tries = 0; tries < nodes.length && !this.#closing.signal.aborted; tries++) {
      try {
        await (this.#connecting ??= this.#connectOnce());
        return;
      } catch (error) {
        cause = error;
      }
    }
    if (cause instanceof ConfigError) throw cause;
    throw new ConnectionError(`amqp: cannot connect to ${maskedUrl}: ${describe(cause)}`, { cause });
  }

  /** The connection. Waits for it up to `patienceMs`; then rejects with ConnectionError. */
  async linked(): Promise<AmqpLink> {
    if (this.#link !== undefined) return this.#link;
    if (!this.#closing.signal.aborted) {
      let resolve: (link: AmqpLink | undefined) => void = () => {};
      const next = new Promise<AmqpLink | undefined>((done) => (resolve = done));
      const limit = setTimeout(() => resolve(undefined), this.#patienceMs);
      this.#waiting.add(resolve);
      const link = await next;
      clearTimeout(limit);
      this.#waiting.delete(resolve);
      if (link !== undefined) return link;
    }
    if (this.#closing.signal.aborted)
      throw new ConnectionError(`amqp: the connection to ${this.target.maskedUrl} was closed here`);
    throw new ConnectionError(
      `amqp: no connection to ${this.target.maskedUrl} for ${this.#patienceMs} ms: ${describe(this.#failure)}`,
      { cause: this.#failure },
    );
  }

  /**
   * Declares on a channel of its own, so that a refusal ends nothing else. Throws ConfigError when the broker has the queue or exchange with other
   * properties (406), does not have it (404) or forbids it (403). Throws ConnectionError when the connection ends.
   */
  async declare(declarations: readonly Declaration[]): Promise<void> {
    if (declarations.length === 0) return;
    const { model } = await this.linked();
    let channel: Channel;
    try {
      channel = await model.createChannel();
    } catch (cause) {
      throw new ConnectionError(`amqp: cannot open a channel: ${describe(cause)}`, { cause });
    }
    // The call that failed reports the reason.
    channel.on('error', () => undefined);
    for (const declaration of declarations) {
      try {
        await declare(channel, declaration);
      } catch (cause) {
        throw refused(declaration, cause);
      }
    }
    await channel.close().catch(() => undefined);
  }

  /** Asks the server for an answer, and cuts the connection when there is none within `timeoutMs`. A dead connection may look alive for long. */
  async verify(timeoutMs: number, ask: (link: AmqpLink) => Promise<void> = askForChannel): Promise<void> {
    const link = this.#link;
    if (link === undefined) return;
    const limit = new AbortController();
    const silence = pause(timeoutMs, limit.signal)
      // A process that was busy for long must read its socket before it judges the connection.
      .then(() => new Promise((resolve) => setImmediate(() => setImmediate(resolve))))
      .then(() => 'silent');
    const answer = ask(link).then(
      () => 'alive',
      () => 'ended',
    );
    const heard = await Promise.race([answer, silence]);
    limit.abort();
    if (heard === 'silent') this.recycle(link, `no answer for ${timeoutMs} ms`);
  }

  /** Cuts this connection if it is still the current one, so that a new one is made. */
  recycle(link: AmqpLink, reason: string): void {
    if (this.#link !== link) return;
    const error = new ConnectionError(`amqp: ${reason}`);
    this.#lost(link, error);
    // With an error, amqplib notices the end and rejects all calls that wait for an answer.
    socketOf(link.model)?.destroy(error);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const connecting = this.#connecting;
    await connecting?.catch(() => undefined);
    const link = this.#link;
    this.#link = undefined;
    for (const resolve of this.#waiting) resolve(undefined);
    if (link === undefined) return;
    // A broker that does not answer is not waited for.
    await atMost(1_000, link.model.close());
    socketOf(link.model)?.destroy();
  }

  async #connectOnce(): Promise<AmqpLink> {
    const node = this.target.nodes[this.#node++ % this.target.nodes.length] as AmqpNode;
    try {
      const model = await open(node, this.target);
      if (this.#closing.signal.aborted) {
        model.on('error', () => undefined);
        await atMost(1_000, model.close());
        socketOf(model)?.destroy();
        throw new ConnectionError('amqp: closed while connecting');
      }
      return this.#linkUp(model, node);
    } catch (error) {
      this.#failure = error;
      throw error;
    } finally {
      this.#connecting = undefined;
    }
  }

  #linkUp(model: ChannelModel, node: AmqpNode): AmqpLink {
    const frames: unknown = model.connection;
    if (!isFrameConnection(frames)) {
      throw new ConfigError('amqp: this version of amqplib is laid out in another way; jobglot needs amqplib ~2.3');
    }
    keepHeaderTables(frames);
    const link: AmqpLink = { model, frames, generation: ++this.#generation };
    let reason: unknown;
    model.on('error', (error: unknown) => (reason = error));
    model.on('close', (error?: unknown) => {
      // A peer that is gone never receives the close frame that amqplib waits to send.
      setTimeout(() => socketOf(model)?.destroy(), 1_000).unref();
      this.#lost(link, reason ?? error);
    });
    model.on('blocked', (why: string) => {
      this.#blocked = why === '' ? 'no reason given' : why;
      this.#log.warn({ broker: node.maskedUrl, why }, 'RabbitMQ takes no publications for now');
      for (const listener of this.#blocks) listener();
    });
    model.on('unblocked', () => {
      this.#blocked = undefined;
      this.#log.info({ broker: node.maskedUrl }, 'RabbitMQ takes publications again');
      for (const listener of this.#blocks) listener();
    });
    this.#link = link;
    for (const resolve of this.#waiting) resolve(link);
    this.#waiting.clear();
    for (const listener of this.#up) listener(link);
    return link;
  }

  #lost(link: AmqpLink, error: unknown): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.#blocked = undefined;
    this.#failure = error;
    for (const listener of this.#down) listener(error);
    if (this.#closing.signal.aborted) return;
    const { maskedUrl } = this.target;
    this.#log.warn({ broker: maskedUrl, error }, 'the connection to RabbitMQ ended; reconnecting');
    void this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#closing;
    const said = new Set<string>();
    for (let attempt = 0; !signal.aborted && this.#link === undefined; attempt++) {
      // Try all nodes once without a pause between them.
      if (attempt % this.target.nodes.length === 0) {
        await pause(backoff(Math.floor(attempt / this.target.nodes.length), Math.random(), 100, 2_000), signal);
      }
      if (signal.aborted) return;
      try {
        await (this.#connecting ??= this.#connectOnce());
        this.#log.info({ broker: this.target.maskedUrl }, 'connected to RabbitMQ again');
      } catch (error) {
        const why = describe(error);
        // An error that a person must fix is logged as an error, once.
        const level = error instanceof ConfigError && !said.has(why) ? 'error' : 'debug';
        said.add(why);
        this.#log[level]({ broker: this.target.maskedUrl, error }, 'no connection to RabbitMQ yet; trying again');
      }
    }
  }
}

async function open(node: AmqpNode, target: AmqpTarget): Promise<ChannelModel> {
  const { hostname, port, username, password, vhost, tls } = node;
  const { heartbeatSeconds: heartbeat, connectTimeoutMs: timeout, connectionName } = target;
  const address = { protocol: tls === undefined ? 'amqp' : 'amqps', hostname, port, username, password, heartbeat };
  const options = {
    ...tls,
    noDelay: true,
    keepAlive: true,
    keepAliveDelay: 30_000,
    timeout,
    clientProperties: {
      product: 'jobglot',
      ...(connectionName === undefined ? {} : { connection_name: connectionName }),
    },
  };
  try {
    // amqplib percent-decodes the virtual host.
    return await connect({ ...address, vhost: encodeURIComponent(vhost) }, options);
  } catch (cause) {
    const text = describe(cause);
    // amqplib does not report why the broker refused to open the virtual host.
    if (/ACCESS.REFUSED|NOT.ALLOWED|\b(?:403|530)\b|OpenOk; got <ConnectionClose/i.test(text)) {
      throw new ConfigError(`amqp: ${node.maskedUrl} refuses user '${username}' or virtual host '${vhost}': ${text}`, {
        cause,
      });
    }
    throw cause;
  }
}

async function declare(channel: Channel, declaration: Declaration): Promise<void> {
  switch (declaration.kind) {
    case 'exchange': {
      const { name, type, durable, autoDelete, passive } = declaration;
      if (passive) await channel.checkExchange(name);
      else await channel.assertExchange(name, type, { durable, autoDelete, arguments: declaration.arguments });
      break;
    }
    case 'queue': {
      const { name, durable, autoDelete, exclusive, passive } = declaration;
      if (passive) await channel.checkQueue(name);
      else await channel.assertQueue(name, { durable, autoDelete, exclusive, arguments: declaration.arguments });
      break;
    }
    case 'binding': {
      const { to, destination, source, routingKey } = declaration;
      if (to === 'queue') await channel.bindQueue(destination, source, routingKey, declaration.arguments);
      else await channel.bindExchange(destination, source, routingKey, declaration.arguments);
      break;
    }
  }
}

/** The error for a failed declaration. 403, 404, 405 and 406 do not go away until a person changes something. */
function refused(declaration: Declaration, cause: unknown): Error {
  const code = (cause as { readonly code?: unknown } | null)?.code;
  const text = describe(cause);
  if (typeof code !== 'number' || code < 403 || code > 406) {
    return new ConnectionError(`amqp: a declaration was cut off: ${text}`, { cause });
  }
  const what =
    declaration.kind === 'binding'
      ? `the binding of ${declaration.to} '${declaration.destination}' to exchange '${declaration.source}'`
      : `the ${declaration.kind} '${declaration.name}'`;
  const advice =
    code === 406
      ? 'it exists with other properties: configure it here as the rest of the cluster does, or set noDeclare'
      : code === 404
        ? 'it does not exist'
        : code === 405
          ? 'another connection has it for itself'
          : 'this user may not do that';
  return new ConfigError(`amqp: the broker refuses ${what}: ${advice} (${text})`, { cause });
}

/** The socket of a connection: amqplib has no way to give up a connection at once. */
function socketOf(model: ChannelModel): { destroy(error?: Error): void } | undefined {
  return (model.connection as { readonly stream?: { destroy(error?: Error): void } }).stream;
}

async function askForChannel({ model }: AmqpLink): Promise<void> {
  const channel = await model.createChannel();
  channel.on('error', () => undefined);
  await channel.close();
}

/** Waits until `work` has resolved or rejected, but not longer than `ms`. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const limit = new AbortController();
  await Promise.race([work.catch(() => undefined), pause(ms, limit.signal)]);
  limit.abort();
}

export function describe(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return describe(error.errors[0]);
  if (error instanceof Error) return error.message === '' ? error.name : error.message;
  return typeof error === 'string' && error !== '' ? error : 'the connection ended';
}
