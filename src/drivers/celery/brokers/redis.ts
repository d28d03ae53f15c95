import { randomUUID } from 'node:crypto';
import { decodeEnvelope, encodeEnvelope, markRedelivered } from '../../../../protocols/celery/brokers/envelope.ts';
import type { Publication, WireMessage } from '../../../../protocols/celery/message/message.ts';
import * as wire from '../../../../protocols/celery/brokers/redis.ts';
import { WireError } from '../../../../protocols/errors.ts';
import * as json from '../../../../protocols/formats/json.ts';
import type { Command, Exchange } from '../../../../protocols/redis.ts';
import { RenewingSet } from '../../../renewing.ts';
import { ConfigError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { LostReplies } from '../../../lost-replies.ts';
import { type Agent, every } from '../../../source.ts';
import { RedisLists } from '../../../transports/redis-lists.ts';
import { claimant, RedisConnection } from '../../../transports/redis.ts';
import type { RedisTarget } from '../../../transports/redis-url.ts';
import { RedisBroadcasts } from './broadcast-redis.ts';
import type { BrokerRedis, CeleryBroker, Claim, QueueSpec } from './broker.ts';
import { FanoutInbox } from './fanout-redis.ts';
import { type RedisBrokerOptions, redisBrokerSettings, type RedisBrokerSettings } from './redis-options.ts';
import { AbandonedClaims } from './restore-redis.ts';
import { virtualType } from './virtual-exchange.ts';

/** Fanout exchanges that are known without a declaration: those of Celery itself. */
const FANOUT = /^celeryev$|^(?!reply\.).*\.pidbox$/;

/** The same number as a worker keeps. */
const REVOKES_RECALLED = 50_000;

type ClaimExchange = ReturnType<typeof wire.claim>;
type Claimed = Awaited<ReturnType<ClaimExchange['read']>>;

export class RedisBroker implements CeleryBroker {
  readonly kind = 'redis';
  readonly address: string;
  readonly agents: readonly Agent[];
  readonly broadcast: RedisBroadcasts;
  readonly revokes?: NonNullable<CeleryBroker['revokes']>;
  readonly #options: RedisBrokerOptions;
  readonly #settings: RedisBrokerSettings;
  readonly #target: RedisTarget;
  readonly #keys: wire.Keyspace;
  readonly #nonce = claimant();
  readonly #limits: wire.ClaimLimits;
  readonly #held = new RenewingSet<string>();
  readonly #abandoned: AbandonedClaims;
  readonly #types = new Map<string, 'direct' | 'topic' | 'fanout'>();
  #log: Logger = silent;
  #redis: RedisConnection | undefined;
  #opening: Promise<void> | undefined;
  #ack: ((tag: string) => Promise<void>) | undefined;
  #push: ((item: { readonly key: string; readonly envelope: Uint8Array }) => Promise<void>) | undefined;
  #lists: RedisLists<Claim> | undefined;
  #fanout: FanoutInbox | undefined;
  #queues: string[] = [];
  #claims = 0;
  readonly #underWay = new Set<string>();
  readonly #lostReplies = new LostReplies();

  constructor(url: string, options: RedisBrokerOptions = {}) {
    const settings = redisBrokerSettings(url, options);
    const { target, keys, limits, revokedKey } = settings;
    this.#options = options;
    this.#settings = settings;
    this.#target = target;
    this.#keys = keys;
    this.#limits = limits;
    this.address = target.maskedUrl;
    for (const [exchange, type] of Object.entries(options.exchangeTypes ?? {})) this.#types.set(exchange, type);
    this.broadcast = new RedisBroadcasts({
      target,
      keys,
      commands: () => this.#connection(),
      channel: (exchange, routingKey) => this.#channel(exchange, routingKey),
      log: () => this.#log,
      messageBytes: limits.messageBytes,
    });
    if (revokedKey !== undefined) {
      this.revokes = {
        remember: (ids, until) =>
          this.#connection().run(wire.rememberRevoked(revokedKey, ids, until, Date.now() / 1000)),
        recall: () => this.#connection().run(wire.rememberedRevoked(revokedKey, Date.now() / 1000, REVOKES_RECALLED)),
      };
    }
    this.#abandoned = new AbandonedClaims({
      keys,
      visibility: settings.visibilityTimeout,
      ...(options.unackedRestoreLimit === undefined ? {} : { limit: options.unackedRestoreLimit }),
      ...(options.unackedMutexExpire === undefined ? {} : { mutexExpire: options.unackedMutexExpire }),
      typeOf: (exchange) => this.#typeOf(exchange),
      log: () => this.#log,
    });
    this.agents = [
      every('celery: keep claims', settings.refreshMs, () => this.#refresh()),
      every('celery: restore abandoned claims', settings.sweepMs, () => this.#sweep()),
      every('celery: release parked messages', 1_000, () => this.#unpark()),
    ];
  }

  open(log: Logger): Promise<void> {
    this.#log = log;
    return (this.#opening ??= this.#open());
  }

  async consume(queues: readonly QueueSpec[]): Promise<void> {
    const lists: string[] = [];
    for (const queue of queues) if ((await this.#declare(queue)) === 'list') lists.push(queue.name);
    this.#queues = this.#options.queueOrderStrategy === 'sorted' ? lists.sort() : lists;
    this.#lists = new RedisLists<Claim>({
      commands: this.#connection(),
      target: this.#target,
      log: this.#log,
      takeAt: (_, send) => this.#claimBy(1, send),
      takesFrom: 'all',
      due: () => this.#lostReplies.due,
      pollIntervalMs: this.#settings.pollIntervalMs,
    });
    await this.#lists.start(this.#queues.map((queue) => wire.listKey(this.#keys, queue)));
    void this.#sweep().catch((error: unknown) =>
      this.#log.warn({ error }, 'the first sweep for abandoned claims failed'),
    );
  }

  async addQueue(queue: QueueSpec): Promise<void> {
    if (this.#queues.includes(queue.name)) return;
    if ((await this.#declare(queue)) === 'list') {
      this.#queues.push(queue.name);
      if (this.#options.queueOrderStrategy === 'sorted') this.#queues.sort();
      await this.#lists?.add(wire.listKey(this.#keys, queue.name));
    }
  }

  async removeQueue(name: string): Promise<void> {
    this.#queues = this.#queues.filter((queue) => queue !== name);
    await this.#fanout?.forget(name);
    await this.#lists?.remove(wire.listKey(this.#keys, name));
  }

  /** Binds a queue to its exchange. Resolves to `list` if its messages wait in a list, `fanout` if they are broadcasts. */
  async #declare(queue: QueueSpec): Promise<'list' | 'fanout'> {
    const type = virtualType(queue);
    const exchange = queue.exchange ?? queue.name;
    const routingKey = queue.routingKey ?? queue.name;
    this.#types.set(exchange, type);
    await this.#connection().run(
      wire.bind(this.#keys, exchange, type, type === 'fanout' ? '' : routingKey, queue.name),
    );
    if (type !== 'fanout') return 'list';
    this.#fanout ??= new FanoutInbox(this.#target, this.#log, () => this.#lists?.poke());
    // Celery gives its default key to a queue in task_queues that has none, so a broadcast may have any key or none.
    const keys = queue.routingKey === undefined ? ['', '*'] : [queue.routingKey];
    for (const key of keys) await this.#fanout.listen(this.#channel(exchange, key), queue.name);
    return 'fanout';
  }

  receive(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    return (this.#lists as RedisLists<Claim>).receive(() => this.#take(max, signal), signal);
  }

  async #take(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    const broadcast = this.#fanout?.take(max) ?? [];
    if (broadcast.length > 0) return broadcast.map(({ queue, bytes }) => readClaim(queue, '', bytes));
    return this.#claim(max, signal);
  }

  async publish(publications: Iterable<Publication>): Promise<void> {
    const items: { readonly key: string; readonly envelope: Uint8Array }[] = [];
    const fanouts: Command[] = [];
    for (const publication of publications) {
      const { exchange, routingKey } = publication;
      if (exchange === '') {
        // The default exchange: the routing key is the queue's name.
        items.push(this.#item(publication, routingKey));
        continue;
      }
      const type = this.#typeOf(exchange);
      if (type === 'fanout') {
        fanouts.push(['PUBLISH', this.#channel(exchange, routingKey), encodeEnvelope(publication, randomUUID())]);
        continue;
      }
      for (const queue of await this.#routed(exchange, type, routingKey)) items.push(this.#item(publication, queue));
    }
    const redis = this.#connection();
    if (fanouts.length > 0) await redis.run({ commands: fanouts, atomic: false, read: () => undefined });
    if (items.length === 1) await this.#push?.(items[0] as { readonly key: string; readonly envelope: Uint8Array });
    else if (items.length > 0) await redis.run(wire.publish(items));
  }

  get redis(): BrokerRedis {
    return {
      prefix: this.#keys.prefix,
      run: (exchange) => this.#connection().run(exchange),
      pushes: async (publication) => {
        const { exchange, routingKey } = publication;
        if (exchange === '') return [this.#item(publication, routingKey)];
        const type = this.#typeOf(exchange);
        if (type === 'fanout') return undefined;
        return (await this.#routed(exchange, type, routingKey)).map((queue) => this.#item(publication, queue));
      },
    };
  }

  async ack(claim: Claim): Promise<void> {
    if (claim.tag === '') return;
    await this.#ack?.(claim.tag);
    this.#held.delete(claim.tag);
  }

  async requeue(claim: Claim, where: 'front' | 'back'): Promise<void> {
    if (claim.tag === '') return; // a broadcast: every other worker has its own copy
    const list = this.#listOf(claim);
    const message = where === 'front' ? claim.bytes : markRedelivered(claim.bytes);
    await this.#move(claim, { list, end: where === 'front' ? 'right' : 'left', message });
  }

  async moveToBack(claim: Claim): Promise<void> {
    if (claim.tag === '') return; // a broadcast: every other worker has its own copy
    await this.#move(claim, { list: this.#listOf(claim), end: 'left', message: claim.bytes });
  }

  #listOf({ queue, message }: Claim): string {
    return wire.listKey(this.#keys, queue, message?.properties['priority']);
  }

  async quarantine(
    claim: Claim,
    why: { readonly code: string; readonly reason: string; readonly id?: string },
  ): Promise<string> {
    if (claim.kept !== undefined) return claim.kept;
    const list = wire.quarantineKey(this.#keys, claim.queue);
    const text = json.stringify({ ...why, queue: claim.queue, bytes: claim.bytes.byteLength, at: Date.now() / 1000 });
    if (claim.tag === '') {
      const commands: Command[] = [
        ['LPUSH', list, claim.bytes],
        ['LPUSH', `${list}:why`, text],
      ];
      await this.#connection().run({ commands, atomic: true, read: () => undefined });
    } else {
      await this.#move(claim, { list, end: 'left', message: claim.bytes, why: text });
    }
    return keptWords(list, this.#keys.prefix + claim.queue);
  }

  async park(claim: Claim, at: Date): Promise<void> {
    await this.#connection().run(
      wire.park(this.#keys, claim.tag, this.#listOf(claim), claim.bytes as Buffer, at.getTime() / 1000),
    );
    this.#held.delete(claim.tag);
  }

  async quiet(): Promise<void> {
    await this.#fanout?.close();
    const arrived = (await this.#lists?.quiet()) ?? [];
    await Promise.all(arrived.map((claim) => this.requeue(claim, 'front')));
  }

  async close(): Promise<void> {
    await this.#lists?.close();
    await this.#fanout?.close();
    await this.broadcast.close();
    await this.#redis?.close();
    this.#redis = undefined;
    this.#opening = undefined;
  }

  async #open(): Promise<void> {
    const redis = new RedisConnection(this.#target, { log: this.#log });
    try {
      await redis.connect();
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
    this.#redis = redis;
    this.#ack = redis.batchPerTick((tags: readonly string[]) => wire.ack(this.#keys, tags));
    this.#push = redis.batchPerTick((items: readonly { readonly key: string; readonly envelope: Uint8Array }[]) =>
      notAtomic(wire.publish(items)),
    );
  }

  #connection(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('celery: the broker is not open');
    return this.#redis;
  }

  #channel(exchange: string, routingKey: string): string {
    const { fanoutPrefix, fanoutPatterns } = this.#options;
    return wire.fanoutChannel(this.#keys, this.#target.db, exchange, routingKey, fanoutPrefix, fanoutPatterns);
  }

  #typeOf(exchange: string): 'direct' | 'topic' | 'fanout' | undefined {
    return this.#types.get(exchange) ?? (FANOUT.test(exchange) ? 'fanout' : undefined);
  }

  /** The queues bound to an exchange for this key. Each copy gets its own delivery tag. kombu's copies share one, and the first ack removes both. */
  async #routed(
    exchange: string,
    type: 'direct' | 'topic' | undefined,
    routingKey: string,
  ): Promise<readonly string[]> {
    const queues = wire.route(type, await this.#connection().run(wire.bindings(this.#keys, exchange)), routingKey);
    if (queues.length > 0) return queues;
    throw new ConfigError(
      `celery: exchange '${exchange}' has no queue bound for routing key '${routingKey}'; the message would be dropped. Declare the queue on a worker first, or send to it by its name`,
    );
  }

  #item(publication: Publication, queue: string): { readonly key: string; readonly envelope: Uint8Array } {
    return {
      key: wire.listKey(this.#keys, queue, publication.priority),
      // ASCII by construction. Bytes are cheaper to send than a string concatenated from forty parts.
      envelope: Buffer.from(encodeEnvelope(publication, randomUUID()), 'latin1'),
    };
  }

  async #claim(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    if (this.#queues.length === 0) return [];
    await this.#connection().whenReady(signal);
    await this.#lostReplies.recover(() => this.#recoverLost());
    return this.#claimBy(max, (claim) => this.#connection().run(claim));
  }

  /** Claims through any connection. While the reply is under way, its claims must not be recovered as lost. */
  async #claimBy(max: number, run: (claim: ClaimExchange) => Promise<Claimed>): Promise<readonly Claim[]> {
    const prefix = `${this.#nonce}:${(this.#claims++).toString(36)}:`;
    this.#underWay.add(prefix);
    let taken: Claimed;
    try {
      taken = await run(
        wire.claim(this.#keys, this.#queues, {
          max,
          prefix,
          at: Date.now() / 1000,
          limits: this.#limits,
          waitedAt: this.#lists?.waitedAt ?? new Set(),
        }),
      );
    } catch (error) {
      // The server may have made claims for this worker before the reply was lost. They are recovered before the next claim.
      this.#lostReplies.lost();
      throw error;
    } finally {
      this.#underWay.delete(prefix);
    }
    const claims: Claim[] = [];
    const gave = new Set<string>();
    for (const { queue, tag, bytes } of taken.claimed) {
      this.#held.add(tag);
      gave.add(queue);
      claims.push(readClaim(queue, tag, bytes));
    }
    if ((this.#options.queueOrderStrategy ?? 'round_robin') === 'round_robin') this.#toTheEnd(gave);
    for (const { queue, code, size, start } of taken.aside) {
      const list = wire.quarantineKey(this.#keys, queue);
      const what =
        code === 'too-large'
          ? `the message has ${size} bytes, more than the ${this.#limits.messageBytes} allowed (maxMessageBytes)`
          : `the message is not the JSON envelope kombu writes; it begins ${json.stringify(start.toString('latin1', 0, 60))}`;
      claims.push({
        queue,
        tag: '',
        bytes: start,
        message: undefined,
        error: new WireError('celery', code, what),
        kept: keptWords(list, this.#keys.prefix + queue),
      });
    }
    return claims;
  }

  /** A queue that delivered messages waits for the others. A queue that had none keeps its turn. */
  #toTheEnd(gave: ReadonlySet<string>): void {
    if (gave.size === 0 || gave.size === this.#queues.length) return;
    this.#queues = [...this.#queues.filter((queue) => !gave.has(queue)), ...gave];
  }

  async #move(claim: Claim, target: Parameters<typeof wire.move>[2]): Promise<void> {
    const moved = await this.#connection().run(wire.move(this.#keys, claim.tag, target));
    this.#held.delete(claim.tag);
    if (!moved)
      this.#log.debug({ tag: claim.tag, queue: claim.queue }, 'this claim was restored by another worker already');
  }

  /** Restores claims made for this worker whose reply was lost: their tags have its nonce, and it does not hold them. */
  async #recoverLost(): Promise<void> {
    const redis = this.#connection();
    for (let cursor = '0'; ;) {
      const [next, found] = await redis.run<readonly [string, readonly Buffer[]]>({
        commands: [['HSCAN', this.#keys.unacked, cursor, 'MATCH', `${this.#nonce}:*`, 'COUNT', 1000]],
        atomic: false,
        read: ([reply]) => {
          const [at, flat] = reply as [Buffer, Buffer[]];
          return [String(at), flat];
        },
      });
      for (let at = 0; at < found.length; at += 2) {
        const tag = String(found[at]);
        if (!this.#held.has(tag) && !this.#underWay.has(tag.slice(0, tag.lastIndexOf(':') + 1)))
          await this.#abandoned.restore(redis, tag, found[at + 1] as Buffer, Date.now() / 1000 + 60);
      }
      cursor = next;
      if (cursor === '0') break;
    }
  }

  async #refresh(): Promise<void> {
    if (this.#held.size === 0 || this.#redis === undefined) return;
    const gone = await this.#redis.run(wire.refresh(this.#keys, [...this.#held], Date.now() / 1000));
    for (const tag of gone) {
      if (!this.#held.delete(tag)) continue;
      this.#log.warn(
        { tag },
        'a claim of this worker was restored by another worker: its job may run twice. Is a visibility timeout in the cluster shorter than the time this worker was disconnected?',
      );
    }
  }

  async #sweep(): Promise<void> {
    if (this.#redis !== undefined) await this.#abandoned.sweep(this.#redis);
  }

  async #unpark(): Promise<void> {
    const redis = this.#redis;
    if (redis === undefined) return;
    while ((await redis.run(wire.unpark(this.#keys, Date.now() / 1000, 500))) === 500);
  }
}

function readClaim(queue: string, tag: string, bytes: Buffer): Claim {
  let message: WireMessage | undefined;
  let error: WireError | undefined;
  try {
    message = decodeEnvelope(bytes);
  } catch (thrown) {
    error =
      thrown instanceof WireError
        ? thrown
        : new WireError('celery', 'undecodable', 'the envelope cannot be read', { cause: thrown });
  }
  return { queue, tag, bytes, message, error };
}

function keptWords(list: string, queue: string): string {
  return `The bytes are kept in the list '${list}', the reason in '${list}:why'. To try it again: LMOVE '${list}' '${queue}' LEFT RIGHT`;
}

/** Several lists in one turn need no MULTI: each message is independent. */
function notAtomic(exchange: Exchange<void>): Exchange<void> {
  return { ...exchange, atomic: false };
}
