import { tooDeep, tooLarge } from './errors.ts';
import { PyGlobal, PyObject } from './values.ts';

export interface Bounds {
  readonly maxDepth: number;
  /** Values and characters, with what is shared counted in each place. */
  readonly maxOutput: number;
}

/**
 * Throws where containers nest too deep, and where a value is small in memory only because it shares its parts (thirty lists, each
 * twice in the next, are a thousand million when they are written out). Each object is looked into once; what contains itself
 * counts as one there.
 */
export function measure(root: unknown, bounds: Bounds): void {
  const known = new Map<object, Measured>();
  const path: Visit[] = [];
  enter(root, known, path);
  for (let visit = path.at(-1); visit !== undefined; visit = path.at(-1)) {
    if (visit.next < visit.children.length) {
      const child = visit.children[visit.next];
      visit.next += 1;
      const found = typeof child === 'object' && child !== null ? known.get(child) : undefined;
      if (found !== undefined) add(visit.measured, found);
      else if (!enter(child, known, path)) visit.measured.size += scalarSize(child);
    } else {
      path.pop();
      const { measured } = visit;
      if (measured.height > bounds.maxDepth) throw tooDeep(bounds.maxDepth);
      if (measured.size > bounds.maxOutput) {
        throw tooLarge(`a value that has more than ${bounds.maxOutput} parts when what it shares is written out`);
      }
      const outer = path.at(-1);
      if (outer !== undefined) add(outer.measured, measured);
    }
  }
}

/**
 * The depth alone, of a value in which nothing is shared: it has an end, and needs no memory of what was seen. `maxDepth` is how deep
 * this calls itself.
 */
export function checkDepth(value: unknown, maxDepth: number, depth = 0): void {
  if (typeof value !== 'object' || value === null) return;
  const children = childrenOf(value);
  if (children === undefined) return;
  if (depth >= maxDepth) throw tooDeep(maxDepth);
  for (const child of children) if (typeof child === 'object') checkDepth(child, maxDepth, depth + 1);
}

interface Measured {
  height: number;
  size: number;
}

interface Visit {
  readonly children: readonly unknown[];
  readonly measured: Measured;
  next: number;
}

function enter(value: unknown, known: Map<object, Measured>, path: Visit[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const children = childrenOf(value);
  if (children === undefined) return false;
  const measured = { height: 1, size: 1 + keysSize(value) };
  known.set(value, measured);
  path.push({ children, measured, next: 0 });
  return true;
}

function add(outer: Measured, inner: Measured): void {
  outer.height = Math.max(outer.height, inner.height + 1);
  outer.size += inner.size;
}

function scalarSize(value: unknown): number {
  if (typeof value === 'string') return 1 + value.length;
  return value instanceof Uint8Array ? 1 + value.length : 1;
}

/** Undefined for what contains nothing. */
function childrenOf(value: object): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return [...value.keys(), ...value.values()];
  if (value instanceof Set) return [...value];
  if (value instanceof PyObject) {
    const { callable, args, kwargs, listItems, dictItems, state, stateSetter } = value;
    return [callable, args, kwargs, listItems, ...dictItems, state, stateSetter];
  }
  if (value instanceof PyGlobal) return [value.module, value.name];
  return Object.getPrototypeOf(value) === Object.prototype ? Object.values(value) : undefined;
}

/** Of a plain object; the keys of a Map are among its children. */
function keysSize(value: object): number {
  if (Object.getPrototypeOf(value) !== Object.prototype) return 0;
  let size = 0;
  for (const key of Object.keys(value)) size += 1 + key.length;
  return size;
}
