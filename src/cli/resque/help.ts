export const ENQUEUE_HELP: string = `
Numbers go as they are written: 1.0 is a Float for Ruby, and large integers stay whole.
--in and --at need a scheduler: resque-scheduler, or a worker of ours with --resque-scheduler.

Examples:
  jobglot enqueue resque HardJob '[1]' -q critical --url redis://localhost
  jobglot enqueue resque ShipJob '[42]' --active-job --in 300`;

export const INSPECT_HELP: string = `
What, beside the commands above:
  info (default)               queues with their sizes, and totals
  working                      workers that are at work
  failed                       failures with their numbers, the oldest first; --start and --limit page`;

export const DECODE_HELP: string = `
Examples:
  redis-cli lindex resque:queue:default 0 | jobglot decode resque
  redis-cli lindex resque:failed 0 | jobglot decode resque`;

/** The commands of `jobglot control resque` beside the actions of every system. */
export const OWN = {
  retry: {
    usage: 'ID... | NUMBER... | --all [--keep]',
    help: 'put the jobs of failures into their queues again; --keep leaves the failures named by number, and notes when',
  },
  delete: { usage: 'ID... | NUMBER... | --all', help: 'take failures away' },
  clear: { usage: '', help: 'forget all failures' },
  pause: { usage: '', help: 'every worker, of Ruby (2.3 and later) and of Node' },
  resume: { usage: '', help: 'let every worker take jobs again' },
  'remove-queue': { usage: 'QUEUE...', help: 'remove queues with everything in them' },
} as const;
