import type { Config } from '../config.ts';
import { ConfigError } from '../errors.ts';
import type { Environment, ResolvedSource, System, WorkerFlags } from './system.ts';
import { systems as knownSystems } from './systems.ts';

/** The sources that flags, environment and config file ask for. Throws ConfigError. */
export async function resolveSources(
  flags: WorkerFlags,
  env: Environment,
  config: Config,
  cwd: string,
  file: string | undefined,
): Promise<readonly ResolvedSource[]> {
  if (config.sources !== undefined) {
    refuseSourceFlags(flags, file ?? 'the config file');
    return config.sources.map((source) => ({ source, origin: {} }));
  }
  const systems = systemsFor(flags, config);
  const resolved: ResolvedSource[] = [];
  for (const system of systems) resolved.push(await system.resolveSource(flags, env, config, cwd));
  return resolved;
}

/** Those that flags name; else those that the file has a section for; else the first of the list. Throws ConfigError. */
export function systemsFor(flags: WorkerFlags, config: Config): readonly System[] {
  const has = (name: string): boolean => (flags as Readonly<Record<string, unknown>>)[name] !== undefined;
  const known = knownSystems();
  const named = known.filter(({ chosenBy }) => chosenBy.some(has));
  const sections = known.filter(({ section }) => (config as Readonly<Record<string, unknown>>)[section] !== undefined);
  const chosen = named.length > 0 ? named : sections.length > 0 ? sections : known.slice(0, 1);
  const several = chosen.map(({ name }) => name).join(' and ');
  for (const { workerFlags, name, chosenBy } of known.filter((system) => !chosen.includes(system))) {
    const stray = Object.keys(workerFlags).filter(has);
    if (stray.length === 0) continue;
    throw new ConfigError(
      `${written(stray, workerFlags)}: meant for ${name}, and this worker is for ${several}; pass ${workerFlags[chosenBy[0] as string]} URL to have one for ${name}`,
    );
  }
  const shared = Object.keys(COMMON_SOURCE_FLAGS).filter(has);
  if (chosen.length > 1 && shared.length > 0)
    throw new ConfigError(
      `${written(shared, COMMON_SOURCE_FLAGS)}: this worker is for ${several}; set it for each in the config file, or start a worker for each`,
    );
  return chosen;
}

/** Sources that a config file has made cannot be changed by flags. Throws ConfigError naming those that were given. */
export function refuseSourceFlags(flags: WorkerFlags, file: string): void {
  const spelled = Object.assign(
    {},
    ...knownSystems().map(({ workerFlags }) => workerFlags),
    COMMON_SOURCE_FLAGS,
  ) as Flags;
  const given = Object.keys(spelled).filter((name) => (flags as Readonly<Record<string, unknown>>)[name] !== undefined);
  if (given.length === 0) return;
  throw new ConfigError(
    `${written(given, spelled)}: ${file} makes its sources itself. Set it there, or give the file's options as ${knownSystems()[0]?.section ?? ''}: { … } instead of sources`,
  );
}

type Flags = Readonly<Record<string, string>>;

/** The flags about a source that every system has. */
const COMMON_SOURCE_FLAGS: Flags = {
  queues: '--queues',
  concurrency: '--concurrency',
  unknownTask: '--unknown-task',
};

function written(names: readonly string[], spelled: Flags): string {
  return names.map((name) => spelled[name]).join(', ');
}
