import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { Child } from './child.ts';
import { Dialogue } from './dialogue.ts';
import { freePort } from './free-port.ts';
import { findProgram, root } from './setup.mjs';
import { PATIENCE_MS, until } from './until.ts';

const apps = join(root, 'test/interop/apps/ruby');

export interface RubyAppOptions {
  /** Where Redis is, as a URL. */
  readonly redis: string;
  /** A redis-namespace before every key: Sidekiq up to 6.x. */
  readonly namespace?: string;
  /** Ruby that is run when the application has been loaded. */
  readonly prelude?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface RubyVersions {
  readonly ruby: string;
  readonly sidekiq: string;
  readonly activejob: string;
}

/** Which Sidekiq the Ruby here has, for what tests know before they start; '' where there is no Ruby. */
export function sidekiqVersion(): string {
  const ruby = process.env['JOBGLOT_RUBY'] ?? findProgram('ruby');
  if (ruby === undefined) return '';
  return spawnSync(ruby, ['-rsidekiq/version', '-e', 'print Sidekiq::VERSION'], { encoding: 'utf8' }).stdout;
}

interface Raised {
  readonly type: string;
  readonly message: string;
  readonly backtrace: readonly string[];
}

/** Real Ruby with the application loaded: one long-lived process, one piece of Ruby at a time. */
export class Ruby implements AsyncDisposable {
  readonly versions: RubyVersions;
  readonly #dialogue: Dialogue;

  private constructor(versions: RubyVersions, dialogue: Dialogue) {
    this.versions = versions;
    this.#dialogue = dialogue;
  }

  static async start(options: RubyAppOptions): Promise<Ruby> {
    const dialogue = new Dialogue(new RubyProcess(['driver.rb'], options), (raised) => new RubyError(raised as Raised));
    return new Ruby((await dialogue.hello) as RubyVersions, dialogue);
  }

  /**
   * Runs this Ruby, with `values` in scope, and returns what it comes to; both go as JSON, so what must be exact is a text.
   * Rejects with a RubyError when Ruby raises.
   */
  run<T = unknown>(source: string, values: Readonly<Record<string, unknown>> = {}): Promise<T> {
    return this.#dialogue.ask({ source, values }) as Promise<T>;
  }

  log(): string {
    return this.#dialogue.log();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#dialogue[Symbol.asyncDispose]();
  }
}

/** What Ruby raised in the driver. */
export class RubyError extends Error {
  override readonly name = 'RubyError';
  readonly type: string;
  constructor({ type, message, backtrace }: Raised) {
    super(`${type}: ${message}\n${backtrace.join('\n')}`);
    this.type = type;
  }
}

export interface RubySidekiqOptions extends RubyAppOptions {
  /** `-q`: `critical,2`. @default ['default'] */
  readonly queues?: readonly string[];
  /** @default 2 */
  readonly concurrency?: number;
  /**
   * Seconds it waits for running jobs when it is told to stop. With less than the two of a fetch an idle thread of its own takes the
   * job that is pushed back, and it is lost. @default 3
   */
  readonly timeout?: number;
}

/** A real `sidekiq -r app.rb`. */
export interface RubySidekiq extends AsyncDisposable {
  readonly pid: number;
  /** SIGTERM: it waits for its jobs, and pushes back what has not ended. */
  stop(): Promise<void>;
  /** SIGKILL, as the kernel does when memory runs out. */
  kill(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  readonly gone: Promise<void>;
  log(): string;
}

/** Starts one, and resolves when it has begun to fetch. */
export async function startSidekiq(options: RubySidekiqOptions): Promise<RubySidekiq> {
  const queues = (options.queues ?? ['default']).flatMap((queue) => ['-q', queue]);
  const flags = ['-c', String(options.concurrency ?? 2), '-t', String(options.timeout ?? 3), ...queues];
  const cli = 'require "sidekiq/cli"; cli = Sidekiq::CLI.instance; cli.parse; cli.run';
  const own = new RubyProcess(['-e', cli, '--', '-r', './app.rb', '-e', 'test', ...flags], options);
  await own.says(/Starting processing|Running in/, PATIENCE_MS);
  return {
    pid: own.pid,
    gone: own.gone,
    stop: () => own.end('SIGTERM', 20_000),
    kill: () => own.end('SIGKILL'),
    signal: (signal) => process.kill(own.pid, signal),
    log: () => own.log,
    [Symbol.asyncDispose]: () => own.end('SIGTERM', 5_000),
  };
}

/** Sidekiq's own pages, served. */
export interface SidekiqWeb extends AsyncDisposable {
  readonly url: string;
  log(): string;
}

export async function startSidekiqWeb(options: RubyAppOptions): Promise<SidekiqWeb> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const own = new RubyProcess(['web.rb', String(port)], options);
  await until("Sidekiq's pages are served", async () => {
    if (own.isGone) throw own.ended();
    const response = await fetch(`${url}/stats`).catch(() => undefined);
    // An answer that is none is told at once.
    if (response?.status === 500) throw new Error(`Sidekiq's pages fail:\n${own.log}`);
    return response?.ok === true;
  });
  return { url, log: () => own.log, [Symbol.asyncDispose]: () => own.end('SIGTERM', 2_000) };
}

/** One Ruby in test/interop/apps/ruby. */
class RubyProcess extends Child {
  constructor(args: readonly string[], { redis, namespace, prelude, env }: RubyAppOptions) {
    // The set-up has looked whether it has what it needs.
    const ruby = process.env['JOBGLOT_RUBY'] ?? findProgram('ruby');
    if (ruby === undefined) {
      throw new Error(
        'no Ruby with Sidekiq and Active Job: run `node test/support/setup.mjs ruby` (npm test does it by itself)',
      );
    }
    super('Ruby', ruby, args, apps, {
      ...process.env,
      REDIS_URL: redis,
      TZ: 'UTC',
      LANG: 'C.UTF-8',
      ...(namespace === undefined ? {} : { JOBGLOT_NAMESPACE: namespace }),
      ...(prelude === undefined ? {} : { JOBGLOT_PRELUDE: prelude }),
      ...env,
    });
  }
}
