import type { Explanation } from '../../protocols/celery/explain.ts';
import type * as celery from '../drivers/celery/index.ts';

export interface System {
  readonly driver: () => Promise<typeof celery>;
  /** Explains a message in words; opens no connection and loads no driver. */
  readonly explain: (bytes: Uint8Array, now: Date) => Promise<Explanation>;
}

/** The one list of systems the command line knows. Each is loaded when it is first used. */
export const systems: Readonly<Record<'celery', System>> = {
  celery: {
    driver: () => import('../drivers/celery/index.ts'),
    explain: async (bytes, now) => (await import('../../protocols/celery/explain.ts')).explain(bytes, now),
  },
};
