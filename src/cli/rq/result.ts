import * as json from '../../../protocols/formats/json.ts';
import { pythonRepr } from '../../../protocols/formats/python-repr.ts';
import type { RqJob, RqResult } from '../../drivers/rq/index.ts';
import { CanceledJobError, NoSuchJobError, RemoteError, ResultTimeoutError } from '../../errors.ts';
import { EXIT } from '../exit.ts';
import { printable } from '../printable.ts';
import type { Environment, Output } from '../system.ts';
import { type ClientFlags, clientFor } from './settings.ts';

export interface ResultFlags extends ClientFlags {
  readonly wait?: number;
  readonly json?: boolean;
}

/** `jobglot result rq ID`: what is stored, at once or once the job has ended. */
export async function showResult(
  id: string,
  flags: ResultFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const client = await clientFor(flags, env, cwd);
  try {
    return await printResult(client.job(id), flags, output);
  } finally {
    await client.close();
  }
}

/**
 * Prints what a job returned, as JSON where it can be that, else as Python shows it. 0 for a success; 1 for a failure and for a
 * job that has not ended.
 */
export async function printResult(
  job: RqJob,
  flags: { readonly wait?: number; readonly json?: boolean },
  { out, err }: Output,
): Promise<number> {
  if (flags.wait !== undefined) {
    try {
      await job.get({ timeoutMs: flags.wait * 1000 });
    } catch (error) {
      const told = error instanceof ResultTimeoutError || error instanceof RemoteError;
      if (!told && !(error instanceof CanceledJobError) && !(error instanceof NoSuchJobError)) throw error;
      if (!(error instanceof RemoteError)) err(`${error.message}\n`);
    }
  }
  const [record, result] = [await job.fetch(), await job.result()];
  const status = record?.status ?? (result === undefined ? 'unknown' : result.type);
  if (flags.json === true) {
    out(`${json.stringify({ id: job.id, status, ...resultMembers(result) })}\n`);
    return result?.type === 'successful' ? EXIT.ok : EXIT.failure;
  }
  if (result?.type === 'successful') {
    out(`${valueText(result)}\n`);
    return EXIT.ok;
  }
  err(
    `${job.id} is ${status}${record === undefined ? ': it was never there, was deleted, or is not kept any longer' : ''}\n`,
  );
  if (result?.excString !== undefined) err(`\n${printable(result.excString.trimEnd())}\n`);
  return EXIT.failure;
}

function resultMembers(result: RqResult | undefined): Readonly<Record<string, unknown>> {
  if (result === undefined) return {};
  const time = (date: Date | undefined): string | null => date?.toISOString() ?? null;
  return {
    type: result.type,
    return_value: result.type === 'successful' ? jsonValue(result) : null,
    exc_string: result.excString ?? null,
    worker_name: result.workerName,
    created_at: time(result.createdAt),
    started_at: time(result.startedAt),
    ended_at: time(result.endedAt),
  };
}

/** What JSON has no form for is a text, as Python shows it. */
function jsonValue(result: RqResult): unknown {
  const value = result.value({ exact: true });
  try {
    json.stringify(value);
    return value;
  } catch {
    return pythonRepr(value);
  }
}

function valueText(result: RqResult): string {
  const value = result.value({ exact: true });
  try {
    return json.stringify(value);
  } catch {
    return printable(pythonRepr(value));
  }
}
