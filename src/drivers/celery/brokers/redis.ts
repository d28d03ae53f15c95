import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { decodeEnvelope, encodeEnvelope, markRedelivered } from '../../../../protocols/celery/brokers/envelope.ts';
import type { Publication, WireMessage } from '../../../../protocols/celery/message/message.ts';
import * as wire from '../../../../protocols/celery/brokers/redis.ts';
import { WireError } from '../../../../protocols/errors.ts';
import * as json from '../../../../protocols/formats/json.ts';
import type { Command, Exchange } from '../../../../protocols/redis.ts';
import { RenewingSet } from '../../../renewing.ts';
import { ConfigError, ConnectionError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { type Agent, every, pause } from '../../../source.ts';
import { ListWaiter, PushWatch } from '../../../transports/redis-push.ts';
import { claimant, RedisConnection } from '../../../transports/redis.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../../transports/redis-url.ts';
import { RedisBroadcasts } from './broadcast-redis.ts';
import type { BrokerRedis, CeleryBroker, Claim, QueueSpec } from './broker.ts';
import { FanoutInbox } from './fanout-redis.ts';
import { AbandonedClaims } from './restore-redis.ts';
import { virtualType } from './virtual-exchange.ts';

/** `broker_transport_options` of Celery, in camelCase. Seconds where Celery has seconds. */
export interface RedisBrokerOptions extends RedisTargetOptions {
  /** Seconds after which a claim that nobody refreshes is given to another worker. @default 3600 */
  readonly visibilityTimeout?: number;
  /** Prepended to every key and channel, as it is. With a hash tag (`{jobs}:`) everything is one slot of a Redis Cluster. */
  readonly globalKeyprefix?: string;
  /** @default [0, 3, 6, 9] */
  readonly prioritySteps?: readonly number[];
  readonly sep?: string;
  readonly unackedKey?: string;
  readonly unackedIndexKey?: string;
  readonly unackedMutexKey?: string;
  /** Seconds. Shorter than kombu's 300: a sweeper that was killed holds up the others, and two at once do no harm. @default 30 */
  readonly unackedMutexExpire?: number;
  /** At most so many claims are restored in one sweep. @default 1000 */
  readonly unackedRestoreLimit?: number;
  /** Seconds between two sweeps for abandoned claims. @default 10 */
  readonly unackedRestoreInterval?: number;
  /** Which queue is asked first. @default 'round_robin' */
  readonly queueOrderStrategy?: 'round_robin' | 'priority' | 'sorted';
  readonly fanoutPrefix?: boolean | string;
  readonly fanoutPatterns?: boolean;
  /**
   * The types of exchanges that are published to and not consumed from, which Redis does not keep: needed for fanout; a topic
   * exchange shows by the patterns in its table. @default direct
   */
  readonly exchangeTypes?: Readonly<Record<string, 'direct' | 'topic' | 'fanout'>>;
  /** Seconds between two looks at empty queues, where the server cannot tell of a push. @default 0.05 */
  readonly pollingInterval?: number;
  /** Larger messages go to quarantine. @default 32 MiB */
  readonly maxMessageBytes?: number;
  /**
   * A sorted set that keeps revoked ids, so that they count also when every worker was restarted. Only workers of ours look there.
   * @default they are kept in memory, and handed on from worker to worker
   */
  readonly revokedKey?: string;
}

/** Exchange types known without a declaration: what Celery itself uses. */
const FANOUT = /^celeryev$|^(?!reply\.).*\.pidbox$/;

/** As many as a worker keeps. */
const REVOKES_RECALLED = 50_000;

/** A connection each; the lists of other queues and priorities are heard of through the watch. */
const LISTS_WAITED_AT = 4;

type ClaimExchange = ReturnType<typeof wire.claim>;
type Claimed = Awaited<ReturnType<ClaimExchange['read']>>;

interface Waiting {
  readonly waiter: ListWaiter;
  pending: Promise<void> | undefined;
}

export class RedisBroker implements CeleryBroker {
  readonly kind = 'redis';
  readonly address: string;
  readonly agents: readonly Agent[];
  readonly broadcast: RedisBroadcasts;
  readonly revokes?: NonNullable<CeleryBroker['revokes']>;
  readonly #options: RedisBrokerOptions;
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
  #watch: PushWatch | undefined;
  #watching: Promise<void> | undefined;
  #waiters: Waiting[] = [];
  /** Whether the next receive begins with a claim. */
  #poll = true;
  /** The lists of the waiters that are waiting, or about to. */
  readonly #waitedAt = new Set<string>();
  #arrived: Claim[] = [];
  #fanout: FanoutInbox | undefined;
  #queues: string[] = [];
  #claims = 0;
  readonly #underWay = new Set<string>();
  #replyLost = false;
  #recoverAgainAt = Number.POSITIVE_INFINITY;

  constructor(url: string, options: RedisBrokerOptions = {}) {
    this.#options = options;
    this.#target = redisTarget(url, options);
    this.address = this.#target.maskedUrl;
    const prefix = options.globalKeyprefix ?? '';
    if (this.#target.cluster !== undefined && !/\{[^}]+\}/.test(prefix)) {
      throw new ConfigError(
        `celery: ${this.address} is a cluster: set globalKeyprefix to a hash tag such as '{celery}:' (and global_keyprefix to the same in Python), so that all keys share one slot`,
      );
    }
    this.#keys = wire.keyspace({
      prefix,
      ...(options.unackedKey === undefined ? {} : { unacked: options.unackedKey }),
      ...(options.unackedIndexKey === undefined ? {} : { unackedIndex: options.unackedIndexKey }),
      ...(options.unackedMutexKey === undefined ? {} : { unackedMutex: options.unackedMutexKey }),
      ...(options.prioritySteps === undefined ? {} : { prioritySteps: options.prioritySteps }),
      ...(options.sep === undefined ? {} : { separator: options.sep }),
    });
    const messageBytes = options.maxMessageBytes ?? 32 * 2 ** 20;
    for (const [exchange, type] of Object.entries(options.exchangeTypes ?? {})) this.#types.set(exchange, type);
    this.#limits = { messageBytes, batchBytes: Math.max(messageBytes, 16 * 2 ** 20) };
    this.broadcast = new RedisBroadcasts({
      target: this.#target,
      keys: this.#keys,
      commands: () => this.#connection(),
      channel: (exchange, routingKey) => this.#channel(exchange, routingKey),
      log: () => this.#log,
      messageBytes,
    });
    if (options.revokedKey !== undefined) {
      const key = prefix + options.revokedKey;
      this.revokes = {
        remember: (ids, until) => this.#connection().run(wire.rememberRevoked(key, ids, until, Date.now() / 1000)),
        recall: () => this.#connection().run(wire.rememberedRevoked(key, Date.now() / 1000, REVOKES_RECALLED)),
      };
    }
    const visibility = options.visibilityTimeout ?? 3600;
    this.#abandoned = new AbandonedClaims({
      keys: this.#keys,
      visibility,
      ...(options.unackedRestoreLimit === undefined ? {} : { limit: options.unackedRestoreLimit }),
      ...(options.unackedMutexExpire === undefined ? {} : { mutexExpire: options.unackedMutexExpire }),
      typeOf: (exchange) => this.#typeOf(exchange),
      log: () => this.#log,
    });
    const visibilityMs = visibility * 1000;
    const sweepMs = (options.unackedRestoreInterval ?? 10) * 1000;
    this.agents = [
      // A third of the timeout, so that one missed beat does not lose a claim to a sweeper.
      every('celery: keep claims', Math.min(visibilityMs / 3, 60_000), () => this.#refresh()),
      every(
        'celery: restore abandoned claims',
        Math.min(sweepMs > 0 ? sweepMs : 10_000, Math.max(visibilityMs, 1_000)),
        () => this.#sweep(),
      ),
      every('celery: release parked messages', 1_000, () => this.#unpark()),
    ];
  }

  open(log: Logger): Promise<void> {
    this.#log = log;
    return (this.#opening ??= this.#open());
  }

  async consume(queues: readonly QueueSpec[]): Promise<void> {
    const redis = this.#connection();
    const lists: string[] = [];
    for (const queue of queues) if ((await this.#declare(queue)) === 'list') lists.push(queue.name);
    this.#queues = this.#options.queueOrderStrategy === 'sorted' ? lists.sort() : lists;
    this.#watch = new PushWatch(redis, this.#log);
    // In a cluster each node has its own tracking table; there we poll.
    if (this.#target.cluster === undefined) {
      await this.#watch.open();
      for (const queue of this.#queues.slice(0, LISTS_WAITED_AT)) await this.#addWaiter(queue);
    }
    void this.#sweep().catch((error: unknown) =>
      this.#log.warn({ error }, 'the first sweep for abandoned claims failed'),
    );
  }

  async addQueue(queue: QueueSpec): Promise<void> {
    if (this.#queues.includes(queue.name)) return;
    if ((await this.#declare(queue)) === 'list') {
      this.#queues.push(queue.name);
      if (this.#options.queueOrderStrategy === 'sorted') this.#queues.sort();
      if (this.#target.cluster === undefined && this.#waiters.length < LISTS_WAITED_AT)
        await this.#addWaiter(queue.name);
    }
    this.#watch?.poke();
  }

  async removeQueue(name: string): Promise<void> {
    this.#queues = this.#queues.filter((queue) => queue !== name);
    await this.#fanout?.forget(name);
    const list = wire.listKey(this.#keys, name);
    this.#waitedAt.delete(list);
    const waiters = this.#waiters.filter(({ waiter }) => waiter.list === list);
    this.#waiters = this.#waiters.filter(({ waiter }) => waiter.list !== list);
    await this.#endAll(waiters);
    this.#watch?.poke();
  }

  /** Bind a queue to its exchange. Whether its messages wait in a list, or are broadcasts. */
  async #declare(queue: QueueSpec): Promise<'list' | 'fanout'> {
    const type = virtualType(queue);
    const exchange = queue.exchange ?? queue.name;
    const routingKey = queue.routingKey ?? queue.name;
    this.#types.set(exchange, type);
    await this.#connection().run(
      wire.bind(this.#keys, exchange, type, type === 'fanout' ? '' : routingKey, queue.name),
    );
    if (type !== 'fanout') return 'list';
    this.#fanout ??= new FanoutInbox(this.#target, this.#log);
    // Celery gives a queue of task_queues without a key its default one, so a broadcast comes under any key or none.
    const keys = queue.routingKey === undefined ? ['', '*'] : [queue.routingKey];
    for (const key of keys) await this.#fanout.listen(this.#channel(exchange, key), queue.name);
    return 'fanout';
  }

  async #addWaiter(queue: string): Promise<void> {
    const waiter = new ListWaiter(wire.listKey(this.#keys, queue), this.#target, this.#log);
    await waiter.open();
    this.#waiters.push({ waiter, pending: undefined });
    this.#waitedAt.add(waiter.list);
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    const watch = this.#watch as PushWatch;
    for (let waited = false; !signal.aborted && !waited;) {
      if (this.#arrived.length > 0) break;
      const { seen } = watch;
      const broadcast = this.#fanout?.take(max) ?? [];
      if (broadcast.length > 0) return broadcast.map(({ queue, bytes }) => readClaim(queue, '', bytes));
      const claims = this.#poll || this.#replyLost ? await this.#claim(max, signal) : [];
      if (claims.length > 0) {
        // A waiter was served at the push, before this claim; its answer may be the next to be read.
        if (this.#waiters.some(({ pending }) => pending !== undefined)) await nextTurn();
        return [...this.#arrived.splice(0), ...claims];
      }
      // A waiter's answer may have come while this one was under way.
      if (this.#arrived.length > 0) break;
      this.#poll = await this.#nextPush(seen, signal);
      // Nothing for a second: whoever asks hears so, and knows that we are alive.
      waited = !this.#poll;
    }
    const arrived = this.#arrived.splice(0);
    if (arrived.length > 0) this.#poll = true;
    return arrived;
  }

  /**
   * Until something was pushed, or some time passed. Whether a look is due: while waiters look at every list themselves, once
   * a second, it is not, unless the watch heard of a push to a list that nobody waits at. Two claims at once could turn two
   * messages around.
   */
  async #nextPush(seen: number, signal: AbortSignal): Promise<boolean> {
    const watch = this.#watch as PushWatch;
    const waitMs = watch.active ? 1_000 : (this.#options.pollingInterval ?? 0.05) * 1000;
    if (watch.seen !== seen) return true;
    // One that a waiter overtook goes on: at worst it ends this wait a little early.
    this.#watching ??= watch
      .next(seen, this.#fanout === undefined ? waitMs : Math.min(waitMs, 250), signal)
      .finally(() => (this.#watching = undefined));
    const pushes: Promise<void>[] = [this.#watching];
    for (const waiting of this.#waiters) pushes.push((waiting.pending ??= this.#waitAt(waiting)));
    if (this.#fanout !== undefined) pushes.push(this.#fanout.next());
    await (pushes.length === 1 ? pushes[0] : Promise.race(pushes));
    // The watch hears of a push that a waiter was served with, too, and often first: its answer is in this very turn.
    if (this.#waiters.length > 0 && this.#arrived.length === 0) await nextTurn();
    return watch.seen !== seen || !watch.active || this.#waitedAt.size === 0;
  }

  /** One message, claimed by the server at the moment of the push: no more, since nobody may want more by then. */
  async #waitAt(waiting: Waiting): Promise<void> {
    try {
      this.#arrived.push(...(await this.#claimBy(1, (claim) => waiting.waiter.wait(1, claim))));
      if (this.#waiters.includes(waiting)) this.#waitedAt.add(waiting.waiter.list);
    } catch (error) {
      this.#waitedAt.delete(waiting.waiter.list);
      if (error instanceof ConnectionError) {
        // The next wait waits for the connection; the pause is for one that comes back only to refuse.
        if (this.#waiters.includes(waiting)) await pause(100);
      } else {
        // A server without BLMOVE, or a user who may not call it: pushes are heard of all the same, a trip later.
        this.#log.debug({ error }, 'this Redis does not let us wait at a list');
        this.#waiters = this.#waiters.filter((one) => one !== waiting);
        await waiting.waiter.close();
      }
    } finally {
      waiting.pending = undefined;
    }
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
    if (claim.tag === '') return; // a broadcast was never ours alone
    const list = wire.listKey(this.#keys, claim.queue, claim.message?.properties['priority']);
    const message = where === 'front' ? claim.bytes : markRedelivered(claim.bytes);
    await this.#move(claim, { list, end: where === 'front' ? 'right' : 'left', message });
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
    const list = wire.listKey(this.#keys, claim.queue, claim.message?.properties['priority']);
    await this.#connection().run(wire.park(this.#keys, claim.tag, list, claim.bytes as Buffer, at.getTime() / 1000));
    this.#held.delete(claim.tag);
  }

  async quiet(): Promise<void> {
    await this.#fanout?.close();
    await this.#endAll(this.#waiters.splice(0));
    await Promise.all(this.#arrived.splice(0).map((claim) => this.requeue(claim, 'front')));
  }

  async #endAll(waiters: readonly Waiting[]): Promise<void> {
    let waiting = true;
    const answered = Promise.all(waiters.map(({ pending }) => pending ?? Promise.resolve())).then(
      () => (waiting = false),
    );
    while (waiting) {
      // Again and again: a wait that was only being sent was not there to be ended.
      await this.#endWaits(waiters);
      await Promise.race([answered, pause(20)]);
    }
    await Promise.all(waiters.map(({ waiter }) => waiter.close()));
  }

  /** Where CLIENT is forbidden, a wait ends by itself within a second. */
  async #endWaits(waiters: readonly Waiting[]): Promise<void> {
    // Without its connection a wait has nothing under way, and would only wait for that.
    for (const { waiter } of waiters) if (waiter.id === undefined) await waiter.close();
    const ids = waiters.filter(({ pending }) => pending !== undefined).map(({ waiter }) => waiter.id);
    const commands = ids.filter((id) => id !== undefined).map((id) => ['CLIENT', 'UNBLOCK', id] as const);
    if (this.#redis?.ready !== true) return;
    await this.#redis.run({ commands, atomic: false, read: () => undefined }).catch(() => undefined);
  }

  async close(): Promise<void> {
    await Promise.all(this.#waiters.splice(0).map(({ waiter }) => waiter.close()));
    await this.#watch?.close();
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

  /** The queues bound to an exchange for this key. A copy for each has a delivery tag of its own: kombu shares one, and the first ack then forgets both. */
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
      // ASCII by construction; bytes are cheaper to send than a text put together from forty pieces.
      envelope: Buffer.from(encodeEnvelope(publication, randomUUID()), 'latin1'),
    };
  }

  async #claim(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    if (this.#queues.length === 0) return [];
    await this.#connection().whenReady(signal);
    if (this.#replyLost || Date.now() >= this.#recoverAgainAt) await this.#recoverLost();
    return this.#claimBy(max, (claim) => this.#connection().run(claim));
  }

  /** A claim by any connection. While its answer is under way its claims are nobody's to recover. */
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
          waitedAt: this.#waitedAt,
        }),
      );
    } catch (error) {
      // The server may have claimed for us and the answer been lost; looked into before the next claim.
      this.#replyLost = true;
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

  /** A queue that gave messages waits for the others; one that had none keeps its turn. */
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

  /** Claims made for us whose answer never arrived: they bear our name and we do not hold them. */
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
    // A server that was frozen may carry out a claim after it was given up here, and after this look.
    this.#recoverAgainAt = this.#replyLost ? Date.now() + 10_000 : Number.POSITIVE_INFINITY;
    this.#replyLost = false;
  }

  async #refresh(): Promise<void> {
    if (this.#held.size === 0 || this.#redis === undefined) return;
    const gone = await this.#redis.run(wire.refresh(this.#keys, [...this.#held], Date.now() / 1000));
    for (const tag of gone) {
      if (!this.#held.delete(tag)) continue;
      this.#log.warn(
        { tag },
        'a claim of ours was restored by another worker: its job may run twice. Is a visibility timeout in the cluster shorter than this worker was away?',
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

/** Several lists in one turn need no MULTI: each message stands alone. */
function notAtomic(exchange: Exchange<void>): Exchange<void> {
  return { ...exchange, atomic: false };
}
