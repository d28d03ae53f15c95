import { rq, type RqOptions } from '../../src/drivers/rq/index.ts';
import type { PoisonReport } from '../../src/source.ts';
import { defineTask, type Handler, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type Line, recorder } from './scene.ts';

/** A worker on RQ in this process, and what it said. */
export interface RqScene extends AsyncDisposable {
  readonly worker: Worker;
  readonly lines: readonly Line[];
  readonly poisons: readonly PoisonReport[];
}

export async function startRqWorker(options: RqOptions, handlers: Readonly<Record<string, Handler>>): Promise<RqScene> {
  const lines: Line[] = [];
  const poisons: PoisonReport[] = [];
  const tasks = new Tasks();
  for (const [name, handler] of Object.entries(handlers)) tasks.handle(defineTask(name), handler);
  const worker = new Worker({ tasks, sources: [rq(options)], log: recorder(lines) });
  worker.on('job:poison', (report) => poisons.push(report));
  await worker.start();
  return { worker, lines, poisons, [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 1_000 }) };
}
