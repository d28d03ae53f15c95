import { exceptionOf } from '../../../protocols/celery/outcome/exceptions.ts';
import { READY_STATES, type TaskMeta } from '../../../protocols/celery/outcome/result.ts';
import { encodeJson } from '../../../protocols/celery/message/serializers.ts';
import * as json from '../../../protocols/formats/json.ts';
import type { CeleryClient } from '../../drivers/celery/index.ts';
import { ResultTimeoutError } from '../../errors.ts';
import { type ClientFlags, resultClientFor } from './client.ts';
import { EXIT } from '../exit.ts';
import { printable } from '../printable.ts';
import type { Environment, Output } from '../system.ts';

export interface ResultFlags extends ClientFlags {
  readonly wait?: number;
  readonly json?: boolean;
}

/** `jobglot result celery ID`: what is stored, at once or once it is final. */
export async function showResult(
  id: string,
  flags: ResultFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const client = await resultClientFor(flags, env, cwd);
  try {
    return await printResult(client, id, flags, output);
  } finally {
    await client.close();
  }
}

/**
 * Prints the result of a task as the JSON text that is stored, so that `1.0` and large integers stay what they are. Its exit code: 0 for a
 * success, 1 for a failure and for a task that has not ended.
 */
export async function printResult(
  client: CeleryClient,
  id: string,
  flags: { readonly wait?: number; readonly json?: boolean },
  { out, err }: Output,
): Promise<number> {
  let meta: TaskMeta | undefined;
  try {
    meta =
      flags.wait === undefined
        ? await client.meta(id)
        : await client.wait(id, ({ status }) => READY_STATES.has(status), { timeoutMs: flags.wait * 1000 });
  } catch (error) {
    if (!(error instanceof ResultTimeoutError)) throw error;
    // The state as it is, in the form that was asked for.
    meta = await client.meta(id);
    err(`${error.message}\n`);
  }
  const status = meta?.status ?? 'PENDING';
  const stored = await client.backend.fetch(id);
  if (flags.json === true) out(`${metaText(id, meta, stored)}\n`);
  if (meta === undefined || !READY_STATES.has(status)) {
    if (flags.json !== true) err(`${id} is ${status}${meta === undefined ? ': waiting, unknown, or expired' : ''}\n`);
    return EXIT.failure;
  }
  if (status === 'SUCCESS') {
    if (flags.json !== true) out(`${rawMember(stored, 'result') ?? encodeJson(meta.result)}\n`);
    return EXIT.ok;
  }
  if (flags.json !== true) err(failureText(meta));
  return EXIT.failure;
}

function failureText({ status, result, traceback }: TaskMeta): string {
  const { type, module, args } = exceptionOf(result) ?? { type: status, module: null, args: [] };
  const message = args.map((arg) => (typeof arg === 'string' ? arg : encodeJson(arg))).join(', ');
  const named = module === null || module === 'builtins' ? type : `${module}.${type}`;
  return `${status}: ${printable(named)}${message === '' ? '' : `: ${printable(message)}`}\n${traceback === undefined || traceback === '' ? '' : `\n${printable(traceback.trimEnd())}\n`}`;
}

/** The stored JSON; of another serializer's, its fields as JSON; of none, what Celery says of an unknown task. */
function metaText(id: string, meta: TaskMeta | undefined, stored: Buffer | undefined): string {
  if (meta === undefined) return encodeJson({ task_id: id, status: 'PENDING', result: null });
  if (stored !== undefined && rawMember(stored, 'status') !== undefined) return stored.toString('utf8');
  const { status, result, traceback = null, taskId = id } = meta;
  return encodeJson({ status, result, traceback, task_id: taskId });
}

function rawMember(stored: Buffer | undefined, name: string): string | undefined {
  if (stored === undefined) return undefined;
  try {
    return json.member(stored.toString('utf8'), [name]);
  } catch {
    return undefined; // Stored by another serializer.
  }
}
