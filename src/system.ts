import type { Check } from './check.ts';
import { ConfigError } from './errors.ts';

/**
 * The data of a system that is needed before its driver is loaded. The driver declares it in its `system.ts`, beside the types it merges into
 * `Systems`, `TaskOptions` and `Config`. `systems.ts` is the one list of systems.
 */
export interface System<Name extends string = string> {
  /** `Source.system`, the key of its section in a config file, and its name on the command line: `celery`. */
  readonly name: Name;
  /** As its users write it: `Celery`. */
  readonly title: string;
  /** Its section of a config file, as an example for error messages: `{ url: 'redis://localhost' }`. */
  readonly example: string;
  /** The options of a task that only this system has, with a check for each. */
  readonly taskOptions: Readonly<Record<string, Check>>;
}

const registered = new Map<string, System>();

/** Makes a system known to config files and `Tasks.handle`. Throws ConfigError when the name is taken. */
export function registerSystem(system: System): void {
  if (registered.has(system.name)) throw new ConfigError(`registerSystem: there is a system '${system.name}' already`);
  registered.set(system.name, system);
}

/** Every system, in the order they were registered. */
export function registeredSystems(): readonly System[] {
  return [...registered.values()];
}
