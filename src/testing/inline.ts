import type { Registry } from '../task.ts';
import { CeleryInline, type CeleryInlineSettings, type CeleryTestOptions } from './celery.ts';
import { entryOf } from './recorder.ts';
import { ResqueInline, type ResqueInlineSettings, type ResqueTestOptions } from './resque.ts';
import { RqInline, type RqInlineSettings, type RqTestOptions } from './rq.ts';
import type { InlineSettings } from './runs.ts';
import { SidekiqInline, type SidekiqTestOptions } from './sidekiq.ts';

/** The inline client of each system, and its options. */
export interface Inlines {
  readonly celery: { readonly client: CeleryInline; readonly options: CeleryTestOptions & CeleryInlineSettings };
  readonly rq: { readonly client: RqInline; readonly options: RqTestOptions & RqInlineSettings };
  readonly sidekiq: { readonly client: SidekiqInline; readonly options: SidekiqTestOptions & InlineSettings };
  readonly resque: { readonly client: ResqueInline; readonly options: ResqueTestOptions & ResqueInlineSettings };
}

/** Options of an inline client of Celery. */
export type InlineOptions = Inlines['celery']['options'];

type ByConstructor = {
  readonly [System in keyof Inlines]: new (
    tasks: Registry,
    options?: Inlines[System]['options'],
  ) => Inlines[System]['client'];
};

const INLINES: ByConstructor = {
  celery: CeleryInline,
  rq: RqInline,
  sidekiq: SidekiqInline,
  resque: ResqueInline,
};

/**
 * A client that runs each job as it is enqueued, with the handlers of `tasks`; see `CeleryInline`. The job is what the system's wire makes of the call, and
 * the system's own rules settle it: retries, `Fail`, `Discard`, `Postpone`, time limits. No delay is waited for. `runs` has every run. `enqueue` rejects with
 * UnknownTaskError for a task without a handler.
 */
export function inline(tasks: Registry, options?: InlineOptions & { readonly system?: 'celery' }): CeleryInline;
export function inline<System extends keyof Inlines>(
  tasks: Registry,
  options: Inlines[System]['options'] & { readonly system: System },
): Inlines[System]['client'];
export function inline(
  tasks: Registry,
  { system = 'celery', ...options }: { readonly system?: keyof Inlines } = {},
): Inlines[keyof Inlines]['client'] {
  return new (entryOf('inline', INLINES, system))(tasks, options);
}
