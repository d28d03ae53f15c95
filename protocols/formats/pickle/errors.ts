import { WireError } from '../../errors.ts';

export function undecodable(what: string, offset?: number, cause?: unknown): WireError {
  const where = offset === undefined ? '' : ` at byte ${offset}`;
  return new WireError('pickle', 'undecodable', `not a pickle that can be read: ${what}${where}`, {
    cause,
    ...(offset === undefined ? {} : { offset }),
  });
}

export function tooLarge(what: string, offset?: number, cause?: unknown): WireError {
  return new WireError('pickle', 'too-large', what, { cause, ...(offset === undefined ? {} : { offset }) });
}

export function tooDeep(maxDepth: number): WireError {
  return new WireError('pickle', 'too-deep', `nested more than ${maxDepth} levels deep`);
}
