import type { ExactMap } from '../message/message.ts';
import {
  composite,
  listOf,
  NOTHING,
  readSignature,
  type Signature,
  signatureToMap,
  tasksOf,
  unique,
  withOption,
} from './signature.ts';

/** Signatures put together, as `|`, `link` and `link_error` do in Python. Source: celery/canvas.py (5.6). */

/** `group | task`: a chord. Source: group.__or__. */
export function chordOf(header: Signature, body: Signature, rootId?: string): Signature {
  const options = new Map<string, unknown>();
  if (rootId !== undefined) options.set('root_id', rootId);
  return composite(
    'chord',
    new Map<string, unknown>([
      ['kwargs', NOTHING],
      ['header', signatureToMap(header)],
      ['body', signatureToMap(body)],
    ]),
    options,
  );
}

/**
 * `signature | next`: a chain of all their steps; what follows a chord goes into its body. What a group in the middle becomes,
 * freezing decides. Source: _chain.__or__, _chord.__or__.
 */
export function append(signature: Signature, next: Signature): Signature {
  const single = next.subtaskType !== 'chain' && next.subtaskType !== 'group';
  if (signature.subtaskType === 'chord' && single) {
    const body = append(readSignature(signature.kwargs.get('body')), next);
    return { ...signature, kwargs: new Map(signature.kwargs).set('body', signatureToMap(body)) };
  }
  const steps = (one: Signature): readonly unknown[] =>
    one.subtaskType === 'chain' ? tasksOf(one) : [signatureToMap(one)];
  const before = steps(signature);
  const last = before.length > 0 ? readSignature(before.at(-1)) : undefined;
  const tasks =
    last?.subtaskType === 'chord' && single
      ? [...before.slice(0, -1), signatureToMap(append(last, next))]
      : [...before, ...steps(next)];
  return composite('chain', new Map([['tasks', tasks]]), NOTHING);
}

/** Links of a chain are its last step's, those of a chord its body's. */
export function linked(signature: Signature, links: readonly unknown[]): Signature {
  if (links.length === 0) return signature;
  return atEnd(signature, (last) => withOption(last, 'link', unique(last.options.get('link'), links)));
}

/** Errbacks of a chain are those of each step, those of a chord its body's, as in Celery by default. */
export function linkedOnError(signature: Signature, errbacks: readonly unknown[]): Signature {
  if (errbacks.length === 0) return signature;
  switch (signature.subtaskType) {
    case 'chain':
      return mapTasks(signature, (step) => linkedOnError(step, errbacks));
    case 'chord': {
      const body = linkedOnError(readSignature(signature.kwargs.get('body')), errbacks);
      return { ...signature, kwargs: new Map(signature.kwargs).set('body', signatureToMap(body)) };
    }
    default:
      return withOption(signature, 'link_error', unique(signature.options.get('link_error'), errbacks));
  }
}

/** The signature with what ends it changed: the last step of a chain, the body of a chord, else the signature itself. */
export function atEnd(signature: Signature, change: (last: Signature) => Signature): Signature {
  switch (signature.subtaskType) {
    case 'chain': {
      const tasks = tasksOf(signature);
      const last = signatureToMap(atEnd(readSignature(tasks.at(-1)), change));
      return { ...signature, kwargs: new Map(signature.kwargs).set('tasks', [...tasks.slice(0, -1), last]) };
    }
    case 'chord': {
      const body = signatureToMap(atEnd(readSignature(signature.kwargs.get('body')), change));
      return { ...signature, kwargs: new Map(signature.kwargs).set('body', body) };
    }
    default:
      return change(signature);
  }
}

/** Adds these stamps to every task in a signature; stamps it has already stay. Source: Signature.stamp. */
export function stamped(signature: Signature, stamps: ExactMap): Signature {
  if (stamps.size === 0) return signature;
  switch (signature.subtaskType) {
    case 'chain':
    case 'group':
      return mapTasks(signature, (task) => stamped(task, stamps));
    case 'chord': {
      const header = signature.kwargs.get('header');
      const each = (value: unknown): ExactMap => signatureToMap(stamped(readSignature(value), stamps));
      const kwargs = new Map(signature.kwargs)
        .set('header', Array.isArray(header) ? header.map(each) : each(header))
        .set('body', each(signature.kwargs.get('body')));
      return { ...signature, kwargs };
    }
    default: {
      const options = new Map(signature.options);
      const names = listOf(options.get('stamped_headers'));
      for (const [name, value] of stamps) if (!names.includes(name)) options.set(name, value);
      options.set('stamped_headers', [...new Set([...names, ...stamps.keys()])]);
      return { ...signature, options };
    }
  }
}

/** A chain or group with each of its tasks changed. */
export function mapTasks(signature: Signature, change: (task: Signature) => Signature): Signature {
  const tasks = tasksOf(signature).map((task) => signatureToMap(change(readSignature(task))));
  return { ...signature, kwargs: new Map(signature.kwargs).set('tasks', tasks) };
}
