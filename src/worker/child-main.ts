import process from 'node:process';
import { toFailure } from '../../protocols/errors.ts';
import { ConfigError, UnknownTaskError } from '../errors.ts';
import { createLogger } from '../log.ts';
import { Discard, Fail, Postpone, Reject, Replace, Retry } from '../signals.ts';
import type { Registry, TaskContext } from '../task.ts';
import type { FromChild, Thrown, ToChild } from './child-messages.ts';

/** The process of one job. It loads the tasks from the file that is its first argument, waits for its job, runs it, reports the outcome, and ends. */
const [file = ''] = process.argv.slice(2);
const abort = new AbortController();
let updates = 0;

// Without its parent no process holds the job's claim any more: another worker runs the job.
process.on('disconnect', () => process.exit(1));
// Ctrl-C reaches this process, too. The parent decides when the job ends.
process.on('SIGINT', () => {});
// The job is to end. A handler that observes its signal has the time until SIGKILL.
process.on('SIGTERM', () => abort.abort(new Error('the process of this job is to end')));

const tasks = await load(file);
process.on('message', (message: ToChild) => {
  if (message.kind === 'abort')
    abort.abort(Object.defineProperty(new Error(message.message), 'name', { value: message.name }));
  else void run(message);
});
say({ kind: 'ready' });

async function run({ system, job, title }: Extract<ToChild, { readonly kind: 'run' }>): Promise<void> {
  if (title !== undefined) process.title = title;
  const registration = tasks.find(system, job.task);
  const context: TaskContext = {
    system,
    signal: abort.signal,
    log: createLogger(),
    update: (state, meta) => {
      say({ kind: 'update', id: ++updates, state, meta });
      return Promise.resolve();
    },
  };
  let told: FromChild;
  try {
    if (registration === undefined) throw new UnknownTaskError(system, job.task);
    told = { kind: 'returned', value: await registration.handler(job, context) };
  } catch (error) {
    told = { kind: 'threw', thrown: thrownOf(error) };
  }
  end(told);
}

/** Sends a last message. The process ends only when the parent has it. */
function end(message: FromChild): void {
  try {
    process.send?.(message, () => process.exit(0));
  } catch (error) {
    // Some values cannot be sent to another process: a function, for one.
    process.send?.({ kind: 'threw', thrown: thrownOf(error) } satisfies FromChild, () => process.exit(0));
  }
}

function say(message: FromChild): void {
  process.send?.(message);
}

function thrownOf(error: unknown): Thrown {
  const failure = toFailure(error);
  const name = error instanceof Error ? error.name : 'Error';
  const cause = error instanceof Error && error.cause !== undefined ? toFailure(error.cause) : undefined;
  if (error instanceof Retry) return { failure, name, signal: { kind: 'Retry', delayMs: error.delayMs, cause } };
  if (error instanceof Fail) return { failure, name, signal: { kind: 'Fail', cause } };
  if (error instanceof Discard) return { failure, name, signal: { kind: 'Discard' } };
  if (error instanceof Postpone) return { failure, name, signal: { kind: 'Postpone', delayMs: error.delayMs } };
  if (error instanceof Reject) return { failure, name, signal: { kind: 'Reject', requeue: error.requeue } };
  if (error instanceof Replace) return { failure, name, signal: { kind: 'Replace', by: error.by } };
  return { failure, name, signal: undefined };
}

async function load(url: string): Promise<Registry> {
  const module = (await import(url)) as { readonly tasks?: unknown; readonly default?: unknown };
  const inner = (module.default as { readonly tasks?: unknown } | undefined)?.tasks;
  const found = [module.tasks, module.default, inner].find(isRegistry);
  if (found === undefined)
    throw new ConfigError(`${url} exports no tasks; write export const tasks = new Tasks().handle(task, handler)`);
  return found;
}

function isRegistry(value: unknown): value is Registry {
  return typeof value === 'object' && value !== null && 'find' in value && typeof value.find === 'function';
}
