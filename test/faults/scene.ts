import { randomUUID } from 'node:crypto';
import { celery, type CeleryOptions } from '../../src/drivers/celery/index.ts';
import type { Logger } from '../../src/log.ts';
import type { PoisonReport } from '../../src/source.ts';
import { defineTask, type Handler, type TaskOptions, Tasks } from '../../src/task.ts';
import { Worker, type WorkerOptions } from '../../src/worker/worker.ts';

export interface Line {
  readonly level: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/** A worker of this process, and what it said. */
export interface Scene extends AsyncDisposable {
  readonly worker: Worker;
  readonly lines: readonly Line[];
  readonly poisons: readonly PoisonReport[];
  /** Ids of the jobs whose handlers started, in that order. */
  readonly started: readonly string[];
}

export type Handlers = Readonly<Record<string, Handler | readonly [Handler, TaskOptions]>>;

export async function startWorker(
  options: CeleryOptions,
  handlers: Handlers,
  workerOptions: Partial<WorkerOptions> = {},
): Promise<Scene> {
  const lines: Line[] = [];
  const poisons: PoisonReport[] = [];
  const started: string[] = [];
  const tasks = new Tasks();
  for (const [name, entry] of Object.entries(handlers)) {
    const [handler, taskOptions] = typeof entry === 'function' ? [entry, {}] : (entry as [Handler, TaskOptions]);
    tasks.handle(defineTask(name), handler, taskOptions);
  }
  const worker = new Worker({ tasks, sources: [celery(options)], log: recorder(lines), ...workerOptions });
  worker.on('job:poison', (report) => poisons.push(report));
  worker.on('job:started', ({ job }) => started.push(job.id));
  await worker.start();
  return { worker, lines, poisons, started, [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 1_000 }) };
}

export function recorder(lines: Line[]): Logger {
  const at =
    (level: string) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields: fields as Record<string, unknown>, message });
  return { level: 'info', debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** The parts of a message as kombu writes it; a test replaces one. `undefined` leaves a member out. */
export interface Parts {
  readonly id?: unknown;
  readonly task?: unknown;
  readonly args?: unknown;
  readonly kwargs?: unknown;
  readonly embed?: unknown;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly properties?: Readonly<Record<string, unknown>>;
  /** The envelope's own members. */
  readonly envelope?: Readonly<Record<string, unknown>>;
  /** The body's bytes, before base64. */
  readonly body?: Uint8Array | string;
  readonly queue?: string;
}

/** One list item, written by hand: no code of ours has a say in it. */
export function message(parts: Parts = {}): string {
  const { id = randomUUID(), task = 'ok', args = [], kwargs = {}, queue = 'celery' } = parts;
  const embed = 'embed' in parts ? parts.embed : { callbacks: null, errbacks: null, chain: null, chord: null };
  const body = parts.body ?? JSON.stringify([args, kwargs, embed]);
  return JSON.stringify({
    body: Buffer.from(body as string).toString('base64'),
    'content-encoding': 'utf-8',
    'content-type': 'application/json',
    headers: {
      lang: 'py',
      task,
      id,
      shadow: null,
      eta: null,
      expires: null,
      group: null,
      group_index: null,
      retries: 0,
      timelimit: [null, null],
      root_id: id,
      parent_id: null,
      argsrepr: '()',
      kwargsrepr: '{}',
      origin: 'gen1@by-hand',
      ignore_result: false,
      ...parts.headers,
    },
    properties: {
      correlation_id: id,
      reply_to: 'f7bfb4ac-7e42-3a4d-a3b2-1a1f6c8e2a36',
      delivery_mode: 2,
      delivery_info: { exchange: '', routing_key: queue },
      priority: 0,
      body_encoding: 'base64',
      delivery_tag: randomUUID(),
      ...parts.properties,
    },
    ...parts.envelope,
  });
}
