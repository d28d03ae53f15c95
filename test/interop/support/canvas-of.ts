import {
  type AnySignature,
  chain,
  chord,
  chunks,
  group,
  link,
  linkError,
  signature,
  xmap,
  xstarmap,
} from '../../../src/drivers/celery/index.ts';
import type { PythonCanvas } from '../../support/python.ts';

/** A workflow as our client writes it down: the twin of `build` in apps/driver.py. Nothing is known of its types. */
export function canvasOf(spec: PythonCanvas): AnySignature & { readonly options: object } {
  const made = (spec.link ?? []).map(canvasOf).reduce((all, each) => link(all, each), build(spec));
  return (spec.link_error ?? []).map(canvasOf).reduce((all, each) => linkError(all, each), made);
}

function build(spec: PythonCanvas): AnySignature {
  if ('chain' in spec) return chain(...spec.chain.map(canvasOf));
  if ('group' in spec) return group(spec.group.map(canvasOf));
  if ('chord' in spec) return chord(spec.chord.map(canvasOf), canvasOf(spec.body));
  if ('map' in spec) {
    const { map, it, options = {} } = spec;
    return { ...xmap(canvasOf(map).task, it), kwargs: { task: canvasOf(map), it }, options };
  }
  if ('starmap' in spec) {
    const { starmap, it, options = {} } = spec;
    return { ...xstarmap(canvasOf(starmap).task, it as [][]), kwargs: { task: canvasOf(starmap), it }, options };
  }
  if ('chunks' in spec) return chunks(canvasOf(spec.chunks).task, spec.it as [][], spec.n);
  const { task, args = [], kwargs = {}, options = {}, immutable = false } = spec;
  return {
    ...signature(task, args),
    kwargs: kwargs as Readonly<Record<string, unknown>>,
    options: { ...options },
    immutable,
  };
}
