import { arch, release, type } from 'node:os';
import { float } from '../../../../protocols/formats/values.ts';
import { repr } from '../../../../protocols/celery/message/repr.ts';
import { version } from '../../../version.ts';
import type { QueueSpec } from '../brokers/broker.ts';
import type { CeleryOptions, ResolvedApp } from '../options.ts';

/** The worker's reports on itself, under Celery's names: the replies to `stats`, `conf`, `report` and `active_queues`. */

/**
 * A settings table under Celery's names. Without defaults it has only the options that were set. Addresses are given masked.
 * Source: celery/app/utils.py Settings.table (5.6).
 */
export function settingsOf(
  options: CeleryOptions,
  app: ResolvedApp,
  addresses: { readonly broker: string; readonly backend: string },
  withDefaults: boolean,
): ReadonlyMap<string, unknown> {
  const table = new Map<string, unknown>([
    ['broker_url', addresses.broker],
    ['result_backend', addresses.backend],
  ]);
  for (const [name, set, effective] of rows(options, app)) {
    if (withDefaults) table.set(name, effective ?? null);
    else if (set !== undefined) table.set(name, set);
  }
  for (const name of table.keys()) if (HIDDEN.test(name)) table.set(name, '********');
  return table;
}

/** Celery's `HIDDEN_SETTINGS`. */
const HIDDEN = /API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI/i;

function rows(
  o: CeleryOptions,
  app: ResolvedApp,
): readonly (readonly [name: string, set: unknown, effective: unknown])[] {
  const queues = o.queues?.map((queue) => (typeof queue === 'string' ? queue : queue.name));
  return [
    ['accept_content', o.acceptContent, app.accept],
    ['broker_transport_options', o.brokerTransportOptions && hidden(o.brokerTransportOptions), {}],
    ['control_exchange', o.controlExchange, 'celery'],
    ['event_exchange', o.eventExchange, 'celeryev'],
    ['event_serializer', undefined, 'json'],
    [
      'result_backend_transport_options',
      o.resultBackendTransportOptions && hidden(o.resultBackendTransportOptions),
      {},
    ],
    ['result_expires', o.resultExpires, o.resultExpires ?? 86_400],
    ['result_extended', o.resultExtended, o.resultExtended ?? false],
    ['result_serializer', o.resultSerializer, app.resultSerializer],
    ['task_acks_late', o.acksLate, o.acksLate ?? false],
    ['task_acks_on_failure_or_timeout', o.acksOnFailureOrTimeout, o.acksOnFailureOrTimeout ?? true],
    ['task_compression', o.taskCompression, app.taskCompression],
    ['task_default_queue', o.taskDefaultQueue, app.taskDefaultQueue],
    ['task_default_rate_limit', o.taskDefaultRateLimit, o.taskDefaultRateLimit],
    ['task_ignore_result', o.ignoreResult, o.ignoreResult ?? false],
    ['task_inherit_parent_priority', o.taskInheritParentPriority, o.taskInheritParentPriority ?? false],
    ['task_queues', queues, queues],
    ['task_reject_on_worker_lost', o.rejectOnWorkerLost, o.rejectOnWorkerLost ?? o.acksLate ?? false],
    ['task_send_sent_event', o.taskSendSentEvent, o.taskSendSentEvent ?? false],
    ['task_serializer', o.taskSerializer, app.taskSerializer],
    ['task_soft_time_limit', o.taskSoftTimeLimit, o.taskSoftTimeLimit],
    ['task_store_errors_even_if_ignored', o.storeErrorsEvenIfIgnored, o.storeErrorsEvenIfIgnored ?? false],
    ['task_time_limit', o.taskTimeLimit, o.taskTimeLimit],
    ['task_track_started', o.trackStarted, o.trackStarted ?? false],
    ['worker_concurrency', o.concurrency, o.concurrency ?? 10],
    [
      'worker_deduplicate_successful_tasks',
      o.workerDeduplicateSuccessfulTasks,
      o.workerDeduplicateSuccessfulTasks ?? false,
    ],
    ['worker_enable_remote_control', o.workerEnableRemoteControl, o.workerEnableRemoteControl ?? true],
    ['worker_eta_task_limit', o.etaLimit, o.etaLimit ?? 1000],
    ['worker_prefetch_multiplier', o.prefetchMultiplier, o.prefetchMultiplier ?? 4],
    ['worker_send_task_events', o.workerSendTaskEvents, o.workerSendTaskEvents ?? false],
  ];
}

/** Options that may hold any value, also secrets. Only strings, numbers and booleans are kept, and those with a name like a secret's are masked. */
function hidden(options: object): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(options)
      .filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value))
      .map(([name, value]) => [name, HIDDEN.test(name) ? '********' : (value as unknown)]),
  );
}

/** Source: celery/app/utils.py bugreport (5.6). */
export function reportText(
  settings: ReadonlyMap<string, unknown>,
  addresses: { readonly broker: string; readonly backend: string },
): string {
  const lines = [...settings].map(([name, value]) => `${name}: ${repr(value)}`);
  return `
software -> jobglot:${version()} node:${process.versions.node} v8:${process.versions.v8}
platform -> system:${type()} arch:${arch()}
            kernel version:${release()} imp:Node.js
loader   -> jobglot
settings -> transport:${schemeOf(addresses.broker)} results:${addresses.backend}

${lines.join('\n')}
`;
}

/** A queue as kombu's `Queue.as_dict(recurse=True)` shows it. Source: kombu/entity.py (5.6). */
export function queueInfo({ name, exchange, exchangeType, routingKey }: QueueSpec): Readonly<Record<string, unknown>> {
  return {
    name,
    exchange: {
      name: exchange ?? name,
      type: exchangeType ?? 'direct',
      arguments: null,
      durable: true,
      passive: false,
      auto_delete: false,
      delivery_mode: null,
      no_declare: false,
    },
    routing_key: routingKey ?? name,
    queue_arguments: null,
    binding_arguments: null,
    consumer_arguments: null,
    durable: true,
    exclusive: false,
    auto_delete: false,
    no_ack: false,
    alias: null,
    bindings: [],
    no_declare: null,
    expires: null,
    message_ttl: null,
    max_length: null,
    max_length_bytes: null,
    max_priority: null,
  };
}

/** Source: celery/worker/worker.py stats, celery/concurrency/base.py, kombu/connection.py _info (5.6). */
export function statsOf(facts: {
  readonly total: ReadonlyMap<string, number>;
  readonly clock: number;
  readonly uptimeSeconds: number;
  readonly concurrency: number;
  readonly prefetchCount: number;
  readonly softLimit: number;
  readonly hardLimit: number;
  readonly broker: string;
}): Readonly<Record<string, unknown>> {
  return {
    total: facts.total,
    pid: process.pid,
    clock: String(facts.clock),
    uptime: Math.round(facts.uptimeSeconds),
    pool: {
      implementation: 'jobglot.worker:Lane',
      'max-concurrency': facts.concurrency,
      processes: [process.pid],
      'max-tasks-per-child': 'N/A',
      'put-guarded-by-semaphore': true,
      timeouts: [facts.softLimit, facts.hardLimit],
      writes: 'N/A',
    },
    broker: brokerInfo(facts.broker),
    prefetch_count: facts.prefetchCount,
    rusage: rusage(),
  };
}

function brokerInfo(address: string): Readonly<Record<string, unknown>> {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const port = url?.port === undefined || url.port === '' ? null : Number(url.port);
  const path = url?.pathname.replace(/^\//, '') ?? '';
  return {
    hostname: url === undefined || url.hostname === '' ? null : url.hostname,
    userid: url === undefined || url.username === '' ? null : url.username,
    virtual_host: path === '' ? '/' : path,
    port,
    insist: false,
    ssl: /^(?:rediss|amqps):/.test(address),
    transport: schemeOf(address),
    connect_timeout: 4,
    transport_options: {},
    login_method: null,
    uri_prefix: null,
    heartbeat: float(0),
    failover_strategy: 'round-robin',
    alternates: [],
    credential_provider: null,
  };
}

function rusage(): Readonly<Record<string, unknown>> {
  const used = process.resourceUsage();
  return {
    utime: float(used.userCPUTime / 1e6),
    stime: float(used.systemCPUTime / 1e6),
    maxrss: used.maxRSS,
    ixrss: used.sharedMemorySize,
    idrss: used.unsharedDataSize,
    isrss: used.unsharedStackSize,
    minflt: used.minorPageFault,
    majflt: used.majorPageFault,
    nswap: used.swappedOut,
    inblock: used.fsRead,
    oublock: used.fsWrite,
    msgsnd: used.ipcSent,
    msgrcv: used.ipcReceived,
    nsignals: used.signalsCount,
    nvcsw: used.voluntaryContextSwitches,
    nivcsw: used.involuntaryContextSwitches,
  };
}

function schemeOf(address: string): string {
  return (/^([a-z][a-z0-9+]*):/i.exec(address)?.[1] ?? '').toLowerCase();
}
