export const ENQUEUE_HELP: string = `
Numbers go as they are written: 1.0 is a Float for Ruby, and large integers stay whole.

Examples:
  jobglot enqueue sidekiq HardJob '[1]' --in 300 --url redis://localhost
  jobglot enqueue sidekiq HardJob '[1, "two"]' -q critical --retry 5 --set 'tenant_id=7'
  jobglot enqueue sidekiq ShipJob '[42]' --active-job`;

export const INSPECT_HELP: string = `
What:
  stats (default), queues, processes, work
  retry, schedule, dead        what is in that set; --find TEXT for a jid, a class or any text
  queue NAME                   the jobs of a queue, the next to run first`;

export const CONTROL_HELP: string = `
Commands:
  quiet [PROCESS...]           take nothing more; all processes where none is named
  stop [PROCESS...]            finish what runs, and end
  retry JID... --set SET       into its queue now, from retry (default), dead or schedule
  kill JID... --set SET        to the dead set, from retry (default) or schedule
  delete JID... --set SET      away with it
  retry, kill, delete --all --set SET
  clear QUEUE...               throw away the jobs of queues
  pause, unpause QUEUE...      heeded by workers of ours and of Sidekiq Pro`;

export const DECODE_HELP: string = `
Examples:
  redis-cli lindex queue:default -1 | jobglot decode sidekiq
  redis-cli zrange retry 0 0 | jobglot decode sidekiq`;
