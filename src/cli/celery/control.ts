import { type ArgumentKind, type CommandSpec, COMMANDS } from '../../../protocols/celery/control/commands.ts';
import * as json from '../../../protocols/formats/json.ts';
import type { CeleryControl, HeardEvent } from '../../drivers/celery/index.ts';
import type { Inspector } from '../../inspector.ts';
import { ConfigError } from '../../errors.ts';
import { commandNames } from './command-list.ts';
import { type ClientFlags, optionsFor } from './client.ts';
import { EXIT } from '../exit.ts';
import type { Environment, Output } from '../system.ts';

/** The flags of `jobglot inspect celery` and `jobglot control celery`. */
export interface ControlFlags extends ClientFlags {
  readonly destination?: readonly string[];
  readonly timeout?: number;
  readonly json?: boolean;
  readonly terminate?: boolean;
  readonly signal?: string;
}

/** The inspector of the broker and results that a worker started in the same folder would use. */
export async function inspectorFor(flags: ControlFlags, env: Environment, cwd: string): Promise<Inspector> {
  const { CeleryInspector } = await import('../../drivers/celery/index.ts');
  const options = await optionsFor(flags, env, cwd);
  return new CeleryInspector({
    ...options,
    ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout * 1000 }),
  });
}

/** Asks workers, prints each answer as it comes, and says how many there were; with `--json` one object by node. */
export async function control(
  type: CommandSpec['type'],
  command: string,
  words: readonly string[],
  flags: ControlFlags,
  env: Environment,
  cwd: string,
  output: Output,
): Promise<number> {
  const spec = COMMANDS.get(command);
  if (spec === undefined || spec.type !== type || spec.hidden === true)
    throw new ConfigError(`there is no ${type} command '${command}'; there are ${commandNames(type).join(', ')}`);
  const args = readArguments(command, spec, words, flags);
  const { CeleryControl: Control } = await import('../../drivers/celery/index.ts');
  const client: CeleryControl = new Control(await optionsFor(flags, env, cwd));
  try {
    const replies = await client.call(command, args, {
      timeoutMs: (flags.timeout ?? Math.max(1, spec.patience ?? 1)) * 1000,
      ...(flags.destination === undefined ? {} : { destination: flags.destination }),
      ...(flags.json === true ? {} : { onReply: (node, reply) => output.out(`-> ${node}: ${shown(reply)}\n`) }),
    });
    if (flags.json === true) output.out(`${json.stringify(replies)}\n`);
    // Who stops does not answer.
    if (replies.size === 0 && command !== 'shutdown') {
      output.err('No worker answered in time.\n');
      return EXIT.unavailable;
    }
    if (flags.json !== true) output.out(`\n${replies.size} ${replies.size === 1 ? 'worker' : 'workers'} answered.\n`);
    return [...replies.values()].some(isError) ? EXIT.failure : EXIT.ok;
  } finally {
    await client.close();
  }
}

/** Words by their places, and the rest under one name, as Celery's command line has it. Throws ConfigError. */
export function readArguments(
  command: string,
  spec: CommandSpec,
  words: readonly string[],
  flags: Pick<ControlFlags, 'terminate' | 'signal'> = {},
): Readonly<Record<string, unknown>> {
  const args: Record<string, unknown> = {};
  const { places, rest } = spec;
  for (const [at, [name, kind]] of places.entries()) {
    const word = words[at];
    if (word !== undefined) args[name] = valueOf(command, name, kind, word);
  }
  const more = words.slice(places.length);
  if (rest !== undefined) {
    if (more.length > 0 || spec.required.includes(rest)) args[rest] = more;
  } else if (more.length > 0) {
    throw new ConfigError(`${command} takes ${spec.usage === '' ? 'no arguments' : spec.usage}`);
  }
  const missing = spec.required.filter((name) => args[name] === undefined || (name === rest && more.length === 0));
  if (missing.length > 0) throw new ConfigError(`${command} needs ${missing.join(' and ')}: ${command} ${spec.usage}`);
  if (flags.terminate === true) args['terminate'] = true;
  if (flags.signal !== undefined && spec.optional.includes('signal')) args['signal'] = flags.signal;
  return args;
}

function valueOf(command: string, name: string, kind: ArgumentKind, word: string): unknown {
  switch (kind) {
    case 'text':
      return word;
    case 'flag':
      return /^(?:1|true|yes|on)$/i.test(word);
    case 'whole':
      if (/^-?\d+$/.test(word)) return Number(word);
      break;
    case 'number':
      if (/^\d+(?:\.\d+)?$/.test(word)) return Number(word);
      break;
  }
  throw new ConfigError(`${command}: ${name} must be a number, not '${word}'`);
}

/** OK or ERROR with its words on one line; anything else below it. */
function shown(reply: unknown): string {
  const { ok, error } = (typeof reply === 'object' && reply !== null ? reply : {}) as Readonly<Record<string, unknown>>;
  if (typeof error === 'string') return `ERROR\n${indented(error)}`;
  if (typeof ok === 'string') return `OK\n${indented(ok)}`;
  if (reply === null || (Array.isArray(reply) && reply.length === 0)) return 'OK\n    - empty -';
  return `OK\n${indented(pretty(reply))}`;
}

function isError(reply: unknown): boolean {
  return typeof reply === 'object' && reply !== null && Object.hasOwn(reply, 'error');
}

function pretty(value: unknown): string {
  if (Array.isArray(value) && value.every((item) => typeof item === 'string'))
    return value.map((item) => `* ${item}`).join('\n');
  try {
    return JSON.stringify(value, undefined, 2);
  } catch {
    // Integers that JavaScript counts by another type.
    return json.stringify(value);
  }
}

/** What comes from a wire must not move the cursor. */
function indented(text: string): string {
  return text
    .replaceAll(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, '?')
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n');
}

export interface EventsFlags extends ClientFlags {
  readonly json?: boolean;
  readonly dump?: boolean;
  readonly limit?: number;
  readonly enable?: boolean;
}

/** `jobglot events celery`: one line an event, until it is interrupted or `--limit` events have come. */
export async function events(flags: EventsFlags, env: Environment, cwd: string, output: Output): Promise<number> {
  const { CeleryControl: Control, CeleryEvents } = await import('../../drivers/celery/index.ts');
  const options = await optionsFor(flags, env, cwd);
  const receiver = new CeleryEvents(options);
  const stop = (): void => void receiver.close();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  const names = new Map<string, string>();
  let count = 0;
  try {
    await receiver.open();
    if (flags.enable === true) {
      await using client = new Control(options);
      await client.cast('enable_events');
    }
    output.err('listening for events\n');
    for await (const event of receiver) {
      output.out(`${flags.json === true ? json.stringify(event) : eventLine(event, names)}\n`);
      if (++count === flags.limit) break;
    }
    return EXIT.ok;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    await receiver.close();
  }
}

const HUMAN: Readonly<Record<string, string>> = {
  'worker-offline': 'shutdown',
  'worker-online': 'started',
  'worker-heartbeat': 'heartbeat',
};

/** As `celery events --dump` prints it. Source: celery/events/dumper.py (5.6). */
function eventLine(event: HeardEvent, names: Map<string, string>): string {
  const { type, hostname, timestamp, uuid, ...rest } = event as Readonly<Record<string, unknown>>;
  const fields: Record<string, unknown> = { ...rest };
  const kind = String(type).toLowerCase();
  let subject = '';
  if (kind.startsWith('task-')) {
    const id = String(uuid);
    if (kind === 'task-received' || kind === 'task-sent') {
      const { name, args, kwargs } = fields;
      for (const told of ['name', 'args', 'kwargs']) delete fields[told];
      if (names.size > 10_000) names.clear();
      names.set(id, `${plain(name)}(${id}) args=${plain(args)} kwargs=${plain(kwargs)}`);
    }
    subject = ` ${names.get(id) ?? id}`;
  }
  const told = Object.keys(fields).sort();
  const list = told.map((field) => `${field}=${plain(fields[field])}`).join(', ');
  const at = typeof timestamp === 'number' && Number.isFinite(timestamp) ? timestamp * 1000 : Number.NaN;
  const time = Number.isNaN(new Date(at).getTime()) ? '?' : new Date(at).toISOString();
  const human = Object.hasOwn(HUMAN, kind) ? HUMAN[kind] : kind.replaceAll('-', ' ');
  return `${plain(hostname)} [${time}] ${human}${list === '' ? '' : ':'}${subject} ${list}`.replaceAll(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    ' ',
  );
}

function plain(value: unknown): string {
  return typeof value === 'string' ? value : json.stringify(value ?? null);
}
