/** A cron schedule, in the form of resque-scheduler's YAML. Dates and options keep their names from there. */
export interface ResqueSchedule {
  /** The class. @default the name of the schedule */
  readonly class?: string;
  /** The class that is enqueued in place of `class`. */
  readonly custom_job_class?: string;
  readonly queue: string;
  /** A value that is not a list is the only argument. */
  readonly args?: unknown;
  /** Five fields, or six with seconds first, and an optional time zone: `0 9 * * 1-5 Europe/Berlin`. */
  readonly cron?: string;
  /** `30s`, `1h30m`; or with the delay of the first run: `['1h', { first_in: '5m' }]`. */
  readonly every?: string | readonly [string, { readonly first_in?: string }];
  readonly description?: string;
  /** Used only in these environments, separated by commas: see `scheduler.env`. */
  readonly rails_env?: string;
  readonly env?: string;
}
