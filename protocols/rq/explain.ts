import { Buffer, isUtf8 } from 'node:buffer';
import type { Explanation as AnyExplanation, Field, Section, Warning } from '../explanation.ts';
import { pythonRepr } from '../formats/python-repr.ts';
import { callString } from './description.ts';
import { type Call, type JobHash, readCall, readJob } from './message.ts';
import { readResult } from './result.ts';
import { inflate, loads, sniff } from './serializers.ts';

/** The explanation of some bytes of an RQ system. */
export type Explanation = AnyExplanation<'job' | 'call' | 'result' | 'value' | 'traceback' | 'unknown'>;

/**
 * Explains data of RQ: a job hash or a result, as `redis-cli --no-raw` prints it, or one of their values, plain or in base64. Nothing
 * in it is imported or called. Never throws.
 */
export function explain(bytes: Uint8Array | string): Explanation {
  const input =
    typeof bytes === 'string' ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    return explained(input);
  } catch (error) {
    return nothing(`This cannot be read: ${messageOf(error)}`);
  }
}

function explained(input: Buffer): Explanation {
  if (input.length === 0) return nothing('Nothing: the input is empty.');
  const printed = printedReply(input);
  if (printed !== undefined) {
    const fields = fieldNames(printed);
    if (fields.has('type') && printed.length > 2) return explainResult(printed);
    if (printed.length > 1) return explainJob(printed);
    return explainValue(printed[0] as Buffer);
  }
  // redis-cli adds a line end, which is not part of the value.
  const whole = explainValue(input);
  if (whole.kind !== 'unknown' || input.at(-1) !== 0x0a) return whole;
  return explainValue(input.subarray(0, -1));
}

/** The texts of a reply as redis-cli prints it for people: `1) "created_at"`. Undefined for anything else. */
function printedReply(input: Buffer): Buffer[] | undefined {
  const lines = input.toString('utf8').trimEnd().split('\n');
  const texts: Buffer[] = [];
  for (const line of lines) {
    const [, text] = /^(?:\s*\d+\) )*"((?:[^"\\]|\\.)*)"\s*$/.exec(line) ?? [];
    if (text === undefined) return undefined;
    texts.push(unquoted(text));
  }
  return texts;
}

function unquoted(text: string): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const match of text.matchAll(/\\(?:x([\da-f]{2})|(.))/gi)) {
    parts.push(Buffer.from(text.slice(at, match.index)));
    const [all, hex, one = ''] = match;
    parts.push(hex === undefined ? Buffer.from(SIMPLE[one] ?? one) : Buffer.from(hex, 'hex'));
    at = match.index + all.length;
  }
  parts.push(Buffer.from(text.slice(at)));
  return Buffer.concat(parts);
}

const SIMPLE: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\u0007', b: '\b' };

function fieldNames(flat: readonly Buffer[]): ReadonlySet<string> {
  return new Set(flat.map((one) => (one.length < 40 ? one.toString('latin1') : '')));
}

function explainJob(flat: readonly Buffer[]): Explanation {
  if (flat.length % 2 !== 0)
    return nothing(`${flat.length} texts, which are no hash: fields and values come in pairs.`);
  const found = readJob('', flat);
  const warnings: Warning[] = [];
  if (found === undefined) {
    warnings.push({
      effect: 'drops',
      text: 'Without `data` it is no job to RQ: the id is dropped when it is taken from its queue.',
    });
    return { ...nothing('A hash that is no job of RQ: it has no data.'), warnings };
  }
  const { job, broken } = found;
  for (const { field, reason } of broken)
    warnings.push({ effect: 'ends', text: `${field}: ${reason}. A Python worker that takes the job ends.` });
  if (job.origin === undefined)
    warnings.push({
      effect: 'breaks',
      text: 'Without `origin` its registries have no name, and it is never taken off the intermediate list.',
    });
  const call = callOf(job, warnings);
  const sections: Section[] = [
    { title: 'The call', fields: call === undefined ? [] : callFields(call) },
    { title: 'The job', fields: jobFields(job) },
    {
      title: 'Not known',
      fields: [...(job.unknown ?? [])].map(([name, value]) => field(name, shownBytes(value), 'no field of RQ')),
    },
  ];
  const what = call === undefined ? 'a call that cannot be read' : callString(call.funcName, call.args, call.kwargs);
  return { kind: 'job', summary: `A job, ${job.status ?? 'without a status'}: ${what}`, sections, warnings };
}

function callOf(job: JobHash, warnings: Warning[]): Call | undefined {
  try {
    return readCall(job.data, { exact: true });
  } catch (error) {
    warnings.push({ effect: 'drops', text: `data: ${messageOf(error)}. A worker fails the job.` });
    return undefined;
  }
}

function callFields({ funcName, instance, args, kwargs }: Call): readonly Field[] {
  return [
    field(
      'function',
      pythonRepr(funcName),
      instance === null ? 'what is called, by its dotted name' : 'a method of the instance',
    ),
    ...(instance === null
      ? []
      : [field('instance', pythonRepr(instance, LONG), 'Python only: what the method is bound to')]),
    ...args.map((arg, at) => field(`args[${at}]`, pythonRepr(arg, LONG), '')),
    ...Object.entries(kwargs).map(([name, value]) => field(`${name}=`, pythonRepr(value, LONG), '')),
  ];
}

const LONG = 10_000;

const MEANINGS: Readonly<Partial<Record<keyof JobHash, string>>> = {
  createdAt: 'when it was made',
  enqueuedAt: 'when it came into its queue',
  startedAt: 'when its latest run began',
  endedAt: 'when its latest run ended',
  lastHeartbeat: 'the last sign of life of its run',
  workerName: 'who ran it last',
  origin: 'its queue',
  description: 'what it is called in listings',
  status: 'what became of it',
  timeout: 'seconds a run may take; -1 is without limit',
  resultTtl: 'seconds its result is kept; -1 for ever, 0 not at all',
  failureTtl: 'seconds its failure is kept; -1 for ever',
  ttl: 'seconds it may wait to be run',
  retriesLeft: 'runs that may still be made after an exception',
  retryIntervals: 'seconds before each of them; the last count when there are fewer runs',
  numberOfRetries: 'runs that ended by returning a Retry',
  enqueueAtFrontOnRetry: 'retried at the head of the queue',
  repeatsLeft: 'runs that follow after a success',
  repeatIntervals: 'seconds before each of them, from the end',
  successCallbackName: 'called when it has succeeded',
  failureCallbackName: 'called at each failed run',
  stoppedCallbackName: 'called when it was stopped',
  dependencyIds: 'what it waits for',
  allowDependencyFailures: 'runs also where one of those failed',
  enqueueAtFront: 'goes to the head of its queue when its time has come',
  groupId: 'its group',
  webhooks: 'requests that are sent when it has ended',
};

function jobFields(job: JobHash): readonly Field[] {
  const fields: Field[] = [];
  for (const [name, value] of Object.entries(job) as [keyof JobHash, unknown][]) {
    if (['id', 'data', 'unknown'].includes(name) || value === undefined) continue;
    fields.push(field(wireName(name), shownValue(name, value), MEANINGS[name] ?? ''));
  }
  return fields;
}

function shownValue(name: string, value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  if (Buffer.isBuffer(value)) return name === 'excInfo' ? pythonRepr(text(inflate(value))) : serialized(value);
  return typeof value === 'string' ? pythonRepr(value, LONG) : JSON.stringify(value);
}

function serialized(value: Buffer): string {
  try {
    return pythonRepr(loads(value, { exact: true }), LONG);
  } catch (error) {
    return `${shownBytes(value)}, ${messageOf(error)}`;
  }
}

function wireName(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function explainResult(texts: readonly Buffer[]): Explanation {
  // XREVRANGE prints the entry's id before its fields.
  const flat = texts.length % 2 === 1 ? texts.slice(1) : texts;
  const id = texts.length % 2 === 1 ? String(texts[0]) : '0-0';
  const entry = readResult(id, flat);
  const fields = [
    field('type', entry.type, 'how the run ended'),
    field('worker_name', pythonRepr(entry.workerName), 'who ran it; empty where nobody did'),
    ...(entry.type === 'successful' || entry.returnValue !== undefined
      ? [
          field(
            'return_value',
            entry.returnValue === undefined ? 'None' : serialized(entry.returnValue),
            'what it returned',
          ),
        ]
      : []),
    ...(entry.executionId === undefined ? [] : [field('execution_id', entry.executionId, 'which run')]),
    ...(entry.startedAt === undefined ? [] : [field('started_at', new Date(entry.startedAt).toISOString(), '')]),
    ...(entry.endedAt === undefined ? [] : [field('ended_at', new Date(entry.endedAt).toISOString(), '')]),
    ...(entry.excString === undefined ? [] : [field('exc_string', pythonRepr(entry.excString, LONG), 'why it failed')]),
  ];
  return {
    kind: 'result',
    summary: `A result: ${entry.type}.`,
    sections: [{ title: 'The result', fields }],
    warnings: [],
  };
}

/** Explains `data`, `meta`, a return value or a traceback, deflated or not, in base64 or not. */
function explainValue(bytes: Buffer): Explanation {
  const decoded = base64(bytes) ?? bytes;
  const plain = inflate(decoded);
  const how = [decoded === bytes ? '' : 'base64', plain === decoded || plain.equals(decoded) ? '' : 'zlib'].filter(
    Boolean,
  );
  const packed = how.length === 0 ? '' : `, in ${how.join(' of ')}`;
  try {
    const call = readCall(plain, { exact: true });
    const sections = [{ title: 'The call', fields: callFields(call) }];
    const serializer = sniff(plain) === 'json' ? 'JSON' : 'pickle';
    return {
      kind: 'call',
      summary: `The data of a job, ${serializer}${packed}: ${callString(call.funcName, call.args, call.kwargs)}`,
      sections,
      warnings: [],
    };
  } catch {
    // It may be another value.
  }
  try {
    const value = loads(plain, { exact: true });
    const serializer = sniff(plain) === 'json' ? 'JSON' : 'pickle';
    const sections = [{ title: 'The value', fields: [field('value', pythonRepr(value, LONG), '')] }];
    return { kind: 'value', summary: `A value, ${serializer}${packed}: a result or a meta.`, sections, warnings: [] };
  } catch (error) {
    if (how.includes('zlib') && isUtf8(plain)) {
      const sections = [
        { title: 'The text', fields: [field('text', pythonRepr(text(plain), LONG), 'why a job failed')] },
      ];
      return { kind: 'traceback', summary: `A text${packed}: a traceback.`, sections, warnings: [] };
    }
    return nothing(`${bytes.length} bytes that are no hash, call, result or text of RQ: ${messageOf(error)}`);
  }
}

function base64(bytes: Buffer): Buffer | undefined {
  const chars = bytes.toString('latin1').trim();
  if (chars.length < 4 || chars.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(chars)) return undefined;
  const decoded = Buffer.from(chars, 'base64');
  // Only pickle, zlib or JSON counts as decoded base64: a JSON number is valid base64 too.
  return decoded[0] === 0x80 || decoded[0] === 0x78 || /^["[{]/.test(decoded.toString('latin1', 0, 1))
    ? decoded
    : undefined;
}

function field(name: string, value: string, meaning: string): Field {
  return { name, value: printable(value), meaning };
}

function printable(value: string): string {
  return value.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}

function shownBytes(value: Buffer): string {
  return isUtf8(value) ? pythonRepr(text(value), LONG) : pythonRepr(value, LONG);
}

function text(value: Buffer): string {
  return value.toString('utf8');
}

function nothing(summary: string): Explanation {
  return { kind: 'unknown', summary, sections: [], warnings: [] };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.replace(/^\w+: /, '') : String(error);
}
