import type { Disposition, Job, Outcome } from '../../protocols/job.ts';
import type { PoisonReport } from '../source.ts';

/** The states of a worker. `quiet`: it takes no more jobs, and running handlers go on. `stopping`: it ends once they have ended. */
export type WorkerState = 'idle' | 'running' | 'quiet' | 'stopping' | 'stopped';

/** Events of a worker. Each is also published on `diagnostics_channel` as `jobglot:<name>`. */
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
  /** A message that is not a job was quarantined. */
  'job:poison': PoisonReport;
  'source:down': { readonly system: string; readonly error: unknown };
  'source:up': { readonly system: string };
  'agent:failed': { readonly agent: string; readonly error: unknown };
}
