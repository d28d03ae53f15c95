import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from '../log.ts';
import type { Worker } from '../worker/worker.ts';
import { EXIT } from './exit.ts';
import type { Environment } from './system.ts';

export interface SignalOptions {
  readonly worker: Worker;
  readonly log: Logger;
  readonly env: Environment;
  readonly shutdownTimeoutMs: number;
  /** What the one system of this worker wants its signals to mean. */
  readonly own?: Readonly<Partial<Record<NodeJS.Signals, (worker: Worker, log: Logger) => void>>>;
  /** Ends the process without more ado. */
  readonly exit: (code: number) => void;
}

/**
 * What signals mean to a worker:
 *
 *     TERM, INT   stop within the deadline; again: stop now; once more: end
 *     QUIT        stop now: give running jobs back, exit 1. TERM too, where REMAP_SIGTERM=SIGQUIT
 *     TSTP        quiet: take nothing more, finish what runs, stay
 *     USR1        running jobs and the lag of the event loop, to the log
 *     HUP         ignored
 */
export class StopSignals {
  #code: number = EXIT.ok;
  #asked = 0;
  readonly #options: SignalOptions;
  readonly #lag = monitorEventLoopDelay({ resolution: 20 });
  readonly #installed: (readonly [NodeJS.Signals, () => void])[] = [];

  constructor(options: SignalOptions) {
    this.#options = options;
  }

  /** The exit code that what happened so far calls for. */
  get code(): number {
    return this.#code;
  }

  install(): void {
    this.#lag.enable();
    const { own = {}, worker, log } = this.#options;
    for (const [signal, meant] of Object.entries(own)) this.#on(signal as NodeJS.Signals, () => meant(worker, log));
    const cold = this.#options.env['REMAP_SIGTERM'] === 'SIGQUIT';
    this.#on('SIGTERM', () => (cold ? this.#cold('SIGTERM') : this.#stop('SIGTERM')));
    this.#on('SIGINT', () => this.#stop('SIGINT'));
    this.#on('SIGHUP', () => this.#options.log.info({}, 'SIGHUP is ignored; send SIGTERM to stop'));
    // Windows has no more than these.
    if (process.platform === 'win32') return;
    this.#on('SIGQUIT', () => this.#cold('SIGQUIT'));
    this.#on('SIGTSTP', () => this.#quiet());
    this.#on('SIGUSR1', () => this.#dump());
  }

  remove(): void {
    this.#lag.disable();
    for (const [signal, listener] of this.#installed) process.off(signal, listener);
  }

  /** Something threw where nobody catches: finish what can be finished, and end as a failure. */
  fatal(error: unknown): void {
    const { log, worker } = this.#options;
    this.#code = EXIT.failure;
    const stack = error instanceof Error ? error.stack : undefined;
    log.error({ error, ...(stack === undefined ? {} : { stack }) }, 'an error that nobody caught; stopping');
    if (worker.state === 'running' || worker.state === 'quiet') void worker.stop();
    else if (worker.state !== 'stopping') this.#options.exit(EXIT.failure);
  }

  /** The first meaning counts. */
  #on(signal: NodeJS.Signals, listener: () => void): void {
    if (this.#installed.some(([known]) => known === signal)) return;
    process.on(signal, listener);
    this.#installed.push([signal, listener]);
  }

  #stop(signal: string): void {
    const { worker, log, shutdownTimeoutMs } = this.#options;
    this.#asked++;
    if (this.#asked > 1) return this.#cold(signal);
    const running = worker.running.length;
    const jobs = `${running} running job${running === 1 ? '' : 's'}`;
    log.info(
      {},
      `${signal}: stopping${running === 0 ? '' : `; waiting up to ${shutdownTimeoutMs / 1000} s for ${jobs}. Again: stop now`}`,
    );
    void worker.stop();
  }

  #cold(signal: string): void {
    const { worker, log, exit } = this.#options;
    if (this.#code === EXIT.failure) {
      log.warn({}, `${signal} again: ending at once; what was not given back comes again by its system's recovery`);
      exit(EXIT.failure);
      return;
    }
    this.#code = EXIT.failure;
    this.#asked = Math.max(1, this.#asked);
    log.warn({}, `${signal}: stopping now, with ${worker.running.length} running`);
    void worker.stop({ timeoutMs: 0 });
  }

  #quiet(): void {
    const { worker, log } = this.#options;
    log.info({}, 'SIGTSTP: quiet; taking nothing more, finishing what runs');
    void worker.quiet();
  }

  #dump(): void {
    const { worker, log } = this.#options;
    const lag = this.#lag;
    const ms = (nanoseconds: number): number => Math.round(nanoseconds / 1e4) / 100;
    log.info(
      {
        state: worker.state,
        running: worker.running.map(({ task, id, queue, attempt }) => ({ task, id, queue, attempt })),
        health: worker.health.map((one) => ({
          ...one,
          silentMs: Number.isFinite(one.silentMs) ? Math.round(one.silentMs) : null,
        })),
        // The monitor counts its own 20 ms.
        loopLagMs: { mean: ms(lag.mean - 20e6), p99: ms(lag.percentile(99) - 20e6), max: ms(lag.max - 20e6) },
        memoryMb: Math.round(process.memoryUsage().rss / 1e5) / 10,
      },
      'SIGUSR1: what runs now',
    );
    lag.reset();
  }
}
