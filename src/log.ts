/** The interface of pino, so that a pino logger can be passed as it is: fields first, then the message. */
export interface Logger {
  readonly level: string;
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Log levels, from all lines to none. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

const RANK: Readonly<Record<string, number>> = { trace: 0, debug: 1, info: 2, warn: 3, error: 4, fatal: 5, silent: 9 };

/** Whether a line of this level would be written: ask before building one on a hot path. */
export function logs(log: Logger, level: LogLevel): boolean {
  return (RANK[log.level] ?? 2) <= (RANK[level] ?? 2);
}

/** The options of a logger: which lines, in which format, to which stream. */
export interface LoggerOptions {
  /** @default 'info' */
  readonly level?: LogLevel;
  /** One JSON object on each line, or text for a person. @default 'json' unless the stream is a terminal */
  readonly format?: 'json' | 'text';
  /** @default process.stderr */
  readonly stream?: { write(text: string): unknown; readonly isTTY?: boolean };
}

/** A simple logger: JSON lines for machines, one short line for people. */
export function createLogger(options: LoggerOptions = {}): Logger {
  const level = options.level ?? 'info';
  const stream = options.stream ?? process.stderr;
  const format = options.format ?? (stream.isTTY === true ? 'text' : 'json');
  const write = (rank: LogLevel, fields: object, message: string): void => {
    if ((RANK[level] ?? 2) > (RANK[rank] ?? 2)) return;
    stream.write(format === 'json' ? jsonLine(rank, fields, message) : textLine(rank, fields, message));
  };
  return {
    level,
    debug: (fields, message) => write('debug', fields, message),
    info: (fields, message) => write('info', fields, message),
    warn: (fields, message) => write('warn', fields, message),
    error: (fields, message) => write('error', fields, message),
  };
}

/** A logger that writes nothing: the library's default. */
export const silent: Logger = { level: 'silent', debug() {}, info() {}, warn() {}, error() {} };

function jsonLine(level: string, fields: object, message: string): string {
  return `${JSON.stringify({ time: new Date().toISOString(), level, ...plain(fields), msg: message })}\n`;
}

function textLine(level: string, fields: object, message: string): string {
  const rest = Object.entries(plain(fields)).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return `[${new Date().toISOString().replace('T', ' ').slice(0, 23)}] ${level.toUpperCase().padEnd(5)} ${message}${rest.length > 0 ? `  ${rest.join(' ')}` : ''}\n`;
}

function plain(fields: object): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    out[key] =
      value instanceof Error ? `${value.name}: ${value.message}` : typeof value === 'bigint' ? value.toString() : value;
  }
  return out;
}
