export const ENQUEUE_HELP: string = `
Numbers go as they are written: 1.0 is a Float for Ruby, and large integers stay whole.
--in and --at need a scheduler: resque-scheduler, or a worker of ours with --resque-scheduler.

Examples:
  jobglot enqueue resque HardJob '[1]' -q critical --url redis://localhost
  jobglot enqueue resque ShipJob '[42]' --active-job --in 300`;

export const INSPECT_HELP: string = `
What:
  queues (default)             queues with their sizes, and totals
  workers, working             who is there, who is at work
  failed                       failures with their numbers, the oldest first; --start and --limit page`;

export const CONTROL_HELP: string = `
Commands:
  retry NUMBER... | --all      put the jobs of failures into their queues again, and take the failures away (--keep: note when)
  delete NUMBER... | --all     take failures away
  clear                        forget all failures
  pause, resume                every worker, of Ruby (2.3 and later) and ours
  remove-queue QUEUE...        with everything that waits in it
  unregister WORKER...         take a worker off the list that nobody runs any more`;

export const DECODE_HELP: string = `
Examples:
  redis-cli lindex resque:queue:default 0 | jobglot decode resque
  redis-cli lindex resque:failed 0 | jobglot decode resque`;
