import { ConfigError } from '../errors.ts';
import { CeleryRecorder, type CeleryTestOptions } from './celery.ts';
import { ResqueRecorder, type ResqueTestOptions } from './resque.ts';
import { RqRecorder, type RqTestOptions } from './rq.ts';
import { SidekiqRecorder, type SidekiqTestOptions } from './sidekiq.ts';

/** The recorder of each system, and the options of its client that count without a server. */
export interface Recorders {
  readonly celery: { readonly client: CeleryRecorder; readonly options: CeleryTestOptions };
  readonly rq: { readonly client: RqRecorder; readonly options: RqTestOptions };
  readonly sidekiq: { readonly client: SidekiqRecorder; readonly options: SidekiqTestOptions };
  readonly resque: { readonly client: ResqueRecorder; readonly options: ResqueTestOptions };
}

type ByConstructor = {
  readonly [System in keyof Recorders]: new (options?: Recorders[System]['options']) => Recorders[System]['client'];
};

const RECORDERS: ByConstructor = {
  celery: CeleryRecorder,
  rq: RqRecorder,
  sidekiq: SidekiqRecorder,
  resque: ResqueRecorder,
};

/** A client that sends nothing and remembers what it would send; see `CeleryRecorder`. Throws ConfigError for options that its client refuses. */
export function recorder(options?: CeleryTestOptions): CeleryRecorder;
export function recorder<System extends keyof Recorders>(
  system: System,
  options?: Recorders[System]['options'],
): Recorders[System]['client'];
export function recorder(
  system: keyof Recorders | CeleryTestOptions = 'celery',
  options: object = typeof system === 'string' ? {} : system,
): Recorders[keyof Recorders]['client'] {
  const name = typeof system === 'string' ? system : 'celery';
  return new (entryOf('recorder', RECORDERS, name))(options);
}

/** Throws ConfigError for a system that is none. */
export function entryOf<Table extends object, Name extends keyof Table & string>(
  what: string,
  table: Table,
  name: Name,
): Table[Name] {
  if (Object.hasOwn(table, name)) return table[name];
  throw new ConfigError(`${what}: the system must be one of ${Object.keys(table).join(', ')}, not '${String(name)}'`);
}
