import { isPlain } from '../plain.ts';
import { ByteArray, FrozenSet, Tuple } from './values.ts';

/** Finds values that Python refuses as keys and as members of sets. Remembers the tuples it has looked into. */
export class Hashability {
  readonly #sound = new Set<object>();

  /** Python's name of the type that stands in the way (`list`), or undefined for a value that can be a key. */
  obstacle(value: unknown): string | undefined {
    if (typeof value !== 'object' || value === null) return undefined;
    if (!(value instanceof Tuple)) return unhashable(value);
    const open: object[] = [value];
    const seen = new Set<object>(open);
    for (let tuple = open.pop(); tuple !== undefined; tuple = open.pop()) {
      if (this.#sound.has(tuple)) continue;
      for (const item of tuple as Tuple) {
        if (typeof item !== 'object' || item === null) continue;
        if (!(item instanceof Tuple)) {
          const name = unhashable(item);
          if (name !== undefined) return name;
        } else if (!seen.has(item)) {
          seen.add(item);
          open.push(item);
        }
      }
    }
    for (const tuple of seen) this.#sound.add(tuple);
    return undefined;
  }
}

function unhashable(value: object): string | undefined {
  if (Array.isArray(value)) return 'list';
  if (value instanceof Map || isPlain(value)) return 'dict';
  if (value instanceof Set) return value instanceof FrozenSet ? undefined : 'set';
  return value instanceof ByteArray ? 'bytearray' : undefined;
}
