export const BEAT_HELP: string = `
A config file:
  import { defineConfig } from 'jobglot';
  import { crontab } from 'jobglot/celery';
  export default defineConfig({
    celery: {
      broker: 'redis://localhost',
      timezone: 'Europe/Berlin',
      beatSchedule: {
        tidy: { task: 'proj.tidy', schedule: 30 },
        report: { task: 'proj.report', schedule: crontab('0 7 * * mon-fri'), args: ['daily'], options: { queue: 'slow' } },
      },
    },
  });

With redis and redbeat several processes may run; one sends, and another takes over when it ends. redbeat shares its keys with
a RedBeat in Python. TERM or INT stops.`;

export const ENQUEUE_HELP: string = `
Numbers go as they are written: 1.0 is a float for Python, and large integers stay whole.

Examples:
  jobglot enqueue celery proj.tasks.add '[2, 3]' --wait 10 --broker redis://localhost --backend redis://localhost
  jobglot enqueue celery images.resize '["a.png"]' --kwargs '{"width": 640}' -Q images --expires 60`;

export const DECODE_HELP: string = `
Examples:
  redis-cli lindex celery 0 | jobglot decode celery
  redis-cli hget unacked 6e1f… | jobglot decode celery
  redis-cli get celery-task-meta-3f1c… | jobglot decode celery --json`;
