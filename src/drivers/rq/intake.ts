import { WireError } from '../../../protocols/errors.ts';
import type { Job } from '../../../protocols/job.ts';
import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import {
  type BrokenField,
  type Call,
  type JobHash,
  readCall,
  type ReadCall,
  readJob,
  toJob,
} from '../../../protocols/rq/message.ts';
import type { Claimed, Settlement } from '../../../protocols/rq/redis.ts';
import type { SerializerName } from '../../../protocols/rq/serializers.ts';
import type { PoisonReport } from '../../source.ts';
import {
  DEFAULT_MAX_RETRIES,
  DEFAULT_RETRY_DELAY_MS,
  retryDelayMs,
  type RetryPolicy,
} from '../../../protocols/retry.ts';
import type { Registration } from '../../task.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import { CURRENT, type CurrentJob, RunningJob } from './current.ts';
import { type DeliveryHost, RqDelivery } from './delivery.ts';
import type { RqOptions } from './options.ts';

/** The parts of its source that the intake uses. */
export interface IntakeHost extends DeliveryHost {
  readonly worker: string;
  find(task: string): Registration | undefined;
  poison(report: PoisonReport): void;
  redis(): RedisConnection;
  /** From now on the run gets signs of life. */
  track(delivery: RqDelivery): void;
  /** Settles a run that is not executed here. */
  giveAway(delivery: RqDelivery, settlement: Settlement): void;
}

/** Classifies a claimed job: a delivery, a failure with its reason, or an id for the quarantine. */
export class Intake {
  /** Whether the result of a job is also written into its hash. */
  resultsInHash: boolean;
  readonly #options: RqOptions;
  readonly #host: IntakeHost;

  constructor(options: RqOptions, host: IntakeHost) {
    this.#options = options;
    this.#host = host;
    this.resultsInHash = options.resultsInHash ?? false;
  }

  /** Reads a claimed job. Returns a delivery, or undefined if the job goes elsewhere. */
  take(claimed: Claimed, now: Date): RqDelivery | undefined {
    const { id, execution, queue, fields } = claimed;
    const read = readJob(id, fields);
    const worker = this.#host.worker;
    if (read === undefined) {
      const run = { job: { id, data: NO_DATA }, execution, queue, worker, startedAt: now };
      const delivery = this.#track(run, { id, task: '', args: [], kwargs: {}, queue, attempt: 1 });
      this.#host.giveAway(delivery, lifecycle.quarantined(run, 'no-data', now));
      this.tellOfQuarantine(queue, id, 'no-data');
      return undefined;
    }
    const run = { job: read.job, execution, queue, worker, startedAt: now };
    let call: ReadCall;
    try {
      if (read.broken.length > 0) throw brokenFields(read.broken);
      const { limits } = this.#options;
      call = readCall(read.job.data, limits === undefined ? {} : { limits });
    } catch (error) {
      this.#poison(this.#track(run, toJob(read.job, NO_CALL, queue)), error, claimed, read.broken);
      return undefined;
    }
    const { limits } = this.#options;
    const job = toJob(read.job, call, queue, limits === undefined ? {} : { limits });
    const registration = call.instance === null ? this.#host.find(call.funcName) : undefined;
    const unknown = this.#unknown(call, read.job, registration);
    const own: Job & { [CURRENT]?: CurrentJob } = limited(job, registration);
    own[CURRENT] = new RunningJob(read.job, call.serializer, () => this.#host.redis());
    const delivery = this.#track(run, own, call.serializer, registration, unknown);
    // The function is known but the callback is not, and `unknownCallback` is `fail`: the run never begins.
    if (unknown !== undefined && registration !== undefined && this.#options.unknownCallback === 'fail') {
      this.#host.giveAway(delivery, delivery.failure(delivery.rejectUnknown(unknown)));
      return undefined;
    }
    return delivery;
  }

  #track(
    run: RqDelivery['run'],
    job: Job,
    serializer: SerializerName = 'pickle',
    registration?: Registration,
    unknown?: string,
  ): RqDelivery {
    const policy = this.policy(serializer, registration);
    const isKnown = registration !== undefined && unknown === undefined;
    const delivery = new RqDelivery(this.#host, run, job, policy, { isKnown, unknown });
    this.#host.track(delivery);
    return delivery;
  }

  /** The result uses the serializer of its job: nothing else tells which one its reader understands. */
  policy(serializer: SerializerName, registration?: Registration): lifecycle.RqPolicy {
    const { resultsTtl = lifecycle.DEFAULT_RESULT_TTL, failureTtl = lifecycle.DEFAULT_FAILURE_TTL } = this.#options;
    const retry = registration?.options.retry;
    return {
      serializer,
      resultTtl: resultsTtl,
      failureTtl,
      resultsInHash: this.resultsInHash,
      ...(retry === undefined ? {} : { retry: retryRule(retry) }),
    };
  }

  /** Why no handler here can run the job, although there may be a handler for its function. Undefined: the function decides. */
  #unknown(call: Call, job: JobHash, registration: Registration | undefined): string | undefined {
    if (call.instance !== null) return `'${call.funcName.slice(0, 200)}' is a method of a Python object`;
    if (registration === undefined) return undefined;
    // RQ after 2.12 counts the running jobs under such a key, and starts the next one when one of them has ended.
    if (job.rateLimitKey !== undefined) return "it has a rate limit, which only RQ's own workers keep";
    if (this.#options.unknownCallback === 'skip') return undefined;
    const callback = this.#unknownCallback(job);
    return callback === undefined ? undefined : `its callback '${callback.slice(0, 200)}' is not among callbacks`;
  }

  #unknownCallback(job: JobHash): string | undefined {
    return [job.successCallbackName, job.failureCallbackName, job.stoppedCallbackName].find(
      (name) => name !== undefined && this.#host.callback(name) === undefined,
    );
  }

  /** The job cannot be run. It fails, with the reason. Fields for which RQ's readers would raise an error are renamed in the hash. */
  #poison(
    delivery: RqDelivery,
    thrown: unknown,
    claimed: Claimed,
    broken: readonly { readonly field: string }[],
  ): void {
    const error =
      thrown instanceof WireError ? thrown : new WireError('rq', 'undecodable', String(thrown), { cause: thrown });
    const reason = error.message.replace(/^rq: /, '');
    const failure = { type: 'DeserializationError', module: 'rq.exceptions', message: reason, traceback: '' };
    const { write } = lifecycle.settle(
      delivery.run,
      { kind: 'fail', error: failure },
      this.policy('pickle'),
      new Date(),
    );
    const aside = broken.flatMap(({ field }) => quarantinedField(field, claimed.fields));
    this.#host.giveAway(delivery, { ...write, fields: [...aside, ...write.fields] });
    const { id } = claimed;
    const kept =
      broken.length === 0
        ? `The job is in the failed registry of '${claimed.queue}' as it was.`
        : `The job is in the failed registry of '${claimed.queue}'; the fields are kept in its hash under 'jobglot:broken:…'.`;
    this.#host.poison({ system: 'rq', queue: claimed.queue, id, code: error.code, reason, kept });
  }

  /** Reports an id that no registry of RQ can hold. */
  tellOfQuarantine(queue: string, id: string, code: string): void {
    this.#host.poison({
      system: 'rq',
      queue,
      id,
      code,
      reason: QUARANTINED[code] ?? code,
      kept: `The id is kept in the list 'jobglot:rq:quarantine:${queue}', since no registry of RQ could hold it. To try it again: RPUSH 'rq:queue:${queue}' <id>`,
    });
  }
}

const NO_DATA = Buffer.alloc(0);
const NO_CALL: Call = { funcName: '', instance: null, args: [], kwargs: {} };

const QUARANTINED: Readonly<Record<string, string>> = {
  'bad-id': 'the id is empty, no UTF-8, or has a colon, which takes the registries of RQ 2 apart',
  'not-a-hash': 'the key of the job is no hash',
  'no-data': 'the hash of the job has no data, which to RQ is no job',
};

function brokenFields(broken: readonly BrokenField[]): WireError {
  const what = broken.map(({ field, reason }) => `${field}: ${reason}`).join('; ');
  return new WireError('rq', 'undecodable', `the job cannot be read: ${what}`);
}

/** Renames the field, so that RQ's readers do not raise an error for it. */
function quarantinedField(field: string, fields: readonly Buffer[]): [string, Buffer | undefined][] {
  const at = fields.findIndex((name, index) => index % 2 === 0 && name.toString('latin1') === field);
  const value = fields[at + 1];
  return [
    [`jobglot:broken:${field}`, value],
    [field, undefined],
  ];
}

/** Adds the soft limit of the task. The hard limit comes from the job itself. */
function limited(job: Job, registration: Registration | undefined): Job {
  const softTimeoutMs = registration?.options.softTimeoutMs;
  return softTimeoutMs === undefined ? job : { ...job, softTimeoutMs };
}

/** Turns a task's policy into a retry rule of RQ's lifecycle. The delay is 180 seconds if the policy sets none. `random` returns numbers in [0, 1). */
export function retryRule(
  retry: RetryPolicy,
  random: () => number = Math.random,
): NonNullable<lifecycle.RqPolicy['retry']> {
  const { max = DEFAULT_MAX_RETRIES } = retry;
  return { max, delayMs: (attempt) => retryDelayMs(retry, attempt, random()) ?? DEFAULT_RETRY_DELAY_MS };
}
