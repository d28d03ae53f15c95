import { celery, CeleryClient, type CeleryAppOptions } from '../../src/drivers/celery/index.ts';
import type { Source } from '../../src/source.ts';
import { SCRIPT } from './script.ts';
import type { Call, Foreign, Raw, Sender, SourceOptions, StoredResult } from './suite.ts';

/** The source of any Celery broker, as the suite wants it. */
export function celerySource(
  app: CeleryAppOptions,
  { queues, concurrency, late, unknownTask = 'requeue' }: SourceOptions,
): Source {
  if (typeof unknownTask !== 'string') throw new Error('Celery does not forward unknown tasks');
  return celery({ ...app, queues, concurrency, acksLate: late, unknownTask, unknownTaskDelayMs: 200 });
}

export function celerySender(app: CeleryAppOptions): Sender {
  const client = new CeleryClient(app);
  return {
    async send({ task = SCRIPT, queue, script, kwargs, id, ...call }: Call) {
      const sent = await client.enqueue(task, {
        queue,
        args: script,
        ...(kwargs === undefined ? {} : { kwargs }),
        ...(id === undefined ? {} : { taskId: id }),
        ...(call.delayMs === undefined ? {} : { countdown: call.delayMs / 1000 }),
        ...(call.at === undefined ? {} : { eta: call.at }),
        ...(call.expiresAt === undefined ? {} : { expires: call.expiresAt }),
        ...(call.timeoutMs === undefined ? {} : { timeLimit: call.timeoutMs / 1000 }),
        ...(call.softTimeoutMs === undefined ? {} : { softTimeLimit: call.softTimeoutMs / 1000 }),
      });
      return sent.id;
    },
    close: () => client.close(),
  };
}

/** What no broker of Celery can do. */
export const CELERY_GAPS: Readonly<Record<string, string>> = {
  'an unknown task goes to another queue, with unknownTask: { forward }':
    'a task of Celery goes by its routes, which its sender knows',
};

/** For brokers whose claimed messages cannot be read from outside. */
export const CLAIMS_UNSEEN: Readonly<Record<string, string>> = Object.fromEntries(
  [
    'a postponed job is an ordinary job in the store, and no error is recorded',
    'a postponed job keeps what other programs wrote into it',
  ].map((name) => [name, 'a postponed task is claimed, and claimed messages cannot be read from outside']),
);

/** A message without kombu's mark that it was delivered before: kombu writes it at two places when a message goes back. */
export function withoutMark(bytes: Buffer): unknown {
  const { headers, properties, ...message } = JSON.parse(String(bytes)) as Marked;
  const { redelivered: _, ...sent } = headers;
  const { redelivered: __, ...info } = properties.delivery_info;
  return { ...message, headers: sent, properties: { ...properties, delivery_info: info } };
}

interface Marked {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly properties: { readonly delivery_info: Readonly<Record<string, unknown>> };
}

type Messages = Pick<Raw, 'message' | 'idOf' | 'argsOf'>;

/** kombu's envelope and Celery's protocol 2, written and read by hand. */
export const celeryMessages: Messages = {
  message(queue: string, { task, id, args, at, extra = {} }: Foreign): Uint8Array {
    const body = Buffer.from(`[${args}, {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]`);
    const headers = { lang: 'py', task, id, root_id: id, parent_id: null, group: null, retries: 0, eta: at ?? null };
    const properties = {
      correlation_id: id,
      reply_to: 'somebody',
      delivery_mode: 2,
      delivery_info: { exchange: '', routing_key: queue },
      priority: 0,
      body_encoding: 'base64',
      delivery_tag: `tag-of-${id}`,
    };
    return Buffer.from(
      JSON.stringify({
        body: body.toString('base64'),
        'content-encoding': 'utf-8',
        'content-type': 'application/json',
        headers: { ...headers, expires: null, timelimit: [null, null], origin: 'gen1@elsewhere', ...extra },
        properties,
      }),
    );
  },
  idOf: (bytes) => (JSON.parse(String(bytes)) as { headers: { id: string } }).headers.id,
  argsOf: (bytes) => Buffer.from((JSON.parse(String(bytes)) as { body: string }).body, 'base64').toString(),
};

const STATES: Readonly<Record<string, StoredResult['state']>> = {
  SUCCESS: 'succeeded',
  FAILURE: 'failed',
  RETRY: 'retrying',
  REVOKED: 'cancelled',
};

/** A stored task meta, in the suite's words. */
export function celeryResult(stored: Buffer | null | undefined): StoredResult | undefined {
  if (stored === null || stored === undefined) return undefined;
  const text = stored.toString();
  const { status, result } = JSON.parse(text) as { status: string; result: unknown };
  const state = STATES[status] ?? status;
  if (state === status || state === 'succeeded') return { state, value: result, error: undefined, text };
  const { exc_type: type, exc_message: args } = result as { exc_type: string; exc_message: readonly unknown[] };
  return { state, value: undefined, error: { type, message: String(args[0]) }, text };
}
