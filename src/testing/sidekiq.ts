import { randomUUID } from 'node:crypto';
import { readWrapped, wrappedClass } from '../../protocols/sidekiq/active-job.ts';
import { NEUTRAL } from '../../protocols/sidekiq/dialect.ts';
import { type Keyspace, keyspace } from '../../protocols/sidekiq/keys.ts';
import * as lifecycle from '../../protocols/sidekiq/lifecycle.ts';
import { decodeJob, expiryOf, type JobHash, type SidekiqMessage, toJob } from '../../protocols/sidekiq/message.ts';
import type { Command } from '../../protocols/redis.ts';
import type { Disposition, Outcome } from '../../protocols/job.ts';
import { SidekiqClient } from '../drivers/sidekiq/client.ts';
import type { EnqueueOptions, SidekiqClientOptions } from '../drivers/sidekiq/client-options.ts';
import { ClassRules } from '../drivers/sidekiq/task-rules.ts';
import { toFailure } from '../../protocols/errors.ts';
import type { Registry } from '../task.ts';
import { bytesOf, noServer, TestLink } from './link.ts';
import { type InlineRun, type InlineSettings, Runs } from './runs.ts';
import { ENQUEUES, type Enqueued, Tape } from './tape.ts';

/** The options of a client that need no server. */
export type SidekiqTestOptions = Omit<SidekiqClientOptions, 'url' | 'namespace' | 'whenAway' | 'bufferLimit'>;

/** A `SidekiqClient` that sends nothing and remembers what it would send. */
export class SidekiqRecorder extends SidekiqClient {
  readonly enqueued: Enqueued<EnqueueOptions>;
  readonly #tape: Tape<EnqueueOptions>;

  constructor(options: SidekiqTestOptions = {}) {
    const tape = new Tape<EnqueueOptions>('sidekiq');
    const link = new TestLink((command) => {
      for (const { message } of pushed(command)) {
        const { id: _id, ...job } = decoded(message);
        tape.record(job);
      }
      return 1;
    });
    super(withUrl(options), link);
    this.#tape = tape;
    this.enqueued = tape.enqueued;
    tape.follow(this, ENQUEUES);
  }

  /** Forget what was enqueued. */
  clear(): void {
    this.#tape.clear();
  }
}

/** A `SidekiqClient` that runs each job as it is pushed, with its retries, and waits for none of them. */
export class SidekiqInline extends SidekiqClient {
  /** Every run so far, oldest first. */
  readonly runs: readonly InlineRun[];
  /** The job hashes that went to the dead set. */
  readonly dead: readonly JobHash[];

  constructor(tasks: Registry, { log, ...options }: SidekiqTestOptions & InlineSettings = {}) {
    const runs = new Runs('sidekiq', tasks, log);
    const rules = new ClassRules(tasks);
    const dead: JobHash[] = [];
    const link = new TestLink(async (command) => {
      const first = pushed(command).map(({ message }) => message);
      for (const message of first) runs.find(decoded(message).task);
      await runs.toTheEnd(first, run, (message) => decoded(message).task);
      return 1;
    });
    super(withUrl(options), link);
    this.runs = runs.all;
    this.dead = dead;

    async function run(message: SidekiqMessage): Promise<readonly SidekiqMessage[]> {
      const own = tasks.find('sidekiq', message.hash['class'] as string) !== undefined;
      // A handler of Active Job's wrapper itself gets the argument of the wrapper as it is.
      const name = (own ? undefined : wrappedClass(message.hash)) ?? (message.hash['class'] as string);
      const registration = runs.find(name);
      const rule = rules.find(name);
      const wrapped = name === message.hash['class'] ? undefined : readWrapped(message.hash);
      const job = toJob(message, rule?.limits, wrapped);
      let following: readonly SidekiqMessage[] = [];
      const settle = async (outcome: Outcome): Promise<Disposition> => {
        const retryIn = registration.options.retryIn;
        const policy: lifecycle.SidekiqPolicy = {
          ...rule?.policy,
          keys: KEYS,
          dialect: NEUTRAL,
          retryIn: retryIn === undefined ? undefined : (count, error) => retryIn(count, error, job),
          onError: (error) =>
            log?.error({ task: name, id: job.id, error }, 'retryIn threw; the delay of Sidekiq counts'),
          activeJob: wrapped !== undefined,
        };
        const moment = { now: new Date(), random: Math.random(), newId: randomUUID };
        let transition: lifecycle.SidekiqTransition;
        try {
          transition = lifecycle.settle(message, outcome, policy, moment);
        } catch (thrown) {
          transition = lifecycle.settle(
            message,
            { kind: 'error', error: toFailure(thrown), retriable: true },
            policy,
            moment,
          );
        }
        const { disposition, write, exhausted, error } = transition;
        if (exhausted && error !== undefined) {
          const verdict = await registration.options.retriesExhausted?.(job, error);
          if (verdict === 'discard') return disposition;
        }
        const written = write.commands.flatMap(pushed);
        dead.push(...written.filter((one) => one.set === KEYS.dead).map((one) => one.message.hash));
        following = written.filter((one) => one.set !== KEYS.dead).map((one) => one.message);
        return disposition;
      };
      const expiry = expiryOf(message.hash);
      const expired = expiry !== undefined && expiry < Date.now();
      await runs.run(
        { job, begin: () => undefined, settle, release: async () => {} },
        registration,
        expired ? { kind: 'expired' } : undefined,
      );
      return following;
    }
  }
}

const KEYS: Keyspace = keyspace();
const LIST = `${KEYS.prefix}queue:`;

function withUrl(options: SidekiqTestOptions): SidekiqClientOptions {
  // Never opened. A dialect of its own spares the look at running processes.
  return { dialect: '7.3', ...options, url: 'redis://testing.invalid' };
}

/** The jobs that a command writes, and the set they go to; undefined: a queue. Throws ConfigError for what only a server can answer. */
function pushed(command: Command): readonly { readonly message: SidekiqMessage; readonly set: string | undefined }[] {
  const [name, key, ...values] = command;
  const of = String(key);
  switch (name) {
    case 'LPUSH':
    case 'RPUSH':
      return values.map((value) => ({ message: decodeJob(bytesOf(value), of.slice(LIST.length)), set: undefined }));
    case 'ZADD':
      return values
        .filter((_, at) => at % 2 === 1)
        .map((value) => {
          const message = decodeJob(bytesOf(value), 'default');
          const { queue } = message.hash;
          return { message: typeof queue === 'string' ? { ...message, queue } : message, set: of };
        });
    case 'SADD':
    case 'ZREMRANGEBYSCORE':
    case 'ZREMRANGEBYRANK':
      return [];
    default:
      throw noServer('sidekiq', command);
  }
}

/** As a worker would hand it to a handler. */
function decoded(message: SidekiqMessage): {
  readonly id: string;
  readonly task: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  readonly queue: string;
} {
  const inner = wrappedClass(message.hash);
  const { id, task, args, kwargs, queue } = toJob(
    message,
    undefined,
    inner === undefined ? undefined : readWrapped(message.hash),
  );
  return { id, task, args, kwargs, queue };
}
