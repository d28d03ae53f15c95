import { createHash, randomUUID } from 'node:crypto';
import { toFailure } from '../../protocols/errors.ts';
import type { Disposition, Job, Outcome } from '../../protocols/job.ts';
import type { Command } from '../../protocols/redis.ts';
import { type ResqueJob, toActiveJob, wrappedClass } from '../../protocols/resque/active-job.ts';
import type { FailureRecord } from '../../protocols/resque/failure.ts';
import { keyspace } from '../../protocols/resque/keys.ts';
import * as lifecycle from '../../protocols/resque/lifecycle.ts';
import { className, decodeDelayed, decodePayload, type Payload, toJob } from '../../protocols/resque/message.ts';
import { attemptOf, retryIdentifier, retryKeys, retryName } from '../../protocols/resque/retry.ts';
import { ResqueClient } from '../drivers/resque/client.ts';
import type { EnqueueOptions, ResqueClientOptions } from '../drivers/resque/client-options.ts';
import { ClassRules } from '../drivers/resque/task-rules.ts';
import type { Registry } from '../task.ts';
import { bytesOf, noServer, TestLink } from './link.ts';
import { type InlineRun, type InlineSettings, Runs } from './runs.ts';
import { ENQUEUES, type Enqueued, Tape } from './tape.ts';

/** The options of a client that need no server. */
export type ResqueTestOptions = Omit<ResqueClientOptions, 'url' | 'namespace'>;

/** A `ResqueClient` that sends nothing and remembers what it would send. */
export class ResqueRecorder extends ResqueClient {
  readonly enqueued: Enqueued<EnqueueOptions>;
  readonly #tape: Tape<EnqueueOptions>;

  constructor(options: ResqueTestOptions = {}) {
    const tape = new Tape<EnqueueOptions>('resque');
    const link = new TestLink((command) => {
      for (const one of pushed(command)) {
        const { task, args, kwargs, queue } = jobOf(one, wrappedClass(one.payload), 1);
        tape.record({ task, args, kwargs, queue });
      }
      return 1;
    });
    super({ ...options, url: URL_OF_NOTHING }, link);
    this.#tape = tape;
    this.enqueued = tape.enqueued;
    tape.follow(this, ENQUEUES);
  }

  /** Forget what was enqueued. */
  clear(): void {
    this.#tape.clear();
  }
}

/** What an inline client of Resque is told beside the options of its client. */
export interface ResqueInlineSettings extends InlineSettings {
  /** Whether a scheduler runs, as the option of `resque({…})`: without one nothing is retried. @default true */
  readonly scheduler?: boolean;
}

/** A `ResqueClient` that runs each job as it is pushed, with its retries, and waits for none of them. */
export class ResqueInline extends ResqueClient {
  /** Every run so far, oldest first. */
  readonly runs: readonly InlineRun[];
  /** What the failure backend would be given. */
  readonly failures: readonly FailureRecord[];

  constructor(tasks: Registry, { log, scheduler = true, ...options }: ResqueTestOptions & ResqueInlineSettings = {}) {
    const runs = new Runs('resque', tasks, log);
    const rules = new ClassRules(tasks, scheduler);
    const failures: FailureRecord[] = [];
    const attempts = new Map<string, string>();
    const link = new TestLink(async (command) => {
      const first = pushed(command);
      for (const { payload } of first) runs.find(nameOf(payload).name);
      await runs.toTheEnd(first, run, ({ payload }) => nameOf(payload).name);
      return 1;
    });
    super({ ...options, url: URL_OF_NOTHING }, link);
    this.runs = runs.all;
    this.failures = failures;

    /** A handler of the wrapper itself gets what is in the wrapper as it is. */
    function nameOf(payload: Payload): { readonly name: string; readonly inner: string | undefined } {
      const own = className(payload.class);
      const inner = tasks.find('resque', own) === undefined ? wrappedClass(payload) : undefined;
      return { name: inner ?? own, inner };
    }

    async function run(one: Pushed): Promise<readonly Pushed[]> {
      const { payload, queue } = one;
      const { name, inner } = nameOf(payload);
      const registration = runs.find(name);
      const rule = rules.find(name);
      const counted = scheduler && inner === undefined ? retryNameOf(payload) : undefined;
      const attempt = counted === undefined ? 1 : attemptOf(attempts.get(retryKeys(KEYS, counted).attempts));
      const job: ResqueJob = {
        ...jobOf(one, inner, attempt),
        ...(rule?.timeoutMs === undefined ? {} : { timeoutMs: rule.timeoutMs }),
        ...(rule?.softTimeoutMs === undefined ? {} : { softTimeoutMs: rule.softTimeoutMs }),
      };
      let following: readonly Pushed[] = [];
      const settle = async (outcome: Outcome): Promise<Disposition> => {
        const activeJob = inner !== undefined;
        const ran = {
          queue,
          payload: payload.text,
          attempt: job.attempt,
          worker: WORKER,
          retryName: counted,
          activeJob,
        };
        const policy: lifecycle.ResquePolicy = { keys: KEYS, failures: ['redis'], retry: rule?.retry };
        const moment = { now: new Date(), random: Math.random(), newId: randomUUID };
        let transition: ReturnType<typeof lifecycle.settle>;
        try {
          transition = lifecycle.settle(ran, outcome, policy, moment);
        } catch (thrown) {
          transition = lifecycle.settle(ran, { kind: 'fail', error: toFailure(thrown) }, policy, moment);
        }
        const { commands, failure } = transition.write;
        if (failure !== undefined) failures.push(failure);
        for (const [command, key, value] of commands) {
          if (command === 'SET') attempts.set(String(key), String(value));
          if (command === 'DEL') attempts.delete(String(key));
        }
        following = commands.filter(([command]) => command === 'RPUSH' || command === 'LPUSH').flatMap(pushed);
        return transition.disposition;
      };
      await runs.run({ job, begin: () => undefined, settle, release: async () => {} }, registration);
      return following;
    }
  }
}

interface Pushed {
  readonly queue: string;
  readonly payload: Payload;
}

const URL_OF_NOTHING = 'redis://testing.invalid';
const KEYS = keyspace();
const WORKER = 'testing:1:*';
const LIST = `${KEYS.prefix}queue:`;
const DELAYED = `${KEYS.prefix}delayed:`;

/** The jobs that a command writes. Throws ConfigError for what only a server can answer. */
function pushed(command: Command): readonly Pushed[] {
  const [name, key, ...values] = command;
  const of = String(key);
  switch (name) {
    case 'LPUSH':
    case 'RPUSH':
      if (of.startsWith(DELAYED)) return values.map((value) => decodeDelayed(bytesOf(value)));
      if (!of.startsWith(LIST)) return [];
      return values.map((value) => ({ queue: of.slice(LIST.length), payload: decodePayload(bytesOf(value)) }));
    case 'SADD':
    case 'ZADD':
      return [];
    default:
      throw noServer('resque', command);
  }
}

function jobOf({ payload, queue }: Pushed, inner: string | undefined, attempt: number): ResqueJob & Job {
  return inner === undefined ? toJob(payload, queue, 'testing', attempt) : toActiveJob(payload, queue, 'testing');
}

function retryNameOf({ class: name, args }: Payload): string {
  if (args.length === 0) return retryName(name, undefined);
  return retryName(name, createHash('sha1').update(retryIdentifier(args)).digest('hex'));
}
