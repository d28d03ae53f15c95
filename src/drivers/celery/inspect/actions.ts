import { ConfigError } from '../../../errors.ts';
import type { Action, ActOptions, ActResult, InspectedJob, JobFilter, Target } from '../../../inspector.ts';
import type { CeleryBroker } from '../brokers/broker.ts';
import type { CeleryControl, ControlReplies } from '../control/control-client.ts';
import type { ResolvedApp } from '../options.ts';
import { jobOf, matches } from './jobs.ts';
import type { BrokerView, Found } from './view.ts';
import { TOLD_SETS, type ToldSet, type Workers } from './workers.ts';

/** Messages of one step of a long action. */
const STEP = 100;
/** How long a revoked id counts: Celery's `REVOKE_EXPIRES`. */
const REVOKE_SECONDS = 10_800;

export interface ActionsContext {
  readonly app: ResolvedApp;
  readonly broker: CeleryBroker;
  readonly view: BrokerView;
  /** Undefined where the broker has no broadcasts. */
  readonly control: CeleryControl | undefined;
  readonly workers: Workers | undefined;
  readonly timeoutMs: number;
  readonly scanLimit: number;
  readonly queueNames: () => Promise<readonly string[]>;
  /** Whether the result of a task says that it has ended. */
  readonly hasEnded: (ids: readonly string[]) => Promise<ReadonlySet<string>>;
}

interface Tally {
  done: number;
  readonly gone: string[];
  readonly refused: { readonly id: string; readonly reason: string }[];
}

type Taking = 'delete' | 'requeue' | 'run';

/** What an inspector does. Each message is taken in one step of the broker, so that two callers never do it twice. */
export class Actions {
  readonly #context: ActionsContext;

  constructor(context: ActionsContext) {
    this.#context = context;
  }

  async act(action: Action, target: Target, options: ActOptions): Promise<ActResult> {
    switch (action) {
      case 'delete':
      case 'requeue':
      case 'run':
        return this.#take(action, target, options);
      case 'cancel':
      case 'terminate':
        return this.#revoke(action, target, options);
      case 'pause':
      case 'resume':
        return this.#consume(action, target);
      case 'stop':
        return this.#stop(target);
      default:
        throw new ConfigError(`celery: there is no action '${action}'`);
    }
  }

  async #take(action: Taking, target: Target, options: ActOptions): Promise<ActResult> {
    const { view } = this.#context;
    if ('queue' in target && !('set' in target) && action === 'delete') {
      const count = await view.purge(target.queue);
      return count === undefined
        ? { done: 0, gone: [target.queue], refused: [] }
        : { done: count, gone: [], refused: [] };
    }
    const allowed = view.takes[action];
    if ('set' in target && target.set !== undefined && !allowed.includes(target.set))
      throw unfit(action, allowed.length === 0 ? 'a queue' : `jobs of ${allowed.join(', ')}`);
    if ('ids' in target) return this.#takeIds(action, target.ids, target.set === undefined ? allowed : [target.set]);
    if ('set' in target) return this.#takeSet(action, target, options);
    throw unfit(action, 'ids, a set or a queue');
  }

  async #takeIds(action: Taking, ids: readonly string[], sets: readonly string[]): Promise<ActResult> {
    if (this.#context.view.takes[action].length === 0)
      throw unfit(action, 'a queue: single messages cannot be seen here');
    const tally: Tally = { done: 0, gone: [], refused: [] };
    const { found, cut } = await this.#search(ids, sets);
    const held = await this.#held(action, [...found.values()]);
    // Messages that a worker holds are not this caller's to remove.
    const claimed = action === 'delete' && found.size < ids.length ? await this.#claimed(ids) : new Set<string>();
    for (const id of ids) {
      const message = found.get(id);
      const holder = held.get(id);
      if (holder !== undefined) tally.refused.push({ id, reason: `${holder} holds it` });
      else if (message !== undefined && (await this.#context.view.take(action, message))) tally.done++;
      else if (message === undefined && claimed.has(id))
        tally.refused.push({ id, reason: 'a worker has it; cancel it instead' });
      else if (message === undefined && cut)
        tally.refused.push({ id, reason: `not among the first ${this.#context.scanLimit} messages` });
      else tally.gone.push(id);
    }
    return tally;
  }

  async #takeSet(
    action: Taking,
    { set, queue, filter }: { readonly set: string; readonly queue?: string; readonly filter?: JobFilter },
    { onProgress, signal }: ActOptions,
  ): Promise<ActResult> {
    const { view, app } = this.#context;
    const queues = queue === undefined ? await this.#context.queueNames() : [queue];
    const total = filter === undefined && queue === undefined ? (await view.sizes(queues)).sets[set] : undefined;
    const tally: Tally = { done: 0, gone: [], refused: [] };
    const failed = new Set<string>();
    const keyOf = (found: Found, job: InspectedJob): string => `${found.handle}\n${job.id}`;
    const isStopped = (): boolean => signal?.aborted === true;
    for (let before = -1; before < tally.done && !isStopped();) {
      // Others may take messages meanwhile, so that a position skips some: go round until a round finds nothing.
      before = tally.done;
      let position = '';
      while (!isStopped()) {
        const page = await view.page(set, queues, position, STEP);
        const some = page
          .map((found) => ({ found, job: jobOf(found, app) }))
          .filter(({ found, job }) => !failed.has(keyOf(found, job)) && matches(job, filter ?? {}));
        const held = await this.#held(
          action,
          some.map(({ found }) => found),
        );
        let taken = 0;
        for (const { found, job } of some) {
          const holder = held.get(job.id);
          if (holder === undefined && (await view.take(action, found))) taken++;
          else failed.add(keyOf(found, job));
          if (holder !== undefined) tally.refused.push({ id: job.id, reason: `${holder} holds it` });
        }
        tally.done += taken;
        if (some.length > 0) onProgress?.({ done: tally.done, total });
        const last = page.at(-1);
        if (taken > 0) continue;
        if (last === undefined || page.length < STEP) break;
        position = last.after;
      }
    }
    return tally;
  }

  /** Jobs that a living worker holds, by id; only claims can be held. */
  async #held(action: Taking, found: readonly Found[]): Promise<ReadonlyMap<string, string>> {
    const { workers, app } = this.#context;
    const claims = found.filter(({ set }) => set === 'unacked');
    if (action !== 'requeue' || workers === undefined || claims.length === 0) return new Map();
    const told = await workers.query(claims.map((claim) => jobOf(claim, app).id));
    return new Map([...told].map(([id, { worker }]) => [id, worker ?? 'a worker']));
  }

  async #claimed(ids: readonly string[]): Promise<ReadonlySet<string>> {
    if (!this.#context.view.sets.some(({ name }) => name === 'unacked')) return new Set();
    return new Set((await this.#search(ids, ['unacked'])).found.keys());
  }

  /** Looks for messages by id, `scanLimit` in each set at most. */
  async #search(
    ids: readonly string[],
    sets: readonly string[],
  ): Promise<{ readonly found: ReadonlyMap<string, Found>; readonly cut: boolean }> {
    const { view, app, scanLimit, queueNames } = this.#context;
    const wanted = new Set(ids);
    const found = new Map<string, Found>();
    const queues = await queueNames();
    let cut = false;
    for (const set of sets) {
      let position = '';
      for (let seen = 0; found.size < wanted.size;) {
        const page = await view.page(set, queues, position, STEP);
        for (const one of page) {
          const { id } = jobOf(one, app);
          if (wanted.has(id) && !found.has(id)) found.set(id, one);
        }
        seen += page.length;
        const last = page.at(-1);
        if (last === undefined || page.length < STEP) break;
        if (seen >= scanLimit) {
          cut = true;
          break;
        }
        position = last.after;
      }
    }
    return { found, cut };
  }

  async #revoke(
    action: 'cancel' | 'terminate',
    target: Target,
    { onProgress, signal }: ActOptions,
  ): Promise<ActResult> {
    if ('ids' in target) return this.#revokeIds(action, await this.#known(action, target.ids, target.set));
    if (!('set' in target)) throw unfit(action, 'ids or a set');
    const { set, queue, filter = {} } = target;
    const tally: Tally = { done: 0, gone: [], refused: [] };
    const isTold = TOLD_SETS.includes(set as ToldSet);
    if (!isTold && (action === 'terminate' || !this.#context.view.sets.some(({ name }) => name === set)))
      throw unfit(action, `jobs of ${TOLD_SETS.join(', ')}`);
    for await (const jobs of isTold ? this.#toldJobs(set as ToldSet) : this.#storedJobs(set, queue)) {
      if (signal?.aborted === true) break;
      const ids = jobs
        .filter((job) => (queue === undefined || job.queue === queue) && matches(job, filter))
        .map(({ id }) => id);
      if (ids.length === 0) continue;
      const { done, refused } = await this.#revokeIds(action, { ids, gone: [] });
      tally.done += done;
      tally.refused.push(...refused);
      onProgress?.({ done: tally.done, total: undefined });
    }
    return tally;
  }

  async *#toldJobs(set: ToldSet): AsyncGenerator<readonly InspectedJob[]> {
    const jobs = (await this.#context.workers?.jobs(set)) ?? [];
    for (let at = 0; at < jobs.length; at += STEP) yield jobs.slice(at, at + STEP);
  }

  async *#storedJobs(set: string, queue: string | undefined): AsyncGenerator<readonly InspectedJob[]> {
    const { view, app, queueNames } = this.#context;
    const queues = queue === undefined ? await queueNames() : [queue];
    for (let position: string | undefined = ''; position !== undefined;) {
      const page: readonly Found[] = await view.page(set, queues, position, STEP);
      yield page.map((found) => jobOf(found, app));
      position = page.length < STEP ? undefined : page.at(-1)?.after;
    }
  }

  /** Which of these ids are somewhere. Where messages cannot be listed, an id counts as there until its result says that it has ended. */
  async #known(
    action: 'cancel' | 'terminate',
    ids: readonly string[],
    set: string | undefined,
  ): Promise<{ readonly ids: readonly string[]; readonly gone: readonly string[] }> {
    const { view, workers, hasEnded } = this.#context;
    const told = (await workers?.query(ids)) ?? new Map<string, InspectedJob>();
    let there = (id: string): boolean => told.has(id);
    if (action === 'cancel') {
      const sets = view.sets.map(({ name }) => name).filter((name) => name !== 'quarantine' && (set ?? name) === name);
      const missing = ids.filter((id) => !told.has(id));
      const { found, cut } = await this.#search(missing, sets);
      const unseen = cut || view.sets.length === 0;
      const ended = unseen ? await hasEnded(missing) : new Set<string>();
      there = (id) => told.has(id) || found.has(id) || (unseen && !ended.has(id));
    }
    return { ids: ids.filter(there), gone: ids.filter((id) => !there(id)) };
  }

  async #revokeIds(
    action: 'cancel' | 'terminate',
    { ids, gone }: { readonly ids: readonly string[]; readonly gone: readonly string[] },
  ): Promise<ActResult> {
    if (ids.length === 0) return { done: 0, gone, refused: [] };
    const { broker } = this.#context;
    await broker.revokes?.remember(ids, Date.now() / 1000 + REVOKE_SECONDS);
    const replies = await this.#control().revoke(ids, { terminate: action === 'terminate' }, this.#patience());
    if (replies.size > 0 || broker.revokes !== undefined) return { done: ids.length, gone, refused: [] };
    const reason =
      'no worker heard it; a worker that starts later would run the task (revokedKey keeps what is revoked)';
    return { done: 0, gone, refused: ids.map((id) => ({ id, reason })) };
  }

  async #consume(action: 'pause' | 'resume', target: Target): Promise<ActResult> {
    if ('all' in target && action === 'resume')
      throw new ConfigError(
        'celery: resume needs the name of a queue; workers do not know which queues they consumed before',
      );
    const isQueue = 'queue' in target && !('set' in target);
    if (!isQueue && !('all' in target)) throw unfit(action, 'a queue');
    const names = isQueue ? [target.queue] : [...((await this.#context.workers?.queues())?.consumers.keys() ?? [])];
    const tally: Tally = { done: 0, gone: [], refused: [] };
    for (const name of names) {
      const control = this.#control();
      const replies: ControlReplies = await (action === 'pause'
        ? control.cancelConsumer(name, this.#patience())
        : control.addConsumer(name, this.#patience()));
      const answers = [...replies.values()] as readonly { readonly error?: string }[];
      const [wrong] = answers.map(({ error }) => error).filter((error) => error !== undefined);
      if (answers.length === 0) tally.gone.push(name);
      else if (answers.every(({ error }) => error !== undefined)) tally.refused.push({ id: name, reason: wrong ?? '' });
      else tally.done++;
    }
    return tally;
  }

  async #stop(target: Target): Promise<ActResult> {
    const control = this.#control();
    if ('all' in target) {
      const { size } = await control.ping(this.#patience());
      await control.shutdown();
      return { done: size, gone: [], refused: [] };
    }
    if (!('worker' in target)) throw unfit('stop', 'a worker');
    const { worker } = target;
    if ((await this.#context.workers?.isThere(worker)) !== true) return { done: 0, gone: [worker], refused: [] };
    await control.shutdown({ destination: [worker] });
    return { done: 1, gone: [], refused: [] };
  }

  #control(): CeleryControl {
    const { control, broker } = this.#context;
    if (control === undefined) throw new ConfigError(`celery: ${broker.address} carries no remote control`);
    return control;
  }

  #patience(): { readonly timeoutMs: number } {
    return { timeoutMs: this.#context.timeoutMs };
  }
}

function unfit(action: Action, what: string): ConfigError {
  return new ConfigError(`celery: ${action} is done to ${what}`);
}
