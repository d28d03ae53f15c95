import { Buffer } from 'node:buffer';
import { WireError } from '../errors.ts';
import { deflate, inflate, type LoadOptions, loads } from './serializers.ts';
import { epochText, readEpoch } from './times.ts';

/**
 * One entry of the stream `rq:results:J`: the result of one run. Source: rq/results.py serialize and restore, 2.10.
 *
 * | field | value |
 * |---|---|
 * | `type` | 1 successful, 2 failed, 3 stopped (never written), 4 retried, 5 max retries exceeded |
 * | `worker_name` | empty for a run without a worker |
 * | `exc_string` | base64(zlib(text)) |
 * | `return_value` | base64(serialized); missing for None |
 * | `execution_id`, `execution_started_at`, `execution_ended_at` | hex, seconds since the epoch |
 *
 * The entry's id holds the time of the result in milliseconds, so the entry is always added with the id `*`.
 */
export type ResultType = 'successful' | 'failed' | 'stopped' | 'retried' | 'max_retries_exceeded';

const TYPES: readonly ResultType[] = ['successful', 'failed', 'stopped', 'retried', 'max_retries_exceeded'];

/** The result of a run: an entry of the stream `rq:results:J`. */
export interface ResultEntry {
  readonly type: ResultType;
  readonly workerName: string;
  /** Serialized; undefined for None. */
  readonly returnValue?: Buffer;
  /** The traceback, or another text with the reason. */
  readonly excString?: string;
  readonly executionId?: string;
  /** Milliseconds since the epoch. */
  readonly startedAt?: number;
  readonly endedAt?: number;
}

/** The fields as arguments of XADD, in RQ's order. */
export function writeResult(entry: ResultEntry): string[] {
  const flat = ['type', String(TYPES.indexOf(entry.type) + 1), 'worker_name', entry.workerName];
  if (entry.excString !== undefined)
    flat.push('exc_string', deflate(Buffer.from(entry.excString, 'utf8')).toString('base64'));
  if (entry.returnValue !== undefined) flat.push('return_value', entry.returnValue.toString('base64'));
  if (entry.executionId !== undefined) flat.push('execution_id', entry.executionId);
  if (entry.startedAt !== undefined) flat.push('execution_started_at', epochText(entry.startedAt));
  if (entry.endedAt !== undefined) flat.push('execution_ended_at', epochText(entry.endedAt));
  return flat;
}

/** An entry as it is stored in the stream. */
export interface StoredEntry extends ResultEntry {
  /** `<milliseconds>-<number>`. */
  readonly id: string;
  readonly createdAt: Date;
}

/** Reads an entry. Throws WireError if RQ's reader would raise. The value stays serialized; `readReturnValue` reads it. */
export function readResult(id: string, flat: readonly Buffer[], maxBytes?: number): StoredEntry {
  const fields = new Map<string, Buffer>();
  for (let at = 0; at + 1 < flat.length; at += 2)
    fields.set((flat[at] as Buffer).toString('latin1'), flat[at + 1] as Buffer);
  const number = fields.get('type')?.toString('latin1') ?? '';
  const type = /^\s*\d+\s*$/.test(number) ? TYPES[Number(number) - 1] : undefined;
  if (type === undefined) throw broken(id, `${JSON.stringify(number)} is no type of a result`);
  const value = fields.get('return_value');
  const text = fields.get('exc_string');
  const execution = fields.get('execution_id')?.toString('latin1');
  const startedAt = time(id, fields.get('execution_started_at'));
  const endedAt = time(id, fields.get('execution_ended_at'));
  return {
    id,
    createdAt: new Date(Number(id.slice(0, id.indexOf('-')))),
    type,
    workerName: fields.get('worker_name')?.toString('utf8') ?? '',
    ...(value === undefined ? {} : { returnValue: Buffer.from(value.toString('latin1'), 'base64') }),
    ...(text === undefined || text.length === 0 ? {} : { excString: excText(text, maxBytes) }),
    ...(execution === undefined || execution === '' ? {} : { executionId: execution }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
  };
}

/** The return value of the run; null if none is stored. Throws WireError if it cannot be read. */
export function readReturnValue(entry: ResultEntry, options: LoadOptions = {}): unknown {
  return entry.returnValue === undefined ? null : loads(entry.returnValue, options);
}

function excText(value: Buffer, maxBytes?: number): string {
  return inflate(Buffer.from(value.toString('latin1'), 'base64'), maxBytes).toString('utf8');
}

function time(id: string, value: Buffer | undefined): number | undefined {
  if (value === undefined || value.length === 0) return undefined;
  const ms = readEpoch(value.toString('latin1'));
  if (ms === undefined) throw broken(id, `${JSON.stringify(value.toString('latin1', 0, 60))} is no time`);
  return ms;
}

function broken(id: string, what: string): WireError {
  return new WireError('rq', 'undecodable', `the result ${id} cannot be read: ${what}`);
}
