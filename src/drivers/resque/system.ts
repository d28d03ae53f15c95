import type { System } from '../../system.ts';
import type { ResqueOptions } from './options.ts';

declare module '../../task.ts' {
  interface Systems {
    readonly resque: ResqueOptions;
  }
}

declare module '../../config.ts' {
  interface Config {
    /** One Resque source, as options, so that flags and Resque's environment can change single ones. Not beside `sources`. */
    readonly resque?: Partial<ResqueOptions>;
  }
}

/** What is known of Resque before its driver is loaded. */
export const resqueSystem: System<'resque'> = {
  name: 'resque',
  title: 'Resque',
  example: "{ url: 'redis://localhost' }",
  taskOptions: {},
};
