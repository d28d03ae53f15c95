import { celery } from './celery/system.ts';
import { rq } from './rq/system.ts';
import { resque } from './resque/system.ts';
import { sidekiq } from './sidekiq/system.ts';
import type { System } from './system.ts';

/** The one list of systems the command line knows. The first is the one that nobody has to name. */
export const systems: readonly System[] = [celery, rq, sidekiq, resque];
