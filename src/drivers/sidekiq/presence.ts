import { forgetClaimant } from '../../../protocols/claims.ts';
import { claimsKey } from '../../../protocols/sidekiq/keys.ts';
import { flushMetrics } from '../../../protocols/sidekiq/metrics.ts';
import * as presence from '../../../protocols/sidekiq/presence.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import type { Agent } from '../../source.ts';
import { version } from '../../version.ts';
import { WakeUp } from '../../wake-up.ts';
import type { SidekiqContext } from './context.ts';

/** How often the versions of the peers are read. */
const LOOK_AROUND_MS = 60_000;

/** Shows this process to Sidekiq Web and to other processes, sends its heartbeat, writes the statistics, and handles the quiet and stop buttons. */
export class Presence implements Agent {
  readonly name = 'sidekiq: heartbeat';
  readonly #context: SidekiqContext;
  #beats = 0;
  #rttMicros = 0;
  #findPeersAt: number = Date.now() + LOOK_AROUND_MS;
  readonly #wakeUp = new WakeUp();
  #last: Promise<void> = Promise.resolve();

  constructor(context: SidekiqContext) {
    this.#context = context;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { options, dialect } = this.#context;
      await this.#wakeUp.wait(options.heartbeatMs ?? dialect.beatSeconds * 1000, signal);
      if (!signal.aborted) await this.beat();
    }
  }

  /** Send a heartbeat now instead of at the next interval. */
  soon(): void {
    this.#wakeUp.signal();
  }

  /** Heartbeats run one after another, also when a caller asks for one in between. */
  beat(): Promise<void> {
    const beaten = this.#last.then(() => this.#beat());
    this.#last = beaten.catch(() => undefined);
    return beaten;
  }

  /** The last heartbeat: writes the remaining counts and removes the process from the list. */
  async end(): Promise<void> {
    await this.#last;
    const { keys, identity, dialect, claims } = this.#context;
    await this.#flush();
    await this.#context.run(wire.writes(presence.sayGoodbye(keys, identity, dialect)));
    const own = { claims: claimsKey(keys, identity), claimants: keys.claimants, begun: keys.begun };
    await this.#context.run(forgetClaimant(own, identity));
    // Jobs that could not be given back need not wait until the heartbeat of this process expires.
    if (claims.size > 0) await this.#context.run(wire.writes([['UNLINK', keys.prefix + identity]]));
  }

  async #beat(): Promise<void> {
    const context = this.#context;
    const { keys, identity, dialect, options } = context;
    const work = [...context.working].map((one) => one.work);
    await this.#try('write what ran', () => this.#flush());
    await this.#try('show what runs', () =>
      context.run(wire.writes(presence.showWork(keys, identity, work, dialect, options.deadAfterSeconds), true)),
    );
    const sent = performance.now();
    await context.run(wire.writes([['PING']]));
    this.#rttMicros = Math.round((performance.now() - sent) * 1000);
    const heard = await this.#showProcess(work.length);
    context.paused = new Set(await context.run(wire.paused(keys)));
    if (this.#beats++ > 0 && !heard.known && options.fetch === 'reliable') await this.#wasTakenForDead();
    if (options.fetch === 'reliable') await this.#countClaims();
    if (heard.signal !== undefined) this.#obey(heard.signal);
    if (Date.now() >= this.#findPeersAt) {
      this.#findPeersAt = Date.now() + LOOK_AROUND_MS;
      await context.learnDialect();
    }
  }

  async #showProcess(busy: number): Promise<presence.Heard> {
    const context = this.#context;
    const { keys, identity, dialect, options } = context;
    try {
      return await context.run(
        presence.beat(keys, {
          identity,
          info: presence.infoText(this.#info(), dialect),
          concurrency: presence.concurrencyOf(context.capsules),
          busy,
          nowMs: Date.now(),
          rttMicros: this.#rttMicros,
          quiet: context.isQuiet,
          rssKilobytes: Math.round(process.memoryUsage.rss() / 1024),
          ttl: options.deadAfterSeconds,
        }),
      );
    } catch (error) {
      // A server that is out of memory accepts no new data, but a live process must not count as dead.
      const alive = wire.writes([['EXPIRE', keys.prefix + identity, options.deadAfterSeconds]]);
      await context.run(alive).catch(() => undefined);
      throw error;
    }
  }

  /** A write that the server refuses must not prevent the heartbeat. */
  async #try(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#context.log.warn({ error }, `could not ${what}`);
    }
  }

  async #flush(): Promise<void> {
    const context = this.#context;
    const { keys, dialect } = context;
    const { processed, failed } = context;
    context.processed = 0;
    context.failed = 0;
    const classes = context.metrics.take();
    const now = new Date();
    const commands = [
      ...presence.flushCounts(keys, { processed, failed }, now, dialect),
      ...flushMetrics(keys, classes, now, dialect),
    ];
    try {
      await context.run(wire.writes(commands));
    } catch (error) {
      // It is unknown whether the runs were counted. To count them twice is less wrong than not at all.
      context.processed += processed;
      context.failed += failed;
      context.metrics.giveBack(classes);
      throw error;
    }
  }

  #info(): presence.ProcessInfo {
    const { identity, host, startedAtMs, options, capsules } = this.#context;
    const { hostname = '', pid = 0 } = host?.identity ?? {};
    const { tag, labels, embedded } = options;
    return { identity, hostname, pid, startedAtMs, tag, labels, capsules, embedded, jobglot: version() };
  }

  /** The entry of this process had expired, so another process may have given its jobs to other workers. */
  async #wasTakenForDead(): Promise<void> {
    const lost = await this.#context.claims.verify();
    if (lost === 0) return;
    this.#context.log.warn(
      { jobs: lost },
      'this process did not beat for so long that it was taken for dead: jobs of it were given to others and may run twice. Was the event loop blocked, or Redis away?',
    );
  }

  /** Redis has more claims than this process knows of: a reply was lost. */
  async #countClaims(): Promise<void> {
    const { keys, identity, claims } = this.#context;
    const before = claims.size;
    const count = await this.#context.run({
      commands: [presence.countClaims(keys, identity)],
      atomic: false,
      read: ([reply]) => reply as number,
    });
    if (count > Math.max(before, claims.size)) await claims.recover();
  }

  #obey(signal: string): void {
    const { host, log, working } = this.#context;
    log.info({ signal }, 'a signal from the API');
    if (signal === 'TSTP') host?.quiet();
    else if (signal === 'TERM') host?.stop();
    else if (signal === 'TTIN' || signal === 'INFO')
      for (const { work } of working) log.info({ tid: work.tid, queue: work.queue, payload: work.payload }, 'running');
    else log.warn({ signal }, 'a signal that means nothing here');
  }
}
