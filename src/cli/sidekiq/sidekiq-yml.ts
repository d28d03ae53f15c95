import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { decode } from '../../../protocols/formats/yaml.ts';
import type { CapsuleOptions, SidekiqOptions } from '../../drivers/sidekiq/index.ts';
import { ConfigError } from '../../errors.ts';
import type { Environment } from '../system.ts';

/** What `config/sidekiq.yml` says, as options of ours. */
export interface SidekiqYml {
  readonly file: string;
  readonly options: Partial<SidekiqOptions>;
  readonly capsules: readonly (readonly [name: string, options: CapsuleOptions])[];
  readonly shutdownTimeoutMs: number | undefined;
  /** What is there and means nothing here. */
  readonly ignored: readonly string[];
}

/**
 * Sidekiq's own configuration: `config/sidekiq.yml` (or .yml.erb) of the folder, or the file that was asked for. Of ERB only reading the
 * environment is understood: nothing is evaluated. Undefined where there is none and none was asked for. Throws ConfigError.
 * Source: sidekiq/cli.rb parse_config, setup_options.
 */
export function readSidekiqYml(cwd: string, asked: string | undefined, env: Environment): SidekiqYml | undefined {
  const names = asked === undefined ? ['config/sidekiq.yml', 'config/sidekiq.yml.erb'] : [asked];
  const file = names.map((name) => resolve(cwd, name)).find((path) => existsSync(path));
  if (file === undefined) {
    if (asked === undefined) return undefined;
    throw new ConfigError(`--sidekiq-config ${asked}: there is no such file`);
  }
  let content: unknown;
  try {
    content = decode(withEnvironment(readFileSync(file, 'utf8'), env, file)) ?? {};
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const all = record(content, file);
  const name = env['APP_ENV'] ?? env['RAILS_ENV'] ?? env['RACK_ENV'] ?? 'development';
  const section = all.get(name);
  // A section named like the environment is laid over the rest.
  const merged = section === undefined ? all : new Map([...all, ...record(section, `${file}: ${name}`)]);
  return optionsOf(merged, file, env);
}

const KNOWN = new Set(['concurrency', 'queues', 'capsules', 'timeout', 'tag', 'labels', 'max_retries']);
const KNOWN_NUMBERS: ReadonlyMap<string, keyof SidekiqOptions> = new Map([
  ['concurrency', 'concurrency'],
  ['max_retries', 'maxRetries'],
  ['dead_max_jobs', 'deadMaxJobs'],
  ['dead_timeout_in_seconds', 'deadTimeoutInSeconds'],
  ['average_scheduled_poll_interval', 'averageScheduledPollInterval'],
  ['poll_interval_average', 'pollIntervalAverage'],
]);

function optionsOf(merged: ReadonlyMap<string, unknown>, file: string, env: Environment): SidekiqYml {
  const options: Record<string, unknown> = {};
  for (const [key, option] of KNOWN_NUMBERS) {
    const value = merged.get(key);
    if (value === undefined || value === null) continue;
    options[option] = number(value, `${file}: ${key}`);
  }
  const threads = env['RAILS_MAX_THREADS'];
  if (options['concurrency'] === undefined && threads !== undefined && threads !== '')
    options['concurrency'] = number(Number(threads), 'RAILS_MAX_THREADS');
  if (merged.get('queues') !== undefined) options['queues'] = queues(merged.get('queues'), `${file}: queues`);
  if (typeof merged.get('tag') === 'string') options['tag'] = merged.get('tag');
  const labels = merged.get('labels');
  if (Array.isArray(labels)) options['labels'] = labels.map(String);
  const capsules: (readonly [string, CapsuleOptions])[] = [];
  if (merged.get('capsules') !== undefined) {
    for (const [name, value] of record(merged.get('capsules'), `${file}: capsules`)) {
      const own = record(value, `${file}: capsules.${name}`);
      const count = own.get('concurrency');
      capsules.push([
        name,
        {
          queues: queues(own.get('queues') ?? ['default'], `${file}: capsules.${name}.queues`),
          ...(count === undefined ? {} : { concurrency: number(count, `${file}: capsules.${name}.concurrency`) }),
        },
      ]);
    }
  }
  const timeout = merged.get('timeout');
  return {
    file,
    options: options as Partial<SidekiqOptions>,
    capsules,
    shutdownTimeoutMs: timeout === undefined ? undefined : number(timeout, `${file}: timeout`) * 1000,
    // Sections of other environments are objects, and not meant for this one.
    ignored: [...merged]
      .filter(([key, value]) => !KNOWN.has(key) && !KNOWN_NUMBERS.has(key) && !isMap(value))
      .map(([key]) => key),
  };
}

function queues(value: unknown, where: string): NonNullable<CapsuleOptions['queues']> {
  const list = isMap(value) ? Object.entries(value) : value;
  if (!Array.isArray(list)) throw new ConfigError(`${where} must be a list of names, or of [name, weight]`);
  return list.map((one: unknown) => {
    if (typeof one === 'string') return one;
    if (Array.isArray(one) && typeof one[0] === 'string' && (one[1] === undefined || typeof one[1] === 'number'))
      return [one[0], (one[1] as number | undefined) ?? 0] as const;
    throw new ConfigError(`${where}: ${JSON.stringify(one)} is no name, and no [name, weight]`);
  });
}

function record(value: unknown, where: string): ReadonlyMap<string, unknown> {
  if (!isMap(value)) throw new ConfigError(`${where} must be a mapping`);
  // Ruby's symbols: `:concurrency` is `concurrency`.
  return new Map(Object.entries(value).map(([key, one]) => [key.replace(/^:/, ''), one]));
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function number(value: unknown, where: string): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new ConfigError(`${where} must be a number, not ${JSON.stringify(value)}`);
}

const TAG = /<%=?[^]*?%>/g;
/** `ENV["X"]`, `ENV["X"] || 5`, `ENV.fetch("X")`, `ENV.fetch("X", 5)`, `ENV.fetch("X") { 5 }`. */
const READS =
  /^<%=\s*ENV(?:\.fetch\(\s*(["'])(\w+)\1\s*(?:,\s*(["']?)([^"'(){}]*?)\3\s*)?\)(?:\s*\{\s*(["']?)([^"'{}]*?)\5\s*\})?|\[\s*(["'])(\w+)\7\s*\](?:\s*\|\|\s*(["']?)([^"']*?)\9)?)(?:\.to_i)?\s*-?%>$/;

/** ERB that reads the environment, with what it reads. Any other ERB is refused, since it would have to be run. */
function withEnvironment(text: string, env: Environment, file: string): string {
  return text.replaceAll(TAG, (tag) => {
    if (tag.startsWith('<%#')) return '';
    const read = READS.exec(tag);
    if (read === null)
      throw new ConfigError(
        `${file}: ${tag} would have to be run as Ruby; only ENV["NAME"] and ENV.fetch are read here`,
      );
    const name = read[2] ?? read[8] ?? '';
    const value = env[name] ?? read[4] ?? read[6] ?? read[10];
    if (value === undefined && read[2] !== undefined)
      throw new ConfigError(`${file}: ${tag}: ${name} is not set in the environment`);
    return value ?? '';
  });
}
