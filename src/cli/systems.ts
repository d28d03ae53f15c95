import { builtIn } from '../systems.ts';
import { celery } from './celery/system.ts';
import { resque } from './resque/system.ts';
import { rq } from './rq/system.ts';
import { sidekiq } from './sidekiq/system.ts';
import type { System } from './system.ts';

/** The compiler sees that each system of this package has its commands. */
const commands: Readonly<Record<(typeof builtIn)[number]['name'], System>> = { celery, resque, rq, sidekiq };

const known: System[] = builtIn.map(({ name }) => commands[name]);

/** What the command line knows of each system. The first is the one that nobody has to name. */
export function systems(): readonly System[] {
  return known;
}

/** Adds the flags and commands of a system that is not part of this package. */
export function registerCommands(system: System): void {
  known.push(system);
}
