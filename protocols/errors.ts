import type { Failure } from './job.ts';

/** The root of jobglot's own errors: a stable `code`, and a message that says what was being done and what to do. */
export class JobglotError extends Error {
  override readonly name: string = 'JobglotError';
  /** For programs: `config`, `connection`, `remote` … */
  readonly code: string;
  constructor(code: string, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Bytes that cannot be decoded, or a value that cannot be encoded. Names the system, what was being read and, where known, at which byte. */
export class WireError extends JobglotError {
  override readonly name: string = 'WireError';
  readonly system: string;
  /** Zero-based position in the text or bytes, or undefined. */
  readonly offset: number | undefined;

  constructor(
    system: string,
    code: string,
    message: string,
    options: { readonly offset?: number; readonly cause?: unknown } = {},
  ) {
    super(code, `${system}: ${message}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.system = system;
    this.offset = options.offset;
  }
}

/** Any thrown value as data. Its stack becomes the traceback; an own `module` and `args` of the error are kept. */
export function toFailure(thrown: unknown): Failure {
  if (!(thrown instanceof Error)) {
    return { type: 'Error', message: safeText(thrown), traceback: `Error: ${safeText(thrown)}` };
  }
  const extra = thrown as { readonly module?: unknown; readonly args?: unknown; readonly type?: unknown };
  return {
    type: typeof extra.type === 'string' && extra.type !== '' ? extra.type : nameOf(thrown),
    ...(typeof extra.module === 'string' ? { module: extra.module } : {}),
    message: thrown.message,
    ...(Array.isArray(extra.args) ? { args: extra.args as readonly unknown[] } : {}),
    traceback: stackWithCauses(thrown),
  };
}

/** A class that never set the `name` of its errors is still identified by the class's own name. */
function nameOf(error: Error): string {
  const own = error.constructor?.name;
  return error.name !== 'Error' && error.name !== ''
    ? error.name
    : typeof own === 'string' && own !== ''
      ? own
      : 'Error';
}

function stackWithCauses(error: Error, depth = 0): string {
  const stack = error.stack ?? `${error.name}: ${error.message}`;
  if (!(error.cause instanceof Error) || depth > 5) return stack;
  return `${stack}\nCaused by: ${stackWithCauses(error.cause, depth + 1)}`;
}

function safeText(value: unknown): string {
  try {
    return typeof value === 'string' ? value : String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}
