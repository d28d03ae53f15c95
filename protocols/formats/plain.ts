/** Tests for the plain data that the encoders of this folder accept, and names of other values for error messages. */

/** How deep containers may nest unless the caller says otherwise; about CPython's own recursion limit. */
export const MAX_DEPTH: number = 1000;

/** True for objects without a class of their own, and without a `toJSON`. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    // An object of another realm (vm, a test runner) is plain, too.
    if (Object.getPrototypeOf(prototype) !== null || !Object.hasOwn(prototype as object, 'isPrototypeOf')) return false;
  }
  return typeof (value as { readonly toJSON?: unknown }).toJSON !== 'function';
}

/** A value's type for an error message: `a Date`, `an Image`, `a function`. */
export function typeName(value: unknown): string {
  if (typeof value !== 'object' || value === null) return `a ${typeof value}`;
  const prototype = Object.getPrototypeOf(value) as { readonly constructor?: { readonly name?: unknown } } | null;
  const name = prototype?.constructor?.name;
  const shown = typeof name === 'string' && name !== '' ? name : 'object';
  return `${/^[AEIOU]/i.test(shown) ? 'an' : 'a'} ${shown}`;
}

/** The path of a value, as code would reach it: `args[1].when`. Empty keys are left out. */
export function pathText(root: string, keys: readonly (string | number)[]): string {
  let path = root;
  for (const key of keys) {
    if (typeof key === 'number') path += `[${key}]`;
    else if (key !== '') path += IDENTIFIER.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
  }
  return path;
}

const IDENTIFIER = /^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u;
