import type { Command } from 'commander';
import type { Explanation } from '../../protocols/explanation.ts';
import type { Config } from '../config.ts';
import type { Executor } from '../executor.ts';
import type { Logger, LogLevel } from '../log.ts';
import type { Source } from '../source.ts';
import type { Worker } from '../worker/worker.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export interface CliContext extends Output {
  readonly env: Environment;
  readonly cwd: string;
  /** Told the exit code of the command that ran. */
  readonly done: (code: number) => void;
}

/** Finds or makes the command of a verb that systems share: `enqueue`, `result`, `inspect`. */
export type Verb = (name: keyof typeof VERBS) => Command;

export const VERBS = {
  enqueue: 'send a job',
  result: 'show the result of a job',
  inspect: 'ask what there is',
  control: 'tell workers what to do',
  events: 'watch what workers tell',
  requeue: 'run failed jobs again',
  empty: 'remove the jobs of queues',
  suspend: 'let workers start nothing more',
  resume: 'let workers start jobs again',
  cron: 'send jobs when they are due',
  decode: 'explain a stored job field by field',
} as const;

/** The flags of `jobglot worker` that every system has, as commander names them. Each system adds its own. */
export interface WorkerFlags {
  readonly app?: string;
  readonly config?: string;
  readonly queues?: readonly string[];
  readonly concurrency?: number;
  readonly loglevel?: LogLevel;
  readonly logFormat?: 'json' | 'text';
  readonly shutdownTimeout?: number;
  readonly unknownTask?: 'requeue' | 'reject' | 'hold';
}

/** A source that flags, environment and config file have asked for, and who asked for what. */
export interface ResolvedSource {
  readonly source: Source;
  /** Sources that belong to it: capsules. */
  readonly more?: readonly Source[];
  /** What the system's own configuration says of it; flags and the config file win. */
  readonly shutdownTimeoutMs?: number;
  /** Who named the broker and the results, and what else was set; for the banner. */
  readonly origin: {
    /** Where it is, for a source that does not tell. */
    readonly address?: string;
    readonly broker?: string;
    readonly results?: string;
    readonly options?: readonly string[];
  };
  /** How much is logged, where neither a flag nor the config file says. */
  readonly logLevel?: LogLevel;
  /** Where the handlers of the worker run. Gets the path of the file that exports the tasks. */
  readonly executor?: (tasks: string) => Promise<Executor>;
  /** What signals mean to the system's own workers, in place of what they mean to ours. Heeded where this is the only source. */
  readonly signals?: Readonly<Partial<Record<NodeJS.Signals, (worker: Worker, log: Logger) => void>>>;
  /** The variable of the environment that asks for a worker in the background. */
  readonly background?: string;
  /** Set where a folder stands in for a broker nobody named. */
  readonly tryOut?: TryOutNote | undefined;
  /** What runs with the worker and no longer, with connections of its own. */
  readonly companion?: ((log: Logger) => Promise<Companion>) | undefined;
}

/** For trying out only: which folder, and how to reach a worker that has no broker. */
export interface TryOutNote {
  readonly folder: string;
  readonly words: readonly string[];
}

export interface Companion {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** What the command line knows of a system. Drivers are loaded when a command runs, not before. */
export interface System {
  readonly name: string;
  /** What names its servers, in words. */
  readonly where: string;
  /** Its name as a word of a command, and its section of the config file: that of its driver's `System`. */
  readonly section: string;
  /** How commander's names of its flags of `jobglot worker` are written; those that choose it come first. */
  readonly workerFlags: Readonly<Record<string, string>>;
  /** Names of those flags that say: a worker of this system. */
  readonly chosenBy: readonly string[];
  addWorkerFlags(worker: Command): void;
  /** The one source of `jobglot worker`. Throws ConfigError. */
  resolveSource(flags: WorkerFlags, env: Environment, config: Config, cwd: string): Promise<ResolvedSource>;
  addCommands(verb: Verb, root: Command, context: CliContext): void;
  /** Explains a message in words; opens no connection and loads no driver. */
  explain(bytes: Uint8Array, now: Date): Promise<Explanation>;
  /** Examples for `jobglot decode`. */
  readonly decodeHelp: string;
}
