export const ENQUEUE_HELP: string = `
Numbers go as they are written: 1.0 is a Float for Ruby, and large integers stay whole.

Examples:
  jobglot enqueue sidekiq HardJob '[1]' --in 300 --url redis://localhost
  jobglot enqueue sidekiq HardJob '[1, "two"]' -q critical --retry 5 --set 'tenant_id=7'
  jobglot enqueue sidekiq ShipJob '[42]' --active-job`;

export const INSPECT_HELP: string = `
Other words, in Sidekiq's terms:
  stats (default), processes, work
  retry, schedule, dead        the jobs of that set; --find TEXT for a jid, a class or any text
  queue NAME                   the jobs of a queue, the next to run first`;

/** Commands of \`jobglot control sidekiq\` in Sidekiq's words. */
export const OWN = {
  quiet: { usage: '[PROCESS...]', help: 'take nothing more; all processes where none is named' },
  stop: { usage: '[PROCESS...]', help: 'finish running jobs, and end; all processes where none is named' },
  retry: { usage: 'JID...', help: 'into its queue now; --all: the whole --set (default: retry)' },
  kill: { usage: 'JID...', help: 'to the dead set; --all: the whole --set (default: retry)' },
  delete: { usage: 'JID...', help: 'remove it; --all: the whole --set (default: retry)' },
  clear: { usage: 'QUEUE...', help: 'remove the jobs of queues' },
  unpause: { usage: 'QUEUE...', help: 'resume; workers of Sidekiq Pro and of this package observe pause and resume' },
} as const;

export const DECODE_HELP: string = `
Examples:
  redis-cli lindex queue:default -1 | jobglot decode sidekiq
  redis-cli zrange retry 0 0 | jobglot decode sidekiq`;
