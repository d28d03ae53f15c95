import { Buffer } from 'node:buffer';
import type { Explanation as AnyExplanation, Field, Section, Warning } from '../explanation.ts';
import * as json from '../formats/ruby-json.ts';
import { wrappedClass } from './active-job.ts';
import { decodeFailure } from './failure.ts';
import { decodePayload, type Payload } from './message.ts';

/** What some bytes of Resque are. */
export type Explanation = AnyExplanation<'job' | 'delayed' | 'failure' | 'working' | 'unknown'>;

/** Explains a payload, a delayed item, a failure or what a worker does. Never throws. */
export function explain(bytes: Uint8Array): Explanation {
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // redis-cli ends what it prints with a line end.
  const whole = input.at(-1) === 0x0a ? input.subarray(0, -1) : input;
  try {
    const value = json.parse(whole.toString());
    const members = typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
    const has = (name: string): boolean => Object.hasOwn(members, name);
    if (has('payload') && has('exception')) return failure(whole);
    if (has('payload') && has('run_at')) return working(members as Readonly<Record<string, unknown>>);
    const payload = decodePayload(whole);
    return job(payload, members as Readonly<Record<string, unknown>>);
  } catch (error) {
    const why = (error as Error).message.replace(/^(?:resque|json): /, '');
    return {
      kind: 'unknown',
      summary: `Nothing of Resque's: ${why}.`,
      sections: [],
      warnings: [
        {
          effect: 'ends',
          text: 'A Ruby worker that takes it from a queue dies of it, and it is lost. Ours sets it aside.',
        },
      ],
    };
  }
}

function job(payload: Payload, members: Readonly<Record<string, unknown>>): Explanation {
  const { queue } = members;
  const inner = wrappedClass(payload);
  const warnings: Warning[] = [];
  if (!payload.text.startsWith(`{"class":`))
    warnings.push({
      effect: 'note',
      text: 'Jobs are compared as texts, and Ruby writes the class first: it will not find this one.',
    });
  const known = new Set(['class', 'args', 'queue', 'id']);
  const others = Object.entries(members).filter(([name]) => !known.has(name));
  const sections: Section[] = [
    {
      title: 'The job',
      fields: [
        field('class', payload.class, 'what perform is called on'),
        field('args', payload.args, 'what it is called with'),
        ...(queue === undefined ? [] : [field('queue', queue, 'where it goes when it is due')]),
        ...(payload.id === undefined ? [] : [field('id', payload.id, 'a name that only workers of ours look at')]),
      ],
    },
    ...(others.length === 0
      ? []
      : [{ title: 'Other members', fields: others.map(([name, value]) => field(name, value, '')) }]),
  ];
  const name = inner === undefined ? payload.class : `${inner} (Active Job)`;
  return queue === undefined
    ? { kind: 'job', summary: `A job: ${name}`, sections, warnings }
    : { kind: 'delayed', summary: `A delayed job: ${name}`, sections, warnings };
}

function failure(bytes: Uint8Array): Explanation {
  const { failedAt, class: name, args, exception, error, backtrace, worker, queue, retriedAt } = decodeFailure(bytes);
  const warnings: Warning[] = [];
  if (worker === '') warnings.push({ effect: 'breaks', text: 'Without a worker the page of failures breaks.' });
  if (failedAt === '') warnings.push({ effect: 'breaks', text: 'failed_at is no text: the page of failures breaks.' });
  const fields = [
    field('failed_at', failedAt, 'when'),
    field('exception', exception, 'with what'),
    field('error', error, 'and why'),
    field('backtrace', backtrace, 'where'),
    field('worker', worker, 'in which worker'),
    ...(retriedAt === undefined ? [] : [field('retried_at', retriedAt, 'when it was put into its queue again')]),
  ];
  const run = [
    field('class', name, 'what perform was called on'),
    field('args', args, 'what it was called with'),
    field('queue', queue, 'where it was'),
  ];
  return {
    kind: 'failure',
    summary: `A failure of ${name}: ${exception}`,
    sections: [
      { title: 'The failure', fields },
      { title: 'The job', fields: run },
    ],
    warnings,
  };
}

function working(members: Readonly<Record<string, unknown>>): Explanation {
  const { queue, run_at: runAt, payload } = members;
  const fields = [
    field('queue', queue, 'where the job was'),
    field('run_at', runAt, 'since when it runs'),
    field('payload', payload, 'the job'),
  ];
  return { kind: 'working', summary: 'What a worker does', sections: [{ title: 'The work', fields }], warnings: [] };
}

function field(name: string, value: unknown, meaning: string): Field {
  return { name, value: json.stringify(value ?? null, { maxDepth: 1000 }), meaning };
}
