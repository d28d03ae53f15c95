import { hostname } from 'node:os';
import type * as wire from '../../../protocols/rq/presence.ts';
import type { WorkerChange } from '../../../protocols/rq/redis.ts';
import { RenewingMap, RenewingSet } from '../../renewing.ts';
import { version as ownVersion } from '../../version.ts';
import type { RqDelivery } from './delivery.ts';

/**
 * What this worker runs, and how RQ shows it: as one worker, with the longest-running job as its current one. RQ 2.12 can show only one job for a
 * worker; later versions read all of them from `rq:worker:W:executions`.
 */
export class Presence {
  readonly name: string;
  record: wire.WorkerRecord;
  /** By execution, the oldest first. */
  readonly #running = new RenewingMap<string, RqDelivery>();
  /** Runs whose settlement is being written, so they are almost over. */
  readonly #settling = new RenewingSet<string>();
  #suspended = false;
  #shownState: wire.WorkerState = 'started';
  #shownJob: string | undefined;

  constructor(name: string, queues: readonly string[]) {
    this.name = name;
    const { pid, version } = process;
    this.record = {
      name,
      queues,
      birth: new Date(),
      pid,
      hostname: hostname(),
      ipAddress: 'unknown',
      version: `jobglot ${ownVersion()}`,
      pythonVersion: `node ${version}`,
    };
  }

  /** `address:port` of the worker's connection. */
  set address(ipAddress: string) {
    this.record = { ...this.record, ipAddress };
  }

  get size(): number {
    return this.#running.size;
  }
  get deliveries(): Iterable<RqDelivery> {
    return this.#running.values();
  }
  get suspended(): boolean {
    return this.#suspended;
  }
  set suspended(value: boolean) {
    this.#suspended = value;
  }
  get state(): wire.WorkerState {
    return this.#current() !== undefined ? 'busy' : this.#suspended ? 'suspended' : 'idle';
  }

  has(execution: string): boolean {
    return this.#running.has(execution);
  }
  /** Whether the run is here and its settlement is not being written. */
  isRunning(execution: string): boolean {
    return this.#running.has(execution) && !this.#settling.has(execution);
  }
  add(delivery: RqDelivery): void {
    this.#running.set(delivery.run.execution, delivery);
  }
  settling(delivery: RqDelivery, underWay: boolean): void {
    if (underWay) this.#settling.add(delivery.run.execution);
    else this.#settling.delete(delivery.run.execution);
  }
  remove(delivery: RqDelivery): void {
    this.#running.delete(delivery.run.execution);
    this.#settling.delete(delivery.run.execution);
  }

  /** The changes since the last call, which then count as shown. Undefined if nothing changed. */
  change(): WorkerChange | undefined {
    const { state } = this;
    const job = this.#current()?.job.id;
    if (state === this.#shownState && job === this.#shownJob) return undefined;
    const change: WorkerChange = {
      worker: this.name,
      ...(state === this.#shownState ? {} : { state }),
      ...(job === this.#shownJob ? {} : { currentJob: job ?? null }),
    };
    this.#shownState = state;
    this.#shownJob = job;
    return change;
  }

  /** The data of a sign of life. `ttl`: how long it keeps the runs alive. `idleTtl`: how long it keeps a worker without runs. */
  beat(
    ttl: number,
    idleTtl: number,
    now: Date,
  ): { readonly runs: readonly wire.Beat[]; readonly options: wire.HeartbeatOptions } {
    const current = this.#current();
    const workingTime = current === undefined ? 0 : (now.getTime() - current.run.startedAt.getTime()) / 1000;
    this.#shownState = this.state;
    this.#shownJob = current?.job.id;
    return {
      runs: Array.from(this.#running.values(), ({ job, run }) => ({
        id: job.id,
        execution: run.execution,
        queue: run.queue,
      })),
      options: {
        record: this.record,
        state: this.#shownState,
        currentJob: this.#shownJob,
        workingTime,
        ttl,
        workerTtl: this.#running.size > 0 ? ttl : idleTtl,
        now,
      },
    };
  }

  #current(): RqDelivery | undefined {
    for (const [execution, delivery] of this.#running) if (!this.#settling.has(execution)) return delivery;
    return undefined;
  }
}
