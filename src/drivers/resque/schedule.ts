/** A cron schedule, as resque-scheduler's YAML has it. Dates and options keep their names there. */
export interface ResqueSchedule {
  /** The class. @default the name of the schedule */
  readonly class?: string;
  /** The class that is enqueued in place of `class`. */
  readonly custom_job_class?: string;
  readonly queue: string;
  /** What is no list is the one argument. */
  readonly args?: unknown;
  /** Five fields, or six with seconds first, and perhaps a time zone: `0 9 * * 1-5 Europe/Berlin`. */
  readonly cron?: string;
  /** `30s`, `1h30m`; or with the first: `['1h', { first_in: '5m' }]`. */
  readonly every?: string | readonly [string, { readonly first_in?: string }];
  readonly description?: string;
  /** Followed in these environments only, with commas between them: see `scheduler.env`. */
  readonly rails_env?: string;
  readonly env?: string;
}
