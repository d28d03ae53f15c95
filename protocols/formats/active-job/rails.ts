import { WireError } from '../../errors.ts';

/** The versions of Rails whose formats differ, in reading or in writing. */
export const railsVersions = ['6.1', '7.0', '7.1', '7.2', '8.0', '8.1'] as const;
export type RailsVersion = (typeof railsVersions)[number];

/** True where this version is given and is at least `since`. Where no version is given, 6.1 is assumed. */
export function isSince(rails: RailsVersion | undefined, since: RailsVersion): boolean {
  return rails !== undefined && railsVersions.indexOf(rails) >= railsVersions.indexOf(since);
}

export function undecodable(what: string, cause?: unknown): WireError {
  return new WireError('active-job', 'undecodable', what, cause === undefined ? {} : { cause });
}

export function unencodable(what: string): WireError {
  return new WireError('active-job', 'unencodable', what);
}

/** The beginning of a value, for an error message. */
export function shown(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, (_, one: unknown) =>
      typeof one === 'bigint' ? String(one) : one instanceof Map ? Object.fromEntries(one) : one,
    );
  } catch {
    // The value is nested too deep, or is not JSON.
  }
  text ??= String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
