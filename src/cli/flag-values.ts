import { type Command, InvalidArgumentError, Option } from 'commander';

/** How the values of flags are read. Each throws InvalidArgumentError, in words for whoever typed it. */

export function list(value: string, before: readonly string[] = []): readonly string[] {
  const names = value.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError('Expected names with commas between them.');
  return [...before, ...names];
}

export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

export function whole(least: number): (value: string) => number {
  return (value) => {
    if (/^\d+$/.test(value) && Number(value) >= least) return Number(value);
    throw new InvalidArgumentError(`Expected a whole number of at least ${least}.`);
  };
}

export function seconds(value: string): number {
  const number = secondsOrZero(value);
  if (number > 0) return number;
  throw new InvalidArgumentError('Expected a number of seconds above 0.');
}

export function secondsOrZero(value: string): number {
  if (/^\d+(?:\.\d+)?$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Expected a number of seconds.');
}

/** `-l` and `--log-format`, wherever something runs that writes a log. */
export function logOptions(command: Command): Command {
  return command
    .option('-l, --loglevel <level>', 'debug, info, warning, error or silent (default: info)', level)
    .addOption(
      new Option('--log-format <format>', 'text or json (default: text on a terminal)').choices(['text', 'json']),
    );
}

/** Python's names of levels as well. */
function level(value: string): string {
  const found = LEVELS[value.toLowerCase()];
  if (found !== undefined) return found;
  throw new InvalidArgumentError('Expected debug, info, warning, error or silent.');
}

const LEVELS: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warn',
  warning: 'warn',
  error: 'error',
  critical: 'error',
  fatal: 'error',
  silent: 'silent',
};
