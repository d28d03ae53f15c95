import { celerySystem } from './drivers/celery/system.ts';
import { resqueSystem } from './drivers/resque/system.ts';
import { rqSystem } from './drivers/rq/system.ts';
import { sidekiqSystem } from './drivers/sidekiq/system.ts';
import { registerSystem } from './system.ts';

export type { CeleryTaskOptions } from './drivers/celery/system.ts';
export type { SidekiqTaskOptions } from './drivers/sidekiq/system.ts';

/**
 * The systems of this package, in the order of every list. Each name has a folder in `protocols`, `drivers` and `cli`, a sub-path in `package.json`,
 * and rules in `.oxlintrc.json`.
 */
export const builtIn: readonly [typeof celerySystem, typeof rqSystem, typeof sidekiqSystem, typeof resqueSystem] = [
  celerySystem,
  rqSystem,
  sidekiqSystem,
  resqueSystem,
];

for (const system of builtIn) registerSystem(system);
