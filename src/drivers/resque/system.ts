import type { System } from '../../system.ts';
import type { ResqueOptions } from './options.ts';

declare module '../../task.ts' {
  interface Systems {
    readonly resque: ResqueOptions;
  }
}

declare module '../../config.ts' {
  interface Config {
    /** Options of one Resque source, so that flags and Resque's environment can change single options. Not allowed beside `sources`. */
    readonly resque?: Partial<ResqueOptions>;
  }
}

/** The facts about Resque that are needed before its driver is loaded. */
export const resqueSystem: System<'resque'> = {
  name: 'resque',
  title: 'Resque',
  example: "{ url: 'redis://localhost' }",
  taskOptions: {},
};
