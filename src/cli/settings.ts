/** Flag over environment over file over default: the first that is there, and who it is from. */
export function first<T>(
  candidates: readonly (readonly [value: T | undefined, from: string])[],
): { readonly value: T; readonly from: string } | undefined {
  for (const [value, from] of candidates) if (value !== undefined && value !== '') return { value, from };
  return undefined;
}

/** An option that is there where its value is. */
export function given<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): { readonly [Key in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [Key in Name]?: Value });
}

export function without<T extends object, Name extends keyof T>(from: T, names: readonly Name[]): Omit<T, Name> {
  const rest = { ...from };
  for (const name of names) delete rest[name];
  return rest;
}
