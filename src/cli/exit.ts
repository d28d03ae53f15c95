/** How the process ends, as sysexits.h and Celery number it. */
export const EXIT = {
  ok: 0,
  /** A cold stop, or something failed: a task whose result was awaited, too. */
  failure: 1,
  /** A flag, an argument or a configuration is wrong. */
  usage: 64,
  /** A broker or a result store cannot be reached. */
  unavailable: 69,
} as const;

/** The exit code of an error. By its code and not its class: a task file may have loaded another copy of this package. */
export function exitCodeOf(error: unknown): number {
  switch (codeOf(error)) {
    case 'config':
      return EXIT.usage;
    case 'connection':
      return EXIT.unavailable;
    default:
      return EXIT.failure;
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}
