import { Buffer } from 'node:buffer';
import { pythonRepr } from '../formats/python-repr.ts';

/**
 * A call as Python would write it. It is the default description of a job. Source: rq/utils.py get_call_string
 * (2.10).
 *
 *     jobs.add(1, b=[1, 2])
 *
 * Each argument is cut to `maxLength` characters. Keyword arguments come last, sorted as texts.
 */
export function callString(
  funcName: string,
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>,
  maxLength: number = MAX_ARGUMENT,
): string {
  const named = kwargs instanceof Map ? [...(kwargs as ReadonlyMap<string, unknown>)] : Object.entries(kwargs);
  const texts = named
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${pythonRepr(value, maxLength)}`)
    .sort(byCodePoints);
  return `${funcName}(${[...args.map((arg) => pythonRepr(arg, maxLength)), ...texts].join(', ')})`;
}

/** Source: rq/job.py Job.get_call_string. */
const MAX_ARGUMENT = 75;

/** Python's order of texts. It differs from JavaScript's for characters outside the basic plane. */
function byCodePoints(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
