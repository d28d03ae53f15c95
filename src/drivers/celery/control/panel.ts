import { constants, uptime } from 'node:os';
import { commandOf, misfit } from '../../../../protocols/celery/control/commands.ts';
import type { LamportClock } from '../../../../protocols/celery/control/clock.ts';
import { type PythonException, reprException } from '../../../../protocols/celery/outcome/exceptions.ts';
import type { TaskMessage } from '../../../../protocols/celery/message/message.ts';
import { repr } from '../../../../protocols/celery/message/repr.ts';
import { reprText } from '../../../../protocols/formats/python-repr.ts';
import { float, isoText } from '../../../../protocols/formats/values.ts';
import type { Logger } from '../../../log.ts';
import type { QueueSpec } from '../brokers/broker.ts';
import type { EventDispatcher } from './dispatcher.ts';
import type { DelayedRequest, Requests } from '../consumer/requests.ts';
import { taskInfo } from '../consumer/requests.ts';
import { isStamped, type Revoked } from '../consumer/revoked.ts';
import { queueInfo } from './self-report.ts';

/** The parts of a worker that commands can read and change. */
export interface Controlled {
  readonly nodename: string;
  readonly clock: LamportClock;
  readonly requests: Requests;
  readonly revoked: Revoked;
  readonly events: EventDispatcher;
  log(): Logger;
  queues(): readonly QueueSpec[];
  concurrency(): number;
  /** Tasks that wait for their eta. */
  scheduled(): readonly { readonly eta: Date; readonly message: TaskMessage }[];
  taskNames(builtins: boolean): readonly string[];
  isTask(name: string): boolean;
  /** An attribute of a task under Celery's name, or undefined. */
  attributeOf(task: string, attribute: string): unknown;
  stats(): unknown;
  settings(withDefaults: boolean): unknown;
  report(): string;
  /** Stores REVOKED for these ids. If the worker has a place for revoked ids that outlives it, the ids are stored there too. */
  recordRevoked(ids: readonly string[]): Promise<void>;
  /** Aborts a job; with `waiting`, only a job that does not run yet. */
  cancel(id: string, reason: 'revoked' | 'terminated', which: 'any' | 'waiting'): void;
  /** Changes the number of jobs that run at once by `by`, which may be negative. */
  resize(by: number): void;
  limitRate(task: string, rate: number | string): void;
  limitTime(task: string, limits: { readonly hard: number | undefined; readonly soft: number | undefined }): void;
  /** Undefined where the broker cannot change its queues while it runs. */
  addQueue?(queue: QueueSpec): Promise<void>;
  removeQueue?(name: string): Promise<void>;
  /** Undefined where the worker does not listen to other workers. */
  elect?(id: string, topic: string, action: unknown): void;
  stop(): void;
}

type Arguments = Readonly<Record<string, unknown>>;

/** Thrown by a command where Celery would raise an exception. The reply is `{'error': repr}`. */
class Raised extends Error {
  readonly exception: PythonException;
  constructor(type: string, message: string) {
    super(message);
    this.exception = { type, module: 'builtins', args: [message] };
  }
}

/** No answer. Celery does not answer `shutdown` either. */
export const NO_REPLY: unique symbol = Symbol('no reply');

/** Runs a command. An error becomes a reply too. Never rejects. Source: celery/worker/control.py, kombu/pidbox.py Node.dispatch (5.6). */
export async function answer(worker: Controlled, method: string, given: Arguments): Promise<unknown> {
  const command = commandOf(method);
  const run = command === undefined ? undefined : PANEL.get(command.name);
  if (command === undefined || run === undefined) {
    worker.log().error({ method: method.slice(0, 100) }, 'there is no such control command');
    return failed(`KeyError(${reprText(method.slice(0, 200))})`);
  }
  const unfit = misfit(command.name, command.spec, given);
  if (unfit !== undefined) return failed(reprException(unfit));
  try {
    return await run(worker, given);
  } catch (error) {
    if (error instanceof Raised) return failed(reprException(error.exception));
    worker.log().error({ method, error }, 'a control command failed');
    return failed(`RuntimeError(${reprText(error instanceof Error ? error.message : 'the command failed')})`);
  }
}

const PANEL: ReadonlyMap<string, (worker: Controlled, given: Arguments) => unknown> = new Map<
  string,
  (worker: Controlled, given: Arguments) => unknown
>([
  ['ping', () => ok('pong')],
  ['clock', ({ clock }) => ({ clock: clock.value })],
  ['stats', (worker) => worker.stats()],
  ['conf', (worker, { with_defaults: all }) => worker.settings(isTrue(all))],
  ['report', (worker) => ok(worker.report())],
  ['active_queues', (worker) => worker.queues().map(queueInfo)],
  [
    'active',
    ({ requests, nodename }, { safe }) =>
      requests.active.map((held) => taskInfo(held.message, nodename, held, isTrue(safe))),
  ],
  ['reserved', ({ requests, nodename }) => requests.reserved.map((held) => taskInfo(held.message, nodename, held))],
  [
    'scheduled',
    (worker) =>
      worker.scheduled().map(({ eta, message }) => ({
        eta: isoText(eta),
        priority: 6,
        request: taskInfo(message, worker.nodename),
      })),
  ],
  ['revoked', ({ revoked }) => revoked.ids],
  ['registered', registered],
  ['query_task', queryTask],
  ['hello', hello],
  ['memsample', memsample],
  ['memdump', memdump],
  [
    'objgraph',
    () => {
      throw new Raised('ImportError', 'Requires the objgraph library');
    },
  ],
  ['revoke', (worker, { task_id: id, terminate, signal }) => revoke(worker, id, isTrue(terminate), signal)],
  ['terminate', (worker, { task_id: id, signal }) => revoke(worker, id, true, signal)],
  ['revoke_by_stamped_headers', revokeByStamps],
  ['rate_limit', rateLimit],
  ['time_limit', timeLimit],
  [
    'enable_events',
    ({ events }) => ok(events.switchTasks(true) ? 'task events enabled' : 'task events already enabled'),
  ],
  [
    'disable_events',
    ({ events }) => ok(events.switchTasks(false) ? 'task events disabled' : 'task events already disabled'),
  ],
  ['heartbeat', ({ events }) => events.beat()],
  ['election', (worker, { id, topic, action }) => worker.elect?.(textOf(id, 'id'), textOf(topic, 'topic'), action)],
  ['pool_grow', (worker, { n = 1 }) => resize(worker, n, 1)],
  ['pool_shrink', (worker, { n = 1 }) => resize(worker, n, -1)],
  [
    'pool_restart',
    () => {
      throw new Raised('ValueError', 'Pool restarts not enabled');
    },
  ],
  [
    'autoscale',
    () => {
      throw new Raised('ValueError', 'Autoscale not enabled');
    },
  ],
  ['add_consumer', addConsumer],
  ['cancel_consumer', cancelConsumer],
  [
    'shutdown',
    (worker, { msg }) => {
      worker
        .log()
        .warn({}, typeof msg === 'string' ? msg.slice(0, 500) : 'stopping: a remote control command asks for it');
      worker.stop();
      return NO_REPLY;
    },
  ],
]);

const DEFAULT_ITEMS: readonly string[] = ['exchange', 'routing_key', 'rate_limit'];

/** `name`, or `name [attribute=value …]` for the attributes that are set. */
function registered(worker: Controlled, { taskinfoitems, builtins }: Arguments): readonly string[] {
  const wanted = list(taskinfoitems).filter((item) => typeof item === 'string');
  const items = wanted.length > 0 ? wanted : DEFAULT_ITEMS;
  return worker.taskNames(isTrue(builtins)).map((name) => {
    const fields = items.flatMap((item) => {
      const value = item === 'name' ? name : worker.attributeOf(name, item);
      return value === undefined || value === null
        ? []
        : [`${item}=${typeof value === 'string' ? value : repr(value)}`];
    });
    return fields.length === 0 ? name : `${name} [${fields.join(' ')}]`;
  });
}

function queryTask({ requests, nodename }: Controlled, { ids }: Arguments): ReadonlyMap<string, unknown> {
  return new Map(
    requests
      .find(new Set(list(ids)))
      .map((held) => [
        held.message.id,
        [held.startedAt === undefined ? 'reserved' : 'active', taskInfo(held.message, nodename, held)],
      ]),
  );
}

/**
 * Revoked ids are sent as `{id: [time, id]}`. The time is a float of the sender's monotonic clock; Python uses it to find old ids. For ids from
 * another worker, the time of their arrival counts, because that worker's monotonic clock has no meaning in this process.
 */
function hello(worker: Controlled, { from_node: from, revoked }: Arguments): unknown {
  if (from === worker.nodename) return null;
  worker.log().info({ node: repr(from).slice(0, 200) }, 'another worker sent a hello');
  learnRevoked(worker.revoked, revoked);
  return { revoked: revokedToTell(worker.revoked), clock: worker.clock.forward() };
}

/** Adds the ids that another worker has revoked. Input that is no dictionary is ignored. */
export function learnRevoked(revoked: Revoked, told: unknown): void {
  if (typeof told !== 'object' || told === null) return;
  const known = new Set(revoked.ids);
  for (const id of Object.keys(told)) if (!known.has(id)) revoked.add(id);
}

export function revokedToTell(revoked: Revoked): ReadonlyMap<string, unknown> {
  const now = Date.now();
  const monotonic = uptime();
  return new Map(
    revoked.entries.map(([id, until]) => [id, [float(monotonic - (revoked.ttlMs - (until - now)) / 1000), id]]),
  );
}

const samples: number[] = [];

/** This worker has one process, so only that process is sampled. Source: celery/utils/debug.py sample_mem, memdump. */
function memsample(): string {
  const { rss } = process.memoryUsage();
  samples.push(rss);
  if (samples.length > 1_000) samples.shift();
  return megabytes(rss);
}

function memdump(_: Controlled, { samples: count = 10 }: Arguments): string {
  const most = typeof count === 'number' && count > 0 ? Math.trunc(count) : 10;
  const taken = samples.slice(-most);
  const lines = taken.length === 0 ? [] : ['- rss (sample):', ...taken.map((rss) => `-    > ${megabytes(rss)},`)];
  return `${[...lines, `- rss (end): ${megabytes(process.memoryUsage().rss)}.`].join('\n')}\n`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(2)}MB`;
}

/** Marks ids as revoked. Tasks of this worker that do not run yet are answered without a run. With `terminate`, running tasks are aborted too. */
async function revoke(worker: Controlled, given: unknown, terminate: boolean, signal: unknown): Promise<unknown> {
  const ids = [...new Set(list(given))].filter((id) => id !== null && id !== undefined);
  const stranger = ids.findIndex((id) => typeof id !== 'string');
  if (stranger >= 0)
    throw new Raised(
      'TypeError',
      `sequence item ${stranger}: expected str instance, ${pythonType(ids[stranger])} found`,
    );
  const texts = ids.filter((id) => typeof id === 'string');
  const signum = terminate ? signalNumber(signal) : null;
  for (const id of texts) worker.revoked.add(id);
  const held = worker.requests.find(new Set(texts));
  // The write of REVOKED starts first, so that the outcome a task itself stores overwrites it. Aborting the tasks does not wait for that write.
  const recorded = worker.recordRevoked(texts);
  end(worker, held, terminate, signum);
  await recorded;
  if (!terminate) {
    worker.log().info({ ids: texts.length > 20 ? texts.length : texts }, 'tasks flagged as revoked');
    return ok(`tasks ${setRepr(texts)} flagged as revoked`);
  }
  const ended = [...new Set(held.map(({ message }) => message.id))];
  return ok(ended.length === 0 ? 'terminate: tasks unknown' : `terminate: ${ended.join(', ')}`);
}

function end(worker: Controlled, held: readonly DelayedRequest[], terminate: boolean, signum: number | null): void {
  for (const request of held) {
    request.signum = signum;
    if (terminate) worker.log().info({ id: request.message.id, task: request.message.task }, 'terminating');
    worker.cancel(request.message.id, terminate ? 'terminated' : 'revoked', terminate ? 'any' : 'waiting');
  }
}

function revokeByStamps(worker: Controlled, { headers, terminate, signal }: Arguments): unknown {
  const signum = signalNumber(signal);
  const wanted = new Map<string, readonly unknown[]>();
  if (Array.isArray(headers)) {
    for (const header of headers as readonly unknown[]) {
      const [name, value] = String(header).split('=');
      if (name === undefined || value === undefined) throw new Raised('IndexError', 'list index out of range');
      wanted.set(name, [value]);
    }
  } else if (typeof headers === 'object' && headers !== null) {
    for (const [name, values] of Object.entries(headers)) wanted.set(name, list(values));
  } else {
    throw new Raised('AttributeError', `'${pythonType(headers)}' object has no attribute 'items'`);
  }
  for (const [name, values] of wanted) worker.revoked.addStamp(name, values);
  const sets = new Map([...wanted].map(([name, values]) => [name, new Set(values)] as const));
  const all = [...worker.requests.reserved, ...worker.requests.active];
  const held = all.filter(({ message }) => isStamped(message, sets));
  end(worker, held, isTrue(terminate), signum);
  const shown = repr(Array.isArray(headers) ? new Map([...wanted].map(([name, [value]]) => [name, value])) : headers);
  if (!isTrue(terminate)) return ok(`headers ${shown} flagged as revoked, but not terminated`);
  if (held.length === 0) return ok(`headers ${shown} were not terminated`);
  return ok(`headers ${shown} revoked`);
}

function rateLimit(worker: Controlled, { task_name: task, rate_limit: limit }: Arguments): unknown {
  const problem = rateProblem(limit);
  if (problem !== undefined) return problem;
  if (typeof task !== 'string' || !worker.isTask(task)) return failed('unknown task');
  const off = limit === null || limit === 0 || limit === '' || limit === false;
  worker.limitRate(task, off ? 0 : typeof limit === 'string' ? plainRate(limit) : (limit as number));
  worker.log().info({ task, limit }, off ? 'rate limit switched off' : 'new rate limit');
  return ok(off ? 'rate limit disabled successfully' : 'new rate limit set successfully');
}

/** Celery's `rate` reads `10`, `10/` and ` 10/s` as the same rate. */
function plainRate(limit: string): string {
  const [ops = '', unit = ''] = limit.split('/');
  return unit === '' ? String(Number(ops)) : `${Number(ops)}/${unit}`;
}

/** Celery's reply to a rate limit that it cannot read. Source: celery/utils/time.py rate. */
function rateProblem(limit: unknown): unknown {
  if (limit === null || limit === false || limit === '') return undefined;
  if (typeof limit === 'number')
    return Number.isFinite(limit) ? undefined : failed('Invalid rate limit string: not finite');
  if (typeof limit !== 'string')
    return failed(`TypeError('a rate limit is a number or a text, not ${pythonType(limit)}')`);
  const [ops = '', ...modifier] = limit.split('/');
  const unit = modifier.join('/');
  if (!['', 's', 'm', 'h'].includes(unit)) return failed(`KeyError(${reprText(unit)})`);
  if (/^\s*\d+(?:\.\d*)?\s*$/.test(ops)) return undefined;
  const error = reprException({
    type: 'ValueError',
    module: null,
    args: [`could not convert string to float: ${reprText(ops)}`],
  });
  return failed(`Invalid rate limit string: ${error}`);
}

function timeLimit(worker: Controlled, { task_name: task, hard, soft }: Arguments): unknown {
  if (typeof task !== 'string' || !worker.isTask(task)) return failed('unknown task');
  worker.limitTime(task, { hard: secondsOf(hard), soft: secondsOf(soft) });
  worker.log().info({ task, hard, soft }, 'new time limits');
  return ok('time limits set successfully');
}

function resize(worker: Controlled, n: unknown, sign: 1 | -1): unknown {
  if (typeof n !== 'number' || !Number.isInteger(n))
    throw new Raised('TypeError', `'${pythonType(n)}' object cannot be interpreted as an integer`);
  const by = sign * n;
  if (worker.concurrency() + by < 1) throw new Raised('ValueError', "Can't shrink pool. All processes busy!");
  if (worker.concurrency() + by > MOST_AT_ONCE)
    throw new Raised('ValueError', `the pool has at most ${MOST_AT_ONCE} slots`);
  worker.resize(by);
  return ok(sign === 1 ? 'pool will grow' : 'pool will shrink');
}

/** A typing mistake or a hostile command must not make a worker take everything that the queues hold. */
const MOST_AT_ONCE = 100_000;

async function addConsumer(
  worker: Controlled,
  { queue, exchange, exchange_type: type, routing_key: routingKey }: Arguments,
): Promise<unknown> {
  const name = textOf(queue, 'queue');
  if (worker.addQueue === undefined)
    throw new Raised('NotImplementedError', 'this broker cannot add queues while it runs');
  if (isTrue(type) && type !== 'direct' && type !== 'topic' && type !== 'fanout')
    throw new Raised('ValueError', `the exchange type ${repr(type)} is not known here`);
  const onlyName = !isTrue(exchange) && !isTrue(type) && !isTrue(routingKey);
  // A missing exchange or routing key defaults to the queue's name, as in Celery's add_task_queue. A fanout exchange ignores the key.
  await worker.addQueue(
    onlyName
      ? { name }
      : {
          name,
          exchange: isTrue(exchange) ? textOf(exchange, 'exchange') : name,
          exchangeType: isTrue(type) ? (type as 'direct' | 'topic' | 'fanout') : 'direct',
          ...(isTrue(routingKey)
            ? { routingKey: textOf(routingKey, 'routing_key') }
            : type === 'fanout'
              ? {}
              : { routingKey: name }),
        },
  );
  return ok(`add consumer ${name}`);
}

async function cancelConsumer(worker: Controlled, { queue }: Arguments): Promise<unknown> {
  const name = textOf(queue, 'queue');
  if (worker.removeQueue === undefined)
    throw new Raised('NotImplementedError', 'this broker cannot take queues off while it runs');
  await worker.removeQueue(name);
  return ok(`no longer consuming from ${name}`);
}

function ok(value: unknown): { readonly ok: unknown } {
  return { ok: value };
}

function failed(value: string): { readonly error: string } {
  return { error: value };
}

/** As maybe_list in celery/utils/functional.py: a string becomes a list of one, and nothing becomes an empty list. */
function list(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

/** Whether Python takes a plain value for true. Strings are read as kombu's `strtobool` reads them on a command line. */
function isTrue(value: unknown): boolean {
  if (typeof value === 'string') return !['', '0', 'false', 'no', 'off'].includes(value.toLowerCase());
  return value !== undefined && value !== null && value !== false && value !== 0;
}

function textOf(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new Raised('TypeError', `${name} must be a text, not ${pythonType(value)}`);
}

function secondsOf(value: unknown): number | undefined {
  return typeof value === 'number' && value > 0 ? value : undefined;
}

/** `TERM`, `SIGTERM` or a number. No signal is sent to a handler in this process; the number only appears in events. */
function signalNumber(signal: unknown): number {
  if (!isTrue(signal)) return constants.signals.SIGTERM;
  if (typeof signal === 'number') return signal;
  const name = String(signal).toUpperCase();
  const full = name.startsWith('SIG') ? name : `SIG${name}`;
  const known = Object.hasOwn(constants.signals, full) ? constants.signals[full as NodeJS.Signals] : undefined;
  if (known !== undefined) return known;
  throw new Raised('AttributeError', `module 'signal' has no attribute '${full.slice(0, 60)}'`);
}

function setRepr(ids: readonly string[]): string {
  return ids.length === 0 ? 'set()' : `{${ids.map(reprText).join(', ')}}`;
}

function pythonType(value: unknown): string {
  if (value === null || value === undefined) return 'NoneType';
  if (Array.isArray(value)) return 'list';
  switch (typeof value) {
    case 'string':
      return 'str';
    case 'number':
      return Number.isInteger(value) ? 'int' : 'float';
    case 'bigint':
      return 'int';
    case 'boolean':
      return 'bool';
    default:
      return 'dict';
  }
}
