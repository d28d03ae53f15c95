import { Buffer } from 'node:buffer';
import { WireError } from '../errors.ts';
import type { Explanation as AnyExplanation, Field, Section, Warning } from '../explanation.ts';
import { stringify } from '../formats/ruby-json.ts';
import { readWrapped, wrappedClass } from './active-job.ts';
import { readBacktrace } from './backtrace.ts';
import { decodeJob, expiryOf, type JobHash, jidOf, retryOf } from './message.ts';
import { readTimestamp } from './times.ts';

/** What some bytes of Sidekiq are. */
export type Explanation = AnyExplanation<'job' | 'unknown'>;

/** Explains a job hash, as it is in a queue or a set. Never throws. */
export function explain(bytes: Uint8Array, now: Date): Explanation {
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // redis-cli ends what it prints with a line end.
  const whole = input.at(-1) === 0x0a ? input.subarray(0, -1) : input;
  let hash: JobHash;
  try {
    ({ hash } = decodeJob(whole, 'input'));
  } catch (error) {
    const why = error instanceof WireError ? error.message.replace(/^sidekiq: /, '') : String(error);
    return {
      kind: 'unknown',
      summary: `No job of Sidekiq: ${why}.`,
      sections: [],
      warnings: [
        {
          effect: 'breaks',
          text: 'A worker moves it to the dead set as it is. At the end of a queue it breaks the page of queues.',
        },
      ],
    };
  }
  const warnings = warningsOf(hash);
  const wrapped = wrappedClass(hash);
  const sections: Section[] = [
    { title: 'The job', fields: fieldsOf(hash, JOB) },
    { title: 'Times', fields: timesOf(hash, now) },
    ...(typeof hash['error_class'] === 'string' ? [{ title: 'Its last failure', fields: failureOf(hash) }] : []),
    ...(wrapped === undefined ? [] : [activeJobOf(hash, warnings)]),
    { title: 'Other members', fields: othersOf(hash) },
  ].filter(({ fields }) => fields.length > 0);
  const jid = jidOf(hash);
  const name = wrapped ?? String(hash['class']);
  return { kind: 'job', summary: `A job: ${name}${jid === '' ? '' : ` ${jid}`}`, sections, warnings };
}

const JOB: ReadonlyMap<string, string> = new Map([
  ['class', 'what runs it'],
  ['wrapped', 'the class behind the wrapper'],
  ['args', 'what it is called with'],
  ['jid', 'its id'],
  ['queue', 'where it goes when it is pushed again'],
  ['retry', 'true is 25 retries; 0 is none, and the dead set; false is none, and gone'],
  ['retry_for', 'seconds for which it is tried again'],
  ['retry_queue', 'where its retries go'],
  ['dead', 'false: not to the dead set'],
  ['backtrace', 'how much of a backtrace is kept'],
  ['tags', 'shown in the UI'],
  ['cattr', 'current attributes'],
  ['bid', 'the batch it is in (Sidekiq Pro)'],
]);

const TIMES: ReadonlyMap<string, string> = new Map([
  ['created_at', 'when it was made'],
  ['enqueued_at', 'when it was last put in its queue'],
  ['failed_at', 'when it first failed'],
  ['retried_at', 'when it last failed'],
  ['expiry', 'it must start before'],
]);

const FAILURE = new Set(['error_class', 'error_message', 'error_backtrace', 'retry_count']);

function fieldsOf(hash: JobHash, known: ReadonlyMap<string, string>): readonly Field[] {
  return [...known].flatMap(([name, meaning]) => (Object.hasOwn(hash, name) ? [field(name, hash[name], meaning)] : []));
}

function timesOf(hash: JobHash, now: Date): readonly Field[] {
  return [...TIMES].flatMap(([name, meaning]) => {
    if (!Object.hasOwn(hash, name)) return [];
    const at = readTimestamp(hash[name]);
    const when = at === undefined ? 'no time' : `${new Date(at).toISOString()}, ${ago(at, now.getTime())}`;
    return [field(name, hash[name], `${meaning}: ${when}`)];
  });
}

function failureOf(hash: JobHash): readonly Field[] {
  const lines = readBacktrace(hash['error_backtrace']);
  const { retry_count: count } = hash;
  return [
    field('error_class', hash['error_class'], 'what it failed with'),
    field('error_message', hash['error_message'], 'and why'),
    ...(count === undefined
      ? []
      : [field('retry_count', count, `it has failed ${typeof count === 'number' ? count + 1 : '?'} times`)]),
    ...(lines === undefined ? [] : [field('error_backtrace', lines, 'where')]),
  ];
}

function activeJobOf(hash: JobHash, warnings: Warning[]): Section {
  try {
    const { activeJob, args, kwargs } = readWrapped(hash);
    const { jobClass, jobId, queueName, executions } = activeJob;
    return {
      title: 'The job of Active Job',
      fields: [
        field('job_class', jobClass, 'what Rails runs'),
        ...(jobId === undefined ? [] : [field('job_id', jobId, 'the same over all its runs')]),
        ...(queueName === undefined ? [] : [field('queue_name', queueName, 'where Active Job enqueues it again')]),
        field('arguments', args.length, 'how many'),
        ...(Object.keys(kwargs).length > 0 ? [field('keywords', Object.keys(kwargs), 'their names')] : []),
        field('executions', executions, 'runs before this one'),
      ],
    };
  } catch (error) {
    warnings.push({
      effect: 'breaks',
      text: `Rails cannot read it: ${error instanceof Error ? error.message : String(error)}`,
    });
    return { title: 'The job of Active Job', fields: [] };
  }
}

function othersOf(hash: JobHash): readonly Field[] {
  return Object.keys(hash)
    .filter((name) => !JOB.has(name) && !TIMES.has(name) && !FAILURE.has(name))
    .map((name) => field(name, hash[name], 'kept as it is'));
}

function warningsOf(hash: JobHash): Warning[] {
  const warnings: Warning[] = [];
  if (jidOf(hash) === '') warnings.push({ effect: 'note', text: 'Without a jid it runs, but cannot be found by one.' });
  for (const name of ['created_at', 'enqueued_at', 'failed_at', 'retried_at']) {
    if (Object.hasOwn(hash, name) && readTimestamp(hash[name]) === undefined)
      warnings.push({ effect: 'breaks', text: `${name} is no number: pages that show a latency fail on it.` });
  }
  if (retryOf(hash) === false)
    warnings.push({ effect: 'drops', text: 'retry is false: when it fails, nothing is left of it.' });
  if (typeof hash['bid'] === 'string')
    warnings.push({ effect: 'note', text: 'It belongs to a batch of Sidekiq Pro, which only Sidekiq Pro can count.' });
  if (hash['encrypt'] === true)
    warnings.push({ effect: 'note', text: 'Its last argument is encrypted (Sidekiq Enterprise).' });
  if (expiryOf(hash) !== undefined)
    warnings.push({ effect: 'note', text: 'It expires: Sidekiq without Pro runs it all the same.' });
  return warnings;
}

function field(name: string, value: unknown, meaning: string): Field {
  return { name, value: shown(value), meaning };
}

/** Half a surrogate pair can be read and not written. */
function shown(value: unknown): string {
  try {
    return stringify(value ?? null);
  } catch {
    return JSON.stringify(String(value));
  }
}

function ago(at: number, now: number): string {
  const seconds = Math.round((now - at) / 1000);
  return seconds >= 0 ? `${seconds} s ago` : `in ${-seconds} s`;
}
