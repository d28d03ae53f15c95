import type { PythonException } from '../outcome/exceptions.ts';
import { reprText } from '../../formats/python-repr.ts';

/**
 * The remote control commands of Celery 5.6: what each takes, by name on the wire and by place on a command line.
 * Source: celery/worker/control.py, celery/bin/control.py.
 */
export interface CommandSpec {
  readonly type: 'inspect' | 'control';
  /** The older name it answers to as well. */
  readonly alias?: string;
  readonly required: readonly string[];
  readonly optional: readonly string[];
  /** Arguments beyond these are ignored; without this they are an error. */
  readonly open: boolean;
  /** On a command line: named places, then all the rest under one name. */
  readonly places: readonly (readonly [name: string, kind: ArgumentKind])[];
  readonly rest?: string;
  readonly usage: string;
  readonly help: string;
  /** Seconds to wait for replies. @default 1 */
  readonly patience?: number;
  /** Not for people: workers ask each other. */
  readonly hidden?: true;
}

/** How an argument is read: `whole` is an integer, `flag` is true for `1`, `true`, `yes` and `on`, and else false. */
export type ArgumentKind = 'text' | 'number' | 'whole' | 'flag';

function inspect(help: string, more: Partial<CommandSpec> = {}): CommandSpec {
  return { ...PLAIN, type: 'inspect', help, ...more };
}

function control(help: string, more: Partial<CommandSpec> = {}): CommandSpec {
  return { ...PLAIN, type: 'control', help, ...more };
}

const PLAIN: Omit<CommandSpec, 'type' | 'help'> = { required: [], optional: [], open: true, places: [], usage: '' };
const IDS = '[id1 [id2 [... [idN]]]]';

/** Every command of `celery inspect` and `celery control`, by its name. Source: celery/worker/control.py (5.6). */
export const COMMANDS: ReadonlyMap<string, CommandSpec> = new Map([
  ['active', inspect('Tasks that run now', { alias: 'dump_active', optional: ['safe'] })],
  ['active_queues', inspect('Queues that are consumed', { open: false })],
  ['clock', inspect('The logical clock')],
  [
    'conf',
    inspect('Settings', {
      alias: 'dump_conf',
      optional: ['with_defaults'],
      places: [['with_defaults', 'flag']],
      usage: '[include_defaults=False]',
    }),
  ],
  [
    'hello',
    inspect('What workers tell each other at their start', {
      required: ['from_node'],
      optional: ['revoked'],
      hidden: true,
    }),
  ],
  [
    'memdump',
    inspect('The samples taken by memsample', {
      optional: ['samples'],
      places: [['samples', 'whole']],
      usage: '[n_samples=10]',
    }),
  ],
  ['memsample', inspect('Take a sample of the memory used')],
  [
    'objgraph',
    inspect('A graph of objects in memory (Python only)', {
      optional: ['num', 'max_depth', 'type'],
      open: false,
      places: [
        ['type', 'text'],
        ['num', 'whole'],
        ['max_depth', 'whole'],
      ],
      usage: '[object_type=Request] [num=200 [max_depth=10]]',
      patience: 60,
    }),
  ],
  ['ping', inspect('Who is there', { patience: 0.2 })],
  ['query_task', inspect('What is known of tasks by their ids', { required: ['ids'], rest: 'ids', usage: IDS })],
  [
    'registered',
    inspect('Tasks with a handler', {
      alias: 'dump_tasks',
      optional: ['taskinfoitems', 'builtins'],
      rest: 'taskinfoitems',
      usage: '[attr1 [attr2 [... [attrN]]]]',
    }),
  ],
  ['report', inspect('Versions and settings, for bug reports', { open: false })],
  ['reserved', inspect('Tasks that were received and do not run yet', { alias: 'dump_reserved' })],
  ['revoked', inspect('Ids of revoked tasks', { alias: 'dump_revoked' })],
  ['scheduled', inspect('Tasks that wait for their time', { alias: 'dump_schedule' })],
  ['stats', inspect('Counts, pool, broker and resources')],
  [
    'add_consumer',
    control('Consume from one more queue', {
      required: ['queue'],
      optional: ['exchange', 'exchange_type', 'routing_key'],
      places: [
        ['queue', 'text'],
        ['exchange', 'text'],
        ['exchange_type', 'text'],
        ['routing_key', 'text'],
      ],
      usage: '<queue> [exchange [type [routing_key]]]',
    }),
  ],
  [
    'autoscale',
    control('Change the limits of autoscale', {
      optional: ['max', 'min'],
      open: false,
      places: [
        ['max', 'whole'],
        ['min', 'whole'],
      ],
      usage: '[max [min]]',
    }),
  ],
  [
    'cancel_consumer',
    control('Consume from a queue no longer', { required: ['queue'], places: [['queue', 'text']], usage: '<queue>' }),
  ],
  ['disable_events', control('Send no more events of tasks', { open: false })],
  ['election', control('Hold an election', { required: ['id', 'topic'], optional: ['action'] })],
  ['enable_events', control('Send events of tasks', { open: false })],
  ['heartbeat', control('Send a heartbeat now', { open: false })],
  ['pool_grow', control('Run more tasks at once', { optional: ['n'], places: [['n', 'whole']], usage: '[N=1]' })],
  ['pool_restart', control('Restart the pool', { optional: ['modules', 'reload', 'reloader'] })],
  ['pool_shrink', control('Run fewer tasks at once', { optional: ['n'], places: [['n', 'whole']], usage: '[N=1]' })],
  [
    'rate_limit',
    control('Change the rate limit of a task', {
      required: ['task_name', 'rate_limit'],
      places: [
        ['task_name', 'text'],
        ['rate_limit', 'text'],
      ],
      usage: '<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>',
    }),
  ],
  [
    'revoke',
    control('Do not run tasks any more', {
      required: ['task_id'],
      optional: ['terminate', 'signal'],
      rest: 'task_id',
      usage: IDS,
    }),
  ],
  [
    'revoke_by_stamped_headers',
    control('Do not run tasks with these stamps any more', {
      required: ['headers'],
      optional: ['terminate', 'signal'],
      rest: 'headers',
      usage: '[key1=value1 [key2=value2 [... [keyN=valueN]]]]',
    }),
  ],
  ['shutdown', control('Stop when running tasks are done', { optional: ['msg'] })],
  [
    'terminate',
    control('Stop tasks, running ones too', {
      required: ['signal', 'task_id'],
      places: [['signal', 'text']],
      rest: 'task_id',
      usage: `<signal> ${IDS}`,
    }),
  ],
  [
    'time_limit',
    control('Change the time limits of a task', {
      optional: ['task_name', 'hard', 'soft'],
      places: [
        ['task_name', 'text'],
        ['soft', 'number'],
        ['hard', 'number'],
      ],
      usage: '<task_name> <soft_secs> [hard_secs]',
    }),
  ],
]);

const ALIASES: ReadonlyMap<string, string> = new Map(
  [...COMMANDS].flatMap(([name, { alias }]) => (alias === undefined ? [] : [[alias, name] as const])),
);

/** The command of a name or an older name. */
export function commandOf(method: string): { readonly name: string; readonly spec: CommandSpec } | undefined {
  const name = COMMANDS.has(method) ? method : ALIASES.get(method);
  const spec = name === undefined ? undefined : COMMANDS.get(name);
  return name === undefined || spec === undefined ? undefined : { name, spec };
}

/** What Python would raise for these arguments, in its words; undefined where they fit. */
export function misfit(
  name: string,
  { required, optional, open }: CommandSpec,
  given: Readonly<Record<string, unknown>>,
): PythonException | undefined {
  if (Object.hasOwn(given, 'state')) return typeError(`${name}() got multiple values for argument 'state'`);
  const known = new Set([...required, ...optional]);
  const stranger = open ? undefined : Object.keys(given).find((argument) => !known.has(argument));
  if (stranger !== undefined) return typeError(`${name}() got an unexpected keyword argument ${reprText(stranger)}`);
  const missing = required.filter((argument) => !Object.hasOwn(given, argument));
  if (missing.length === 0) return undefined;
  const plural = missing.length === 1 ? '' : 's';
  return typeError(`${name}() missing ${missing.length} required positional argument${plural}: ${listed(missing)}`);
}

/** `'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`. */
function listed(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`);
  const last = quoted.pop() as string;
  if (quoted.length === 0) return last;
  return quoted.length === 1 ? `${quoted[0]} and ${last}` : `${quoted.join(', ')}, and ${last}`;
}

function typeError(message: string): PythonException {
  return { type: 'TypeError', module: 'builtins', args: [message] };
}
