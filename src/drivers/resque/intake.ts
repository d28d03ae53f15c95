import { createHash } from 'node:crypto';
import type { ClaimedJob } from '../../../protocols/claims.ts';
import { toFailure } from '../../../protocols/errors.ts';
import type { Failure } from '../../../protocols/job.ts';
import { type ResqueJob, toActiveJob, wrappedClass } from '../../../protocols/resque/active-job.ts';
import { className, decodePayload, type Payload, toJob } from '../../../protocols/resque/message.ts';
import { attemptOf, retryIdentifier, retryKeys, retryName } from '../../../protocols/resque/retry.ts';
import type { ClassRule, ClassRules } from './task-rules.ts';
import { type Holding, ResqueDelivery } from './delivery.ts';
import type { ResqueProcess } from './process.ts';

/** The result of reading claimed payloads. */
export interface Sorted {
  readonly deliveries: ResqueDelivery[];
  /** Jobs of Rails whose arguments cannot be read. */
  readonly unread: { readonly delivery: ResqueDelivery; readonly error: Failure }[];
  /** Entries that are not payloads. */
  readonly poison: { readonly claimed: ClaimedJob; readonly error: unknown }[];
}

/** A decoded payload, and the rule for its class. */
interface Read {
  readonly claimed: ClaimedJob;
  readonly payload: Payload;
  readonly rule: ClassRule | undefined;
  /** The class inside Active Job's wrapper, if that class is the one that counts. */
  readonly inner: string | undefined;
  /** The name of its retry key, under which attempts are counted. */
  readonly retryName: string | undefined;
}

/** Reads claimed payloads and makes deliveries from them. Writes nothing. */
export class Intake {
  readonly #process: ResqueProcess;
  readonly #rules: ClassRules;
  readonly #holding: Holding;

  constructor(process: ResqueProcess, rules: ClassRules, holding: Holding) {
    this.#process = process;
    this.#rules = rules;
    this.#holding = holding;
  }

  /** Rejects with ConnectionError if the attempts cannot be read. The claims then have no delivery. */
  async sort(claimed: readonly ClaimedJob[]): Promise<Sorted> {
    const sorted: Sorted = { deliveries: [], unread: [], poison: [] };
    const read: Read[] = [];
    for (const one of claimed) {
      try {
        read.push(this.#read(one));
      } catch (error) {
        sorted.poison.push({ claimed: one, error });
      }
    }
    const attempts = await this.#attempts(read);
    for (const [at, one] of read.entries()) this.#deliver(one, attempts[at] ?? 1, sorted);
    return sorted;
  }

  #read(claimed: ClaimedJob): Read {
    const payload = decodePayload(claimed.bytes);
    const own = this.#rules.find(className(payload.class));
    // If the wrapper class itself has a handler, that handler gets the wrapped data unchanged.
    const inner = own === undefined ? wrappedClass(payload) : undefined;
    const rule = inner === undefined ? own : this.#rules.find(inner);
    const counted = this.#process.options.scheduler !== undefined && own !== undefined;
    return { claimed, payload, rule, inner, retryName: counted ? this.#retryName(payload) : undefined };
  }

  #deliver({ claimed, payload, rule, inner, retryName: name }: Read, attempt: number, sorted: Sorted): void {
    const { queue, claim } = claimed;
    const make = (job: ResqueJob): ResqueDelivery =>
      new ResqueDelivery(
        this.#process,
        { queue, claim, payload, known: rule !== undefined, retryName: name, retry: rule?.retry },
        limited(job, rule),
        this.#holding,
      );
    const id = `${this.#process.name}:${claim}`;
    const plain = toJob(payload, queue, id, attempt);
    if (rule === undefined) sorted.deliveries.push(make(inner === undefined ? plain : { ...plain, task: inner }));
    else if (inner === undefined) sorted.deliveries.push(make(plain));
    else {
      try {
        sorted.deliveries.push(make(toActiveJob(payload, queue, id)));
      } catch (thrown) {
        const error = { ...toFailure(thrown), type: 'ActiveJob::DeserializationError' };
        sorted.unread.push({ delivery: make({ ...plain, task: inner }), error });
      }
    }
  }

  #retryName({ class: name, args }: Payload): string {
    if (args.length === 0) return retryName(name, undefined);
    const identifier = retryIdentifier(args, this.#process.options.rubyInspect);
    return retryName(name, createHash('sha1').update(identifier).digest('hex'));
  }

  /** The attempt number of each job, read in one round trip. */
  async #attempts(read: readonly Read[]): Promise<readonly number[]> {
    const names = read.map((one) => one.retryName).filter((name) => name !== undefined);
    if (names.length === 0) return [];
    const { keys } = this.#process;
    const stored = await this.#process.run({
      commands: [['MGET', ...names.map((name) => retryKeys(keys, name).attempts)]],
      atomic: false,
      read: ([values]) => values as readonly (Buffer | null)[],
    });
    let next = 0;
    return read.map((one) => (one.retryName === undefined ? 1 : attemptOf(stored[next++]?.toString())));
  }
}

function limited(job: ResqueJob, rule: ClassRule | undefined): ResqueJob {
  if (rule?.timeoutMs === undefined && rule?.softTimeoutMs === undefined) return job;
  return {
    ...job,
    ...(rule.timeoutMs === undefined ? {} : { timeoutMs: rule.timeoutMs }),
    ...(rule.softTimeoutMs === undefined ? {} : { softTimeoutMs: rule.softTimeoutMs }),
  };
}
