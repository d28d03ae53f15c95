import type { Failure } from '../job.ts';

/** An exception as Python names it. Module null: Python makes a class of this very name, without looking for one. */
export interface PythonException {
  readonly type: string;
  readonly module: string | null;
  readonly args: readonly unknown[];
}

/** JavaScript error name → dotted Python class: `{ OutOfStock: 'shop.errors.OutOfStock' }`. */
export type ExceptionNames = Readonly<Record<string, string>>;

/** The Python exception that a failure stands for. Never one that makes a Python client raise something else. */
export declare function pythonException(failure: Failure, names?: ExceptionNames): PythonException;
/** What is stored as `result`: exc_type, exc_message, exc_module. Arguments the serializer cannot hold become their repr. */
export declare function exceptionResult(
  exception: PythonException,
  serializer?: string,
  typed?: boolean,
): ReadonlyMap<string, unknown>;
/** The exception in a stored `result`; whatever is missing is empty. Undefined when the result is null. */
export declare function exceptionOf(result: unknown): PythonException | undefined;
/** `OutOfStock('none left')`, for events and chord errors. */
export declare function reprException(exception: PythonException): string;
/**
 * The stack in Python's form, or null when there are no frames. `last` replaces the closing `Type: message`.
 */
export declare function tracebackText(failure: Failure, exception: PythonException, last?: string): string | null;

export declare function notRegistered(task: string): PythonException;
export declare function revoked(reason: 'revoked' | 'expired' | 'terminated'): PythonException;
export declare function timeLimitExceeded(seconds: number): PythonException;
export declare function softTimeLimitExceeded(): PythonException;
export declare function workerLost(text: string): PythonException;
export declare function maxRetriesExceeded(
  task: string,
  id: string,
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>>,
): PythonException;
export declare function chordError(text: string): PythonException;
export declare function encodeError(text: string): PythonException;
