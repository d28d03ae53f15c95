import { repr } from '../../../../protocols/celery/message/repr.ts';
import { type BeatEntry, readEntry, type ScheduleLike } from '../../../../protocols/celery/schedule/schedule.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { anything, boolean, type Checks, checkOptions, record, unknownOption } from '../../../check.ts';
import { ConfigError } from '../../../errors.ts';
import { type Task, taskName } from '../../../task.ts';
import type { EnqueueOptions } from '../client/task-options.ts';

/** One entry of `beatSchedule`: `{ task: 'proj.report', schedule: crontab({ hour: 4, minute: 0 }), args: ['daily'] }`. */
export interface BeatScheduleEntry {
  readonly task: Task | string;
  /** `crontab(…)`, `interval(…)`, seconds, a text with cron's five fields, or a dictionary of any of these. */
  readonly schedule: ScheduleLike;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** The options of the call, under this client's names or Celery's: `{ queue: 'reports', expires: 3600 }`. */
  readonly options?: EnqueueOptions | Readonly<Record<string, unknown>>;
  /** For an interval: run times are rounded to whole days, hours, minutes or seconds. @default false */
  readonly relative?: boolean;
}

/** Entries by name: Celery's `beat_schedule`. The state of an entry is stored under its name. */
export type BeatSchedule = Readonly<Record<string, BeatScheduleEntry>>;

const ENTRY: Checks<BeatScheduleEntry> = {
  task: anything,
  schedule: anything,
  args: anything,
  kwargs: anything,
  options: record,
  relative: boolean,
};

/** Celery's names of an entry's options, and this client's names for them. */
const OPTIONS: Readonly<Record<string, keyof EnqueueOptions>> = {
  countdown: 'countdown',
  eta: 'eta',
  expires: 'expires',
  queue: 'queue',
  exchange: 'exchange',
  routing_key: 'routingKey',
  priority: 'priority',
  headers: 'headers',
  time_limit: 'timeLimit',
  soft_time_limit: 'softTimeLimit',
  ignore_result: 'ignoreResult',
  serializer: 'serializer',
  compression: 'compression',
  task_id: 'taskId',
  link: 'link',
  link_error: 'linkError',
  shadow: 'shadow',
  group_id: 'groupId',
  group_index: 'groupIndex',
  root_id: 'rootId',
  parent_id: 'parentId',
  reply_to: 'replyTo',
  argsrepr: 'argsrepr',
  kwargsrepr: 'kwargsrepr',
  retries: 'retries',
};

const CELERY_NAMES = new Map(Object.entries(OPTIONS).map(([celery, ours]) => [ours as string, celery]));

const NUMBERS: ReadonlySet<string> = new Set([
  'countdown',
  'expires',
  'priority',
  'timeLimit',
  'softTimeLimit',
  'groupIndex',
  'retries',
]);

/** The entries of a configuration, with their options under Celery's names. Throws ConfigError that names the entry. */
export function entriesOf(schedule: BeatSchedule): readonly BeatEntry[] {
  return Object.entries(schedule).map(([name, value]) => {
    try {
      checkOptions('celery', value, ENTRY);
      const task: unknown = (value as Partial<BeatScheduleEntry> | null)?.task;
      const named =
        typeof task === 'object' && task !== null ? { ...value, task: taskName(task as Task, 'celery') } : value;
      const entry = readEntry(name, named);
      return { ...entry, options: celeryOptions(entry.options) };
    } catch (cause) {
      if (!(cause instanceof WireError || cause instanceof ConfigError)) throw cause;
      throw new ConfigError(`celery: the beat entry '${name}': ${reasonOf(cause)}`, { cause });
    }
  });
}

function celeryOptions(options: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const known = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    known.map(([name, value]) => {
      if (Object.hasOwn(OPTIONS, name)) return [name, value];
      const celery = CELERY_NAMES.get(name);
      if (celery === undefined)
        throw new ConfigError(unknownOption(name, [...Object.keys(OPTIONS), ...CELERY_NAMES.keys()]));
      return [celery, value];
    }),
  );
}

/** The call of an entry, and the names of its options that this client does not know. */
export function callOf(entry: BeatEntry): {
  readonly call: EnqueueOptions & Pick<BeatEntry, 'args' | 'kwargs'>;
  readonly unknown: readonly string[];
} {
  // Celery's beat passes a list of arguments where apply_async mostly gets a tuple, and its argsrepr shows a list.
  const call: Record<string, unknown> = { args: entry.args, kwargs: entry.kwargs, argsrepr: repr(entry.args) };
  const unknown: string[] = [];
  for (const [name, value] of Object.entries(entry.options)) {
    const ours = Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : undefined;
    if (ours === undefined) unknown.push(name);
    else if (value !== null) call[ours] = NUMBERS.has(ours) && !(value instanceof Date) ? Number(value) : plain(value);
  }
  return { call: call as unknown as EnqueueOptions & Pick<BeatEntry, 'args' | 'kwargs'>, unknown };
}

/** Turns dictionaries into objects, which the options of a call need. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, member]) => [String(key), plain(member)]));
}

/** An error's message without the name of the system, for a message that already has it. */
export function reasonOf(error: unknown): string {
  return (error as Error).message.replace(/^(?:celery|timezone): /, '');
}
