import { WireError } from '../../errors.ts';
import { pythonTraceback } from '../../formats/python-traceback.ts';
import { PyObject } from '../../formats/pickle/index.ts';
import type { Failure } from '../../job.ts';
import { repr, reprArgs, reprKwargs } from '../message/repr.ts';
import { reprText } from '../../formats/python-repr.ts';
import { encodeContent, encodeJson } from '../message/serializers.ts';

/** An exception as Python names it. Module null: Python makes a class of this very name, without looking for one. */
export interface PythonException {
  readonly type: string;
  readonly module: string | null;
  readonly args: readonly unknown[];
}

/** JavaScript error name → dotted Python class: `{ OutOfStock: 'shop.errors.OutOfStock' }`. */
export type ExceptionNames = Readonly<Record<string, string>>;

/**
 * The Python exception that a failure stands for: the declared name, else the module the failure brings along, else the Python
 * builtin of that name or meaning, else an exception of the same name that Python makes up when it reads it.
 *
 * A reading client takes `exc_module` from `sys.modules` and the type from it. What it finds there and is no exception class
 * makes it raise SecurityError; what it does not find becomes a class of that name in `celery.exceptions`. So names that exist
 * there go without a module, and names that Python could not have are made identifiers.
 * Source: celery/backends/base.py prepare_exception, exception_to_python (5.6).
 */
export function pythonException(failure: Failure, names: ExceptionNames = {}): PythonException {
  const args = failure.args ?? (failure.message === '' ? [] : [failure.message]);
  // The worker's own word for a soft limit that the handler let through.
  if (failure.type === 'JobTimeoutError') return softTimeLimitExceeded();
  const declared = Object.hasOwn(names, failure.type) ? names[failure.type] : undefined;
  if (declared !== undefined) return { ...dotted(declared, args), args };
  const { module } = failure;
  if (module !== undefined && module !== '' && (module !== 'builtins' || isBuiltin(failure.type, args))) {
    return { type: failure.type, module, args };
  }
  const known = NATIVE.get(failure.type);
  if (known !== undefined) return { type: known[1], module: known[0], args };
  return { ...dotted(failure.type, args), args };
}

function dotted(name: string, args: readonly unknown[]): { readonly type: string; readonly module: string | null } {
  if (isBuiltin(name, args)) return { type: name, module: 'builtins' };
  const dot = name.lastIndexOf('.');
  const type = identifier(name.slice(dot + 1));
  if (dot > 0 && /^\p{Lu}/u.test(type)) return { type, module: name.slice(0, dot) };
  return { type, module: CELERY_NAMES.has(type) || !/^\p{Lu}/u.test(type) ? null : 'celery.exceptions' };
}

function identifier(name: string): string {
  const cleaned = name.replaceAll(/[^\p{ID_Continue}]/gu, '_');
  if (cleaned === '') return 'Exception_';
  return /^[\p{ID_Start}_]/u.test(cleaned) ? cleaned : `_${cleaned}`;
}

/** A builtin that can be made from these arguments: a few of them want very particular ones. */
function isBuiltin(name: string, args: readonly unknown[]): boolean {
  if (!BUILTINS.has(name)) return false;
  switch (name) {
    case 'UnicodeDecodeError':
    case 'UnicodeEncodeError':
      return args.length === 5;
    case 'UnicodeTranslateError':
      return args.length === 4;
    default:
      return true;
  }
}

/** What is stored as `result`: exc_type, exc_message, exc_module. Arguments the serializer cannot hold become their repr. */
export function exceptionResult(
  exception: PythonException,
  serializer = 'json',
  typed = true,
): ReadonlyMap<string, unknown> {
  return new Map<string, unknown>([
    ['exc_type', exception.type],
    ['exc_message', exception.args.map((arg) => storable(arg, serializer, typed))],
    ['exc_module', exception.module],
  ]);
}

/** A value, or its repr where the serializer has no form for it. */
export function storable(arg: unknown, serializer = 'json', typed = true): unknown {
  if (arg === undefined) return null;
  if (typeof arg === 'string') return arg;
  try {
    if (serializer === 'json') encodeJson(arg, typed);
    else encodeContent(serializer, arg, { typed });
    return arg;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return repr(arg);
  }
}

/**
 * The exception in a stored `result`, plain or exact; whatever is missing is empty. Undefined when the result is no exception:
 * null, or something that a custom state put there.
 */
export function exceptionOf(result: unknown): PythonException | undefined {
  if (typeof result !== 'object' || result === null || Array.isArray(result)) return undefined;
  if (result instanceof PyObject) return pickledException(result);
  const field = (name: string): unknown =>
    result instanceof Map
      ? (result as ReadonlyMap<string, unknown>).get(name)
      : (result as Readonly<Record<string, unknown>>)[name];
  const type = field('exc_type');
  const message = field('exc_message');
  const module = field('exc_module');
  if (type === undefined && message === undefined) return undefined;
  return {
    type: typeof type === 'string' && type !== '' ? type : 'Exception',
    module: typeof module === 'string' && module !== '' ? module : null,
    args: Array.isArray(message) ? message : message === undefined || message === null ? [] : [message],
  };
}

/**
 * With the serializer pickle Python stores the exception itself, and one that cannot be pickled in a wrapper that tells its module,
 * name and arguments (celery/utils/serialization.py UnpickleableExceptionWrapper).
 */
function pickledException({ global, args }: PyObject): PythonException | undefined {
  if (global === undefined) return undefined;
  if (global.name !== 'UnpickleableExceptionWrapper') return { type: global.name, module: global.module, args };
  const [module, name, inner] = args as readonly unknown[];
  return {
    type: typeof name === 'string' && name !== '' ? name : 'Exception',
    module: typeof module === 'string' && module !== '' ? module : null,
    args: Array.isArray(inner) ? inner : [],
  };
}

/** `OutOfStock('none left')`, for events and chord errors. */
export function reprException({ type, args }: PythonException): string {
  return `${type.slice(type.lastIndexOf('.') + 1)}(${args.map((arg) => (typeof arg === 'string' ? reprText(arg) : repr(arg))).join(', ')})`;
}

/** What `str(exception)` gives: nothing, the one argument, or all of them as a tuple. */
export function exceptionText({ type, args }: PythonException): string {
  if (args.length === 0) return '';
  if (args.length > 1) return reprArgs(args);
  const [only] = args;
  return typeof only === 'string' && type !== 'KeyError' && type !== 'NotRegistered' ? only : repr(only);
}

/** `shop.errors.OutOfStock: none left`: the last line of a Python traceback. */
export function exceptionLine(exception: PythonException): string {
  const { type, module } = exception;
  const name = module === null || module === 'builtins' ? type : `${module}.${type}`;
  const text = exceptionText(exception);
  return text === '' ? name : `${name}: ${text}`;
}

/**
 * The stack as a Python traceback, or null when it has no frames. It has to be Python's form and not only look nice: with
 * `task_remote_tracebacks` a client parses it, and raises TracebackParseError instead of the exception when it finds no `File` line.
 */
export function tracebackText(failure: Failure, exception: PythonException): string | null {
  return pythonTraceback(failure.traceback, exceptionLine(exception));
}

/** Nobody here runs this task. */
export function notRegistered(task: string): PythonException {
  return { type: 'NotRegistered', module: 'celery.exceptions', args: [task] };
}

/** The task was called off: by a revoke command, by its expiry, or while it ran. */
export function revoked(reason: 'revoked' | 'expired' | 'terminated'): PythonException {
  return { type: 'TaskRevokedError', module: 'celery.exceptions', args: [reason] };
}

/** The hard time limit, of so many seconds. */
export function timeLimitExceeded(seconds: number): PythonException {
  return { type: 'TimeLimitExceeded', module: 'billiard.exceptions', args: [seconds] };
}

/** The soft time limit, where the handler let it end the task. */
export function softTimeLimitExceeded(): PythonException {
  return { type: 'SoftTimeLimitExceeded', module: 'billiard.exceptions', args: [] };
}

/** The process that ran the task is gone: `Worker exited prematurely: signal 9 (SIGKILL) Job: 3.` */
export function workerLost(text: string): PythonException {
  return { type: 'WorkerLostError', module: 'billiard.exceptions', args: [text] };
}

/** A retry was asked for without a reason, once too often. */
export function maxRetriesExceeded(
  task: string,
  id: string,
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>>,
): PythonException {
  const text = `Can't retry ${task}[${id}] args:${reprArgs(args)} kwargs:${reprKwargs(kwargs)}`;
  return { type: 'MaxRetriesExceededError', module: 'celery.exceptions', args: [text] };
}

/** A chord whose header failed; its text is what the body's failure says. */
export function chordError(text: string): PythonException {
  return { type: 'ChordError', module: 'celery.exceptions', args: [text] };
}

/** A value that the serializer cannot hold. */
export function encodeError(text: string): PythonException {
  return { type: 'EncodeError', module: 'kombu.exceptions', args: [text] };
}

/** JavaScript's own errors, by what they mean in Python. Looked up before the builtins, which have some of the names too. */
const NATIVE: ReadonlyMap<string, readonly [module: string, type: string]> = new Map([
  ['Error', ['builtins', 'Exception']],
  ['', ['builtins', 'Exception']],
  ['AggregateError', ['builtins', 'Exception']],
  ['EvalError', ['builtins', 'Exception']],
  ['InternalError', ['builtins', 'RuntimeError']],
  ['RangeError', ['builtins', 'ValueError']],
  ['ReferenceError', ['builtins', 'NameError']],
  // What JSON.parse throws; Python's json raises a ValueError, and its SyntaxError is about Python code.
  ['SyntaxError', ['builtins', 'ValueError']],
  ['TypeError', ['builtins', 'TypeError']],
  ['URIError', ['builtins', 'ValueError']],
  ['SoftTimeLimitExceeded', ['billiard.exceptions', 'SoftTimeLimitExceeded']],
]);

/**
 * The builtin exceptions of Python 3.11, without those that end a process or a generator instead of failing a call
 * (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration ...) and the groups, which hold other exceptions.
 */
const BUILTINS: ReadonlySet<string> = new Set(
  `ArithmeticError AssertionError AttributeError BlockingIOError BrokenPipeError BufferError BytesWarning ChildProcessError
  ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError DeprecationWarning EOFError EncodingWarning
  EnvironmentError Exception FileExistsError FileNotFoundError FloatingPointError FutureWarning IOError ImportError ImportWarning
  IndentationError IndexError InterruptedError IsADirectoryError KeyError LookupError MemoryError ModuleNotFoundError NameError
  NotADirectoryError NotImplementedError OSError OverflowError PendingDeprecationWarning PermissionError ProcessLookupError
  RecursionError ReferenceError ResourceWarning RuntimeError RuntimeWarning SyntaxError SyntaxWarning SystemError TabError
  TimeoutError TypeError UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError
  UnicodeWarning UserWarning ValueError Warning ZeroDivisionError`.split(/\s+/),
);

/** What `celery.exceptions` holds, 4.0 to 5.6: a name of ours must not be taken for one of these. */
const CELERY_NAMES: ReadonlySet<string> = new Set(
  `AlreadyRegistered AlwaysEagerIgnored BackendError BackendGetMetaError BackendStoreError CDeprecationWarning
  CPendingDeprecationWarning CeleryCommandException CeleryError CeleryWarning ChordError ClickException DuplicateNodenameWarning
  FixupWarning Ignore ImproperlyConfigured IncompleteStream InvalidTaskError MaxRetriesExceededError NotConfigured NotRegistered
  OperationalError QueueNotFound Reject Retry RetryTaskError SecurityError SecurityWarning SoftTimeLimitExceeded SystemTerminate
  TaskError TaskPredicate TaskRevokedError Terminated TimeLimitExceeded TimeoutError UNREGISTERED_FMT WorkerLostError
  WorkerShutdown WorkerTerminate`.split(/\s+/),
);

/** An exception of Python as a failure in our words. */
export function failureOf(exception: PythonException, traceback: string | null = null): Failure {
  const { type, module, args } = exception;
  const [only] = args;
  const message = args.length === 1 && typeof only === 'string' ? only : exceptionText(exception);
  return {
    type,
    ...(module === null ? {} : { module }),
    message,
    args,
    traceback: traceback ?? '',
  };
}
