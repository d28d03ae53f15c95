import type { ExactMap } from '../message/message.ts';
import { listOf, readSignature, type Signature, signatureToMap, tasksOf } from './signature.ts';

export interface StampOptions {
  /** A stamp that is there already becomes a list of both, the new value first; otherwise the new one takes its place. @default false */
  readonly append?: boolean;
}

/**
 * Stamps every task in a signature, its callbacks and errbacks with it. A stamp is an option of the stamp's name; `stamped_headers`
 * says which options are stamps. The body of a chord is stamped like its header; in Python only a visitor reaches it.
 * Source: celery/canvas.py Signature.stamp, stamp_links, _stamp_headers and the overrides of each type (5.6).
 */
export function stamp(signature: Signature, stamps: ExactMap, options: StampOptions = {}): Signature {
  const each = (value: unknown): ExactMap => signatureToMap(stamp(readSignature(value), stamps, options));
  const linked = new Map(signature.options);
  for (const name of ['link', 'link_error']) if (linked.has(name)) linked.set(name, listOf(linked.get(name)).map(each));
  const kwargs = new Map(signature.kwargs);
  switch (signature.subtaskType) {
    case 'chain':
    case 'group':
      return { ...signature, options: linked, kwargs: kwargs.set('tasks', tasksOf(signature).map(each)) };
    case 'chord': {
      const header = kwargs.get('header');
      kwargs
        .set('header', Array.isArray(header) ? header.map(each) : each(header))
        .set('body', each(kwargs.get('body')));
      return { ...signature, options: linked, kwargs };
    }
    default:
      return { ...signature, options: stampedOptions(linked, stamps, options) };
  }
}

function stampedOptions(own: Map<string, unknown>, stamps: ExactMap, { append = false }: StampOptions): ExactMap {
  const names = listOf(own.get('stamped_headers'));
  for (const [name, value] of stamps) {
    const before = append && names.includes(name) ? listOf(own.get(name)) : [];
    own.set(name, before.length === 0 ? value : [...listOf(value), ...before]);
  }
  return own.set('stamped_headers', [...new Set([...names, ...stamps.keys()])]);
}
