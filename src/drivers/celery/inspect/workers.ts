import { DateTime } from '../../../../protocols/formats/values.ts';
import { parseIso } from '../../../../protocols/formats/values.ts';
import type { InspectedJob, WorkerInfo } from '../../../inspector.ts';
import type { CeleryControl, ControlReplies, TaskInfo } from '../control/control-client.ts';
import { toldJob } from './jobs.ts';

/** Sets that only workers know. */
export const TOLD_SETS = ['active', 'reserved', 'scheduled'] as const;
export type ToldSet = (typeof TOLD_SETS)[number];

/** What workers answer within their time. One that does not answer is not there. */
export class Workers {
  readonly #control: CeleryControl;
  readonly #timeoutMs: number;

  constructor(control: CeleryControl, timeoutMs: number) {
    this.#control = control;
    this.#timeoutMs = timeoutMs;
  }

  /** The jobs of one set, by id. */
  async jobs(set: ToldSet): Promise<readonly InspectedJob[]> {
    const replies: ControlReplies = await this.#ask(set);
    return [...replies]
      .flatMap(([node, reply]) =>
        listOf(reply).map((one) => {
          if (set !== 'scheduled') return toldJob(set, node, one as Partial<TaskInfo>, undefined);
          const { eta, request } = one as { readonly eta?: unknown; readonly request?: Partial<TaskInfo> };
          return toldJob(set, node, request ?? {}, dateOf(eta));
        }),
      )
      .toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  }

  /** What the workers know of these ids. */
  async query(ids: readonly string[]): Promise<ReadonlyMap<string, InspectedJob>> {
    const found = new Map<string, InspectedJob>();
    const [replies, waiting] = await Promise.all([
      this.#control.queryTask(ids, { timeoutMs: this.#timeoutMs }),
      this.jobs('scheduled'),
    ]);
    for (const [node, reply] of replies) {
      for (const [id, entry] of Object.entries(isRecord(reply) ? reply : {})) {
        const [state, info] = entry as readonly [unknown, Partial<TaskInfo>];
        // Since it ended, a worker may still know a task; it is not held any more.
        if (state === 'active' || state === 'reserved') found.set(id, toldJob(state, node, info, undefined));
      }
    }
    // Those that wait for their time are reserved ones in Python, and not among the answers of Node.
    for (const job of waiting) if (ids.includes(job.id) && found.get(job.id)?.set !== 'active') found.set(job.id, job);
    return found;
  }

  /** Names of queues that workers consume, and how many workers consume each. */
  async queues(): Promise<{ readonly workers: number; readonly consumers: ReadonlyMap<string, number> }> {
    const replies: ControlReplies = await this.#ask('active_queues');
    const consumers = new Map<string, number>();
    for (const [, reply] of replies)
      for (const queue of new Set(queueNames(reply))) consumers.set(queue, (consumers.get(queue) ?? 0) + 1);
    return { workers: replies.size, consumers };
  }

  /** Counts, in four questions that go out together. */
  async totals(): Promise<{
    readonly counts: Readonly<Record<ToldSet, number>>;
    readonly workers: number;
    readonly busy: number;
    readonly processed: number | undefined;
  }> {
    const [stats, ...sets] = await Promise.all([this.#ask('stats'), ...TOLD_SETS.map((set) => this.#ask(set))]);
    const [active = 0, reserved = 0, scheduled = 0] = sets.map((replies) =>
      [...replies.values()].reduce((sum: number, reply) => sum + listOf(reply).length, 0),
    );
    const busy = [...(sets[0] ?? new Map<string, unknown>()).values()].filter(
      (reply) => listOf(reply).length > 0,
    ).length;
    const totals = [...stats.values()].map((reply) =>
      isRecord(reply) && isRecord(reply['total']) ? reply['total'] : {},
    );
    const processed = totals
      .flatMap((total) => Object.values(total))
      .reduce((sum: number, one) => sum + Number(one), 0);
    return {
      counts: { active, reserved, scheduled },
      workers: stats.size,
      busy,
      processed: stats.size === 0 ? undefined : processed,
    };
  }

  async all(): Promise<readonly WorkerInfo[]> {
    const [stats, active, queues, report] = await Promise.all(
      ['stats', 'active', 'active_queues', 'report'].map((method) => this.#ask(method)),
    );
    const now = Date.now();
    return [...(stats as ControlReplies)].map(([node, reply]): WorkerInfo => {
      const { pid, uptime, pool } = (isRecord(reply) ? reply : {}) as {
        readonly pid?: unknown;
        readonly uptime?: unknown;
        readonly pool?: Readonly<Record<string, unknown>>;
      };
      const { language, version } = softwareOf(report?.get(node));
      const running = listOf(active?.get(node)).map((one) => {
        const { id, task, queue, startedAt } = toldJob('active', node, one as Partial<TaskInfo>, undefined);
        return { id, task, queue, startedAt };
      });
      return {
        id: node,
        hostname: node.split('@')[1],
        pid: typeof pid === 'number' ? pid : undefined,
        language,
        version,
        queues: queueNames(queues?.get(node)),
        concurrency: typeof pool?.['max-concurrency'] === 'number' ? pool['max-concurrency'] : undefined,
        startedAt: typeof uptime === 'number' ? new Date(now - uptime * 1000) : undefined,
        seenAt: new Date(now),
        state: running.length > 0 ? 'busy' : 'idle',
        running,
      };
    });
  }

  /** A worker of this name answers. */
  async isThere(node: string): Promise<boolean> {
    const replies = await this.#control.ping({ destination: [node], timeoutMs: this.#timeoutMs, limit: 1 });
    return replies.size > 0;
  }

  #ask(method: string): Promise<ControlReplies> {
    return this.#control.call(method, {}, { timeoutMs: this.#timeoutMs });
  }
}

/** The first line of a report: `software -> celery:5.6.0 (…) kombu:… py:3.12.1`, `software -> jobglot:0.1.0 node:…`. */
function softwareOf(reply: unknown): { readonly language: string | undefined; readonly version: string | undefined } {
  const text = isRecord(reply) ? String(reply['ok']) : '';
  const [, name, version] = /software -> (\w+):(\S+)/.exec(text) ?? [];
  if (name === undefined) return { language: undefined, version: undefined };
  return { language: name === 'jobglot' ? 'Node' : 'Python', version: `${name} ${version}` };
}

function queueNames(reply: unknown): readonly string[] {
  return listOf(reply)
    .map((queue) => (isRecord(queue) ? queue['name'] : undefined))
    .filter((name) => typeof name === 'string');
}

function listOf(reply: unknown): readonly unknown[] {
  return Array.isArray(reply) ? reply : [];
}

function dateOf(eta: unknown): Date | undefined {
  const iso = eta instanceof DateTime ? eta.iso : eta;
  const ms = typeof iso === 'string' ? parseIso(iso) : Number.NaN;
  return Number.isNaN(ms) ? undefined : new Date(ms);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
