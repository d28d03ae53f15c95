import { type Check, unknownOption } from './check.ts';
import { ConfigError } from './errors.ts';
import type { Logger, LogLevel } from './log.ts';
import type { Source } from './source.ts';
import { registeredSystems, type System } from './system.ts';
import './systems.ts';
import type { Systems, Tasks } from './task.ts';
import type { Middleware } from './worker/middleware.ts';

/**
 * The default export of `jobglot.config.ts` (or .js, .mjs), which `jobglot worker` runs. Flags and environment win over it. Each driver merges the
 * section of its system into this interface: the options of one source, so that flags and environment can change single options.
 */
export interface Config {
  /** Which handler runs which task. The flag `-A FILE` takes its place. */
  readonly tasks?: Tasks;
  /** Sources that the file itself makes. Flags about the broker or queues are then refused. */
  readonly sources?: readonly Source[];
  readonly middleware?: readonly Middleware[];
  /** A logger of your own, shaped like pino's. @default text on a terminal, else JSON lines, on standard error */
  readonly log?: Logger;
  /** @default 'info' */
  readonly logLevel?: LogLevel;
  /** @default 'text' on a terminal, else 'json' */
  readonly logFormat?: 'json' | 'text';
  /** How long a stop waits for running handlers before it aborts their signals. @default 25 000 */
  readonly shutdownTimeoutMs?: number;
  /** How long aborted handlers may take to end. After that their jobs are given back while they still run. @default 3 000 */
  readonly abortGraceMs?: number;
}

const COMMON: Readonly<Record<Exclude<keyof Config, keyof Systems>, Check>> = {
  tasks: (value) => (isTasks(value) ? undefined : 'must be a Tasks: new Tasks().handle(task, handler)'),
  sources: (value) =>
    Array.isArray(value) && value.every(isSource) ? undefined : 'must be a list of sources, as drivers make them',
  middleware: (value) =>
    Array.isArray(value) && value.every((one) => typeof one === 'function') ? undefined : 'must be a list of functions',
  log: (value) =>
    isRecord(value) && typeof value['info'] === 'function' ? undefined : "must be a logger shaped like pino's",
  logLevel: (value) =>
    ['debug', 'info', 'warn', 'error', 'silent'].includes(value as string)
      ? undefined
      : 'must be debug, info, warn, error or silent',
  logFormat: (value) => (value === 'json' || value === 'text' ? undefined : 'must be json or text'),
  shutdownTimeoutMs: milliseconds,
  abortGraceMs: milliseconds,
};

/** Types for a config file, checked: `export default defineConfig({ tasks, … })`. Throws ConfigError. */
export function defineConfig(config: Config): Config {
  return checkConfig(config, 'defineConfig');
}

/** The same for a value of any type; its errors begin with `where`. */
export function checkConfig(value: unknown, where: string): Config {
  const systems = registeredSystems();
  if (!isRecord(value))
    throw new ConfigError(`${where}: the configuration must be an object: { tasks, ${exampleOf(systems)} }`);
  const sections = systems.map(({ name, example }): [string, Check] => [
    name,
    (section) => (isRecord(section) ? undefined : `must be an object of options: ${example}`),
  ]);
  const known: Readonly<Record<string, Check>> = { ...COMMON, ...Object.fromEntries(sections) };
  for (const [name, option] of Object.entries(value)) {
    if (!Object.hasOwn(known, name)) throw new ConfigError(`${where}: ${unknownOption(name, Object.keys(known))}`);
    const wrong = option === undefined ? undefined : (known[name] as Check)(option);
    if (wrong !== undefined) throw new ConfigError(`${where}: ${name} ${wrong}`);
  }
  for (const { name } of systems) {
    if (value[name] !== undefined && value['sources'] !== undefined)
      throw new ConfigError(`${where}: pass either ${name} (options) or sources (made by ${name}()), not both`);
  }
  return value;
}

function exampleOf([first]: readonly System[]): string {
  return first === undefined ? 'sources' : `${first.name}: ${first.example}`;
}

/** Recognises Tasks by their shape: a task file may have loaded another copy of this package. */
export function isTasks(value: unknown): value is Tasks {
  return isRecord(value) && typeof value['find'] === 'function' && typeof value['names'] === 'function';
}

function isSource(value: unknown): value is Source {
  return isRecord(value) && typeof value['receive'] === 'function' && typeof value['system'] === 'string';
}

function milliseconds(value: unknown): string | undefined {
  return typeof value === 'number' && value >= 0 ? undefined : 'must be a number of milliseconds';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
