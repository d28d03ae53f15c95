import { createLogger, type Logger, type LogLevel } from '../log.ts';

export interface ConsoleLogOptions {
  readonly level: LogLevel;
  readonly format: 'json' | 'text';
  readonly colors: boolean;
  readonly write: (text: string) => void;
}

/**
 * The log of the command line. Text puts the task first, as Celery's worker does:
 *
 *     [2026-08-21 10:00:00.123] INFO  proj.tasks.add[3f1c…] succeeded in 0.02s
 */
export function consoleLog(options: ConsoleLogOptions): Logger {
  const { level, write } = options;
  if (options.format === 'json') return createLogger({ level, format: 'json', stream: { write } });
  const line = (rank: Rank) => (fields: object, message: string) => {
    if (RANKS[rank] >= RANKS[level])
      write(textLine(rank, fields as Readonly<Record<string, unknown>>, message, options.colors));
  };
  return { level, debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
}

/** The same on standard error, in colours where somebody looks at them. */
export function stderrLog(
  level: LogLevel,
  format: 'json' | 'text',
  env: Readonly<Record<string, string | undefined>>,
): Logger {
  const colors = process.stderr.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return consoleLog({ level, format, colors, write: (text) => void process.stderr.write(text) });
}

type Rank = Exclude<LogLevel, 'silent'>;

const RANKS: Readonly<Record<LogLevel, number>> = { debug: 1, info: 2, warn: 3, error: 4, silent: 9 };
const COLORS: Readonly<Record<Rank, string>> = { debug: '90', info: '36', warn: '33', error: '31' };
// In the line already, or the same in every line.
const TOLD: ReadonlySet<string> = new Set(['task', 'id', 'ms']);
// Below the line, as they are.
const BLOCKS: ReadonlySet<string> = new Set(['stack', 'traceback']);

function textLine(rank: Rank, fields: Readonly<Record<string, unknown>>, message: string, colors: boolean): string {
  const time = new Date().toISOString().replace('T', ' ').slice(0, 23);
  const name = rank.toUpperCase().padEnd(5);
  const { task, id } = fields;
  const subject = typeof task === 'string' ? `${safe(task)}${typeof id === 'string' ? `[${safe(id)}]` : ''} ` : '';
  const rest = Object.entries(fields)
    .filter(
      ([key, value]) =>
        value !== undefined && key !== 'system' && !BLOCKS.has(key) && !(subject !== '' && TOLD.has(key)),
    )
    .map(([key, value]) => `  ${key}=${shown(value)}`);
  const blocks = [...BLOCKS].map((key) => fields[key]).filter((text) => typeof text === 'string');
  const below = blocks.flatMap((text) => text.trimEnd().split('\n')).map((text) => `    ${safe(text)}\n`);
  return `[${time}] ${colors ? `\u001b[${COLORS[rank]}m${name}\u001b[0m` : name} ${subject}${message}${rest.join('')}\n${below.join('')}`;
}

function shown(value: unknown): string {
  if (value instanceof Error) return safe(`${value.name}: ${value.message}`);
  if (typeof value === 'string') return safe(value);
  return typeof value === 'bigint' ? value.toString() : (JSON.stringify(value) ?? 'undefined');
}

/** Names and messages come off the wire: they must not move the cursor, or begin a line of their own. */
function safe(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (unit) =>
    unit === '\n' ? '\\n' : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
