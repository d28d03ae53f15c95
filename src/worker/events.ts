import type { Disposition, Job, Outcome } from '../../protocols/job.ts';
import type { PoisonReport } from '../source.ts';

/** The life of a worker. `quiet`: it takes nothing more, and what runs goes on; `stopping`: it ends once that is done. */
export type WorkerState = 'idle' | 'running' | 'quiet' | 'stopping' | 'stopped';

/** What a worker tells. Each is also published on `diagnostics_channel` as `jobglot:<name>`. */
export interface WorkerEvents {
  'worker:state': { readonly state: WorkerState };
  'job:started': { readonly system: string; readonly job: Job };
  'job:settled': {
    readonly system: string;
    readonly job: Job;
    readonly outcome: Outcome;
    readonly disposition: Disposition;
    /** Milliseconds the handler ran. */
    readonly ms: number;
  };
  /** Given back without a run counted. */
  'job:released': { readonly system: string; readonly job: Job };
  /** The outcome could not be written; it is tried again while the worker lives. */
  'job:unsettled': { readonly system: string; readonly job: Job; readonly error: unknown };
  /** A message that is not a job was set aside. */
  'job:poison': PoisonReport;
  'source:down': { readonly system: string; readonly error: unknown };
  'source:up': { readonly system: string };
  'agent:failed': { readonly agent: string; readonly error: unknown };
}
