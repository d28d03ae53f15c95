import { Buffer, isUtf8 } from 'node:buffer';
import type { Change } from '../formats/json.ts';
import { edit, parse, stringify } from '../formats/ruby-json.ts';
import type { Dialect } from './dialect.ts';
import { timestamp } from './times.ts';

/**
 * What goes to the dead set and never failed in a handler. A job hash stays a job hash with its error in it; what is no JSON stays as
 * it is, as Sidekiq's processor leaves it; other JSON is wrapped, since Sidekiq's pages cannot show a list or a number.
 */
interface Death {
  readonly dialect: Dialect;
  readonly nowMs: number;
}

/** Bytes that are no job, as the dead set can have them. */
export function asDead(
  bytes: Uint8Array,
  queue: string,
  { reason, dialect, nowMs }: Death & { readonly reason: string },
): string | Uint8Array {
  const read = readJson(bytes);
  if (read === undefined || isObject(read.value)) return bytes;
  const failed = timestamp(nowMs, dialect);
  return `{"retry":false,"queue":${stringify(queue)},"args":[${read.text}],"class":"NotAJob","error_message":${stringify(reason)},"error_class":"NotAJob","failed_at":${failed},"retry_count":0}`;
}

/** A job whose process died with it again and again. */
export function afterDeath(
  bytes: Uint8Array,
  queue: string,
  { times, process, dialect, nowMs }: Death & { readonly times: number; readonly process: string },
): string | Uint8Array {
  const reason = `the process died ${times} times while this job ran, last ${process}`;
  const read = readJson(bytes);
  if (read === undefined || !isObject(read.value)) return asDead(bytes, queue, { reason, dialect, nowMs });
  const hash = read.value;
  const changes: Change[] = [
    { path: ['error_message'], value: stringify(reason) },
    { path: ['error_class'], value: '"PoisonPill"' },
  ];
  const again = typeof hash['retry_count'] === 'number';
  changes.push({ path: [again ? 'retried_at' : 'failed_at'], value: timestamp(nowMs, dialect) });
  if (!again) changes.push({ path: ['retry_count'], value: '0' });
  return edit(read.text, changes);
}

function readJson(bytes: Uint8Array): { readonly text: string; readonly value: unknown } | undefined {
  if (!isUtf8(bytes)) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  try {
    return { text, value: parse(text) };
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
