// frappe-worker.ts: frappe.enqueue('shop.images.resize', queue='node', key='a.png')
import { createLogger, defineTask, Fail, Tasks, Worker } from 'jobglot';
import { rq } from 'jobglot/rq';

// Frappe sends every job under this one name, so give Node a queue of its own: "workers": {"node": {}} in common_site_config.json.
interface Call {
  site: string;
  method: unknown;
  kwargs: Record<string, unknown>;
}
const executeJob = defineTask<() => unknown, Call>('frappe.utils.background_jobs.execute_job');

const methods: Record<string, (kwargs: Record<string, unknown>, site: string) => unknown> = {
  'shop.images.resize': ({ key }, site) => `${site}: ${String(key)}`,
};

const tasks = new Tasks().handle(executeJob, ({ kwargs: { site, method, kwargs } }) => {
  const known = typeof method === 'string' && Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (known === undefined) throw new Fail(`no such method here: ${String(method)}`);
  return known(kwargs, site);
});

const url = process.env['RQ_REDIS_URL'] ?? 'redis://localhost:11000/0'; // redis_queue of common_site_config.json
const queues = [`${process.env['BENCH_ID'] ?? 'home-frappe-frappe-bench'}:node`]; // bench_id, or the bench's path with dashes
// Each job names a callback of Frappe's own that trims its list of failures: not for us.
const worker = new Worker({ tasks, sources: [rq({ url, queues, unknownCallback: 'skip' })], log: createLogger() });

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await worker.run(stop.signal);
