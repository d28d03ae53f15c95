export const ENQUEUE_HELP: string = `
Numbers go as they are written: :1.0 is a float for Python, and large integers stay whole.

Examples:
  jobglot enqueue rq app.tasks.add :2 :3 --wait 10 --url redis://localhost
  jobglot enqueue rq app.tasks.resize a.png width:=640 'box%=(0, 0, 10, 10)' -q images --retry-max 3 --retry-interval 60`;

export const DECODE_HELP: string = `
Examples:
  redis-cli --no-raw hgetall rq:job:3f1c… | jobglot decode rq
  redis-cli --raw hget rq:job:3f1c… data | jobglot decode rq
  redis-cli --no-raw xrevrange rq:results:3f1c… + - count 1 | jobglot decode rq`;

export const CRON_HELP: string = `
A config file:
  import { defineConfig } from 'jobglot';
  export default defineConfig({
    rq: {
      url: 'redis://localhost',
      cron: [
        { func: 'app.tasks.tidy', queueName: 'default', interval: 30 },
        { func: 'app.tasks.report', queueName: 'slow', cron: '0 7 * * mon-fri', args: ['daily'] },
      ],
    },
  });

Times are UTC. Several processes may run: each run is sent once. TERM or INT stops.`;

/** Commands of `jobglot control rq` under RQ's own names, beside the actions of the inspector. */
export const OWN: Readonly<
  Record<'shutdown' | 'kill-horse' | 'stop-job', { readonly usage: string; readonly help: string }>
> = {
  shutdown: { usage: 'WORKER', help: 'finish what runs, and end: stop' },
  'kill-horse': { usage: 'WORKER', help: 'end what it runs now; its jobs fail' },
  'stop-job': { usage: 'JOB', help: 'end the run of a job: terminate' },
};
