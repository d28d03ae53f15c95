import { WireError } from '../errors.ts';
import { DateTime, isoText, Numeral, parseIso } from '../formats/values.ts';
import type { ExactMap, TaskCall } from './message.ts';
import { groupTuple, type ResultTuple, resultTuple } from './result.ts';
import { encodeJson } from './serializers.ts';

/**
 * Canvas as data. A signature on the wire:
 *
 *     {"task", "args", "kwargs", "options", "subtask_type", "immutable"}
 *     chain:  task "celery.chain", kwargs {"tasks": [first, ..., last]}
 *     group:  task "celery.group", kwargs {"tasks": [member, ...]}
 *     chord:  task "celery.chord", kwargs {"header": [member, ...] or a group, "body": signature, "kwargs": {}}
 *
 * Source: celery/canvas.py (5.6).
 */

/** A call that is data. `subtaskType`: null, chain, group, chord, xmap, xstarmap, chunks. */
export interface Signature {
  readonly task: string;
  readonly args: readonly unknown[];
  readonly kwargs: ExactMap;
  readonly options: ExactMap;
  readonly subtaskType: string | null;
  readonly immutable: boolean;
}

/** Where a task goes. The options may hold `queue`, `exchange`, `routing_key`, and then win over any route. */
export type Route = (task: string, options: ExactMap) => { readonly exchange: string; readonly routingKey: string };

/** Who publishes, and when. */
export interface Publisher {
  readonly now: Date;
  readonly mint: () => string;
  /** `gen<pid>@<host>`. */
  readonly origin: string;
  readonly route: Route;
  /** Where rpc replies go. @default '' */
  readonly replyTo?: string;
  /** The running task's root and id, when a task publishes. */
  readonly rootId?: string | null;
  readonly parentId?: string | null;
  /** @default 'json' */
  readonly serializer?: string;
  readonly compression?: string | null;
  /** Options of tasks known here (`queue`, `priority`, `serializer` ...); those of the signature win. */
  readonly defaults?: (task: string) => ExactMap | undefined;
}

/** What a call adds to a signature: arguments in front, keyword arguments and options over. */
export interface Extra {
  readonly args?: readonly unknown[];
  readonly kwargs?: ExactMap;
  readonly options?: ExactMap;
}

/** What applying a signature comes to. */
export interface Application {
  /** In the order they are to be published. */
  readonly calls: readonly TaskCall[];
  /** What a parent records as its child. Undefined for an empty group. */
  readonly child: ResultTuple | undefined;
}

/** Reads a signature dictionary, exact or plain; tolerant of what is missing. WireError `bad-signature` for the rest. */
export function readSignature(value: unknown): Signature {
  const map = mapOf(value);
  if (map === undefined) throw bad('a signature is not an object');
  const task = map.get('task');
  if (typeof task !== 'string' || task === '') throw bad('a signature names no task');
  const args = map.get('args') ?? [];
  if (!Array.isArray(args)) throw bad(`the arguments of the signature for '${task}' are not a list`);
  const kwargs = mapOf(map.get('kwargs') ?? NOTHING);
  const options = mapOf(map.get('options') ?? NOTHING);
  if (kwargs === undefined || options === undefined) {
    throw bad(`the keyword arguments or the options of the signature for '${task}' are not an object`);
  }
  const type = map.get('subtask_type');
  return {
    task,
    args,
    kwargs,
    options,
    subtaskType: typeof type === 'string' && type !== '' ? type : null,
    immutable: map.get('immutable') === true,
  };
}

export function signatureToMap(signature: Signature): ExactMap {
  return new Map<string, unknown>([
    ['task', signature.task],
    ['args', signature.args],
    ['kwargs', signature.kwargs],
    ['options', signature.options],
    ['subtask_type', signature.subtaskType],
    ['immutable', signature.immutable],
  ]);
}

/** A group of these members, without options. */
export function groupOf(members: readonly unknown[]): Signature {
  return composite('group', new Map([['tasks', members]]), NOTHING);
}

/**
 * Every task to publish now for a signature: the task, the first step of a chain (the others travel with it), each member of a
 * group. Throws WireError `bad-signature`. Source: celery/canvas.py apply_async of each type; celery/app/base.py send_task.
 */
export function apply(signature: Signature, extra: Extra, publisher: Publisher): Application {
  switch (signature.subtaskType) {
    case 'chain':
      return applyChain(signature, extra, publisher);
    case 'group':
      return applyGroup(signature, extra, publisher);
    case 'chord':
      return applyChord(signature, extra, publisher);
    default:
      return applyTask(signature, extra, publisher);
  }
}

/**
 * A task, and the built-in tasks that `map`, `starmap` and `chunks` stand for: those go where the task inside them goes.
 * Source: Signature.apply_async, _basemap.apply_async. The original forgets the options of a map, its id among them, so that
 * whoever waits for it waits forever; we keep them.
 */
function applyTask(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const { args, kwargs, options } = merge(signature, extra);
  const inner = mapOf(kwargs.get('task'))?.get('task');
  const routedAs = MAPS.has(signature.subtaskType) && typeof inner === 'string' ? inner : signature.task;
  const call = toCall(signature.task, routedAs, args, kwargs, options, publisher);
  return { calls: [call], child: resultTuple(call.id) };
}

/**
 * A remaining chain from outside comes after what is left of this one. What is null in the call hides the chain's own option,
 * as in the original, where it does so for the priority. Source: _chain.apply_async, _chain.run.
 */
function applyChain(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const options = new Map([...signature.options, ...(extra.options ?? NOTHING)]);
  const { steps } = prepareSteps(
    signature,
    { args: extra.args ?? [], kwargs: extra.kwargs ?? NOTHING },
    {
      id: textOf(options.get('task_id')),
      groupId: textOf(options.get('group_id')),
      groupIndex: options.get('group_index') ?? undefined,
      chord: options.get('chord') ?? undefined,
      rootId: textOf(options.get('root_id')),
    },
    listOf(options.get('link_error')),
    publisher,
  );
  const [first, ...rest] = steps;
  if (first === undefined) return { calls: [], child: undefined };
  const link = listOf(options.get('link'));
  const last = rest.at(-1);
  if (last !== undefined) rest[rest.length - 1] = withOption(last, 'link', union(last.options.get('link'), link));
  const start = last === undefined ? withOption(first, 'link', union(first.options.get('link'), link)) : first;
  for (const name of STEP_OPTIONS) options.delete(name);
  options.set('chain', [...listOf(options.get('chain')), ...rest.toReversed().map(signatureToMap)]);
  return apply(start, { options }, publisher);
}

/** What `_chain.run` gives to single steps, and not to the first one as an option. */
const STEP_OPTIONS = ['task_id', 'group_id', 'group_index', 'chord', 'link', 'link_error', 'root_id', 'parent_id'];

/** The group's id is its `task_id`; its options win over those of a member. Source: group.apply_async, _prepared, _apply_tasks. */
function applyGroup(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const options = mergeOptions(signature.options, extra.options ?? NOTHING);
  const id = textOf(options.get('task_id')) ?? publisher.mint();
  const chord = options.get('chord') ?? undefined;
  for (const name of ['task_id', 'chord', 'group_index']) options.delete(name);
  options.set('group_id', id);
  const calls: TaskCall[] = [];
  const children: ResultTuple[] = [];
  for (const { member, index } of flatten(listOf(signature.kwargs.get('tasks')))) {
    const frozen = freeze(
      member,
      { groupId: id, groupIndex: index, rootId: textOf(options.get('root_id')) },
      publisher,
    );
    const passed = new Map(options).set('chord', chord ?? frozen.signature.options.get('chord'));
    calls.push(
      ...apply(
        frozen.signature,
        { args: extra.args ?? [], kwargs: extra.kwargs ?? NOTHING, options: passed },
        publisher,
      ).calls,
    );
    children.push(frozen.result);
  }
  const [only] = children;
  if (only === undefined) return { calls, child: undefined };
  // A chain that ends in a group, alone in a group: the inner group is what one waits for.
  return { calls, child: children.length === 1 && only[1] !== null ? only : groupTuple(id, children) };
}

/** Nested groups melt into the outer one; the index starts again in each of them, as in the original. */
function* flatten(members: readonly unknown[]): Generator<{ readonly member: Signature; readonly index: number }> {
  for (const [index, value] of members.entries()) {
    const member = readSignature(value);
    if (member.subtaskType === 'group') yield* flatten(listOf(member.kwargs.get('tasks')));
    else yield { member, index };
  }
}

/**
 * A chord is handed on to whoever runs the built-in task `celery.chord`, which every Python worker does: it starts the header
 * and counts it. The members lose the group they were frozen into, because that task makes a new one.
 * Source: celery/app/builtins.py add_chord_task, _chord.apply_async, _chord.run.
 */
function applyChord(signature: Signature, extra: Extra, publisher: Publisher): Application {
  const header = signature.kwargs.get('header');
  const members = Array.isArray(header) ? listOf(header) : listOf(mapOf(mapOf(header)?.get('kwargs'))?.get('tasks'));
  const body = readSignature(signature.kwargs.get('body'));
  const options = new Map([...signature.options, ...present(extra.options)]);
  const id = textOf(options.get('task_id'));
  options.delete('task_id');
  const bodyOptions = mergeOptions(body.options, options);
  if (textOf(bodyOptions.get('task_id')) === undefined) bodyOptions.set('task_id', id ?? publisher.mint());
  const kwargs = new Map<string, unknown>([
    ['header', members.map((member) => signatureToMap(ungrouped(readSignature(member))))],
    ['body', signatureToMap({ ...body, options: bodyOptions })],
    ['partial_args', signature.immutable ? signature.args : [...(extra.args ?? []), ...signature.args]],
    ['kwargs', new Map([...(mapOf(signature.kwargs.get('kwargs')) ?? NOTHING), ...(extra.kwargs ?? NOTHING)])],
  ]);
  const own = new Map<string, unknown>();
  for (const name of ['queue', 'exchange', 'routing_key', 'priority', 'root_id', 'parent_id']) {
    if (options.has(name)) own.set(name, options.get(name));
  }
  const call = toCall(signature.task, signature.task, [], kwargs, own, publisher);
  return { calls: [call], child: resultTuple(call.id) };
}

function ungrouped(member: Signature): Signature {
  const options = new Map(member.options);
  for (const name of ['group_id', 'group_index', 'chord']) options.delete(name);
  return { ...member, options };
}

interface Given {
  readonly id?: string | undefined;
  readonly groupId?: string | undefined;
  readonly groupIndex?: unknown;
  readonly chord?: unknown;
  readonly rootId?: string | undefined;
}

interface Frozen {
  readonly signature: Signature;
  readonly result: ResultTuple;
}

/** Gives a signature the ids it will be known by; ids it has already stay. Source: Signature.freeze and its overrides. */
function freeze(signature: Signature, given: Given, publisher: Publisher): Frozen {
  switch (signature.subtaskType) {
    case 'chain': {
      const { steps, result } = prepareSteps(signature, NO_ARGUMENTS, given, [], publisher);
      const kwargs = new Map(signature.kwargs).set('tasks', steps.map(signatureToMap));
      return { signature: { ...signature, kwargs }, result: result ?? resultTuple(publisher.mint()) };
    }
    case 'group': {
      const options = freezeGroupOptions(signature.options, given, publisher);
      const frozen = [...flatten(listOf(signature.kwargs.get('tasks')))].map(({ member }, index) =>
        freeze(
          member,
          { groupId: given.groupId, groupIndex: index, chord: given.chord, rootId: given.rootId },
          publisher,
        ),
      );
      const kwargs = new Map(signature.kwargs).set(
        'tasks',
        frozen.map((member) => signatureToMap(member.signature)),
      );
      return {
        signature: { ...signature, kwargs, options },
        result: groupTuple(
          options.get('task_id') as string,
          frozen.map((member) => member.result),
        ),
      };
    }
    case 'chord': {
      const body = freeze(readSignature(signature.kwargs.get('body')), given, publisher);
      const kwargs = new Map(signature.kwargs).set('body', signatureToMap(body.signature));
      return { signature: { ...signature, kwargs }, result: body.result };
    }
    default: {
      const options = freezeOptions(signature.options, given, publisher);
      return { signature: { ...signature, options }, result: resultTuple(options.get('task_id') as string) };
    }
  }
}

function freezeOptions(own: ExactMap, given: Given, publisher: Publisher): Map<string, unknown> {
  const options = new Map(own);
  if (textOf(options.get('task_id')) === undefined) options.set('task_id', given.id ?? publisher.mint());
  if (given.rootId !== undefined) options.set('root_id', given.rootId);
  if (!options.has('reply_to')) options.set('reply_to', publisher.replyTo ?? '');
  if (given.groupId !== undefined && textOf(options.get('group_id')) === undefined) {
    options.set('group_id', given.groupId);
  }
  if (given.chord !== undefined) options.set('chord', given.chord);
  if (given.groupIndex !== undefined) options.set('group_index', given.groupIndex);
  return options;
}

/** Source: group._freeze_group_tasks, nulls and order included. */
function freezeGroupOptions(own: ExactMap, given: Given, publisher: Publisher): Map<string, unknown> {
  const options = new Map(own);
  if (textOf(options.get('task_id')) === undefined) options.set('task_id', given.groupId ?? publisher.mint());
  if (given.groupId !== undefined) options.set('group_id', given.groupId);
  if (given.chord !== undefined) options.set('chord', given.chord);
  if (given.groupIndex !== undefined) options.set('group_index', given.groupIndex);
  if (!options.has('root_id')) options.set('root_id', given.rootId ?? null);
  if (!options.has('parent_id')) options.set('parent_id', null);
  return options;
}

/**
 * The steps of a chain, frozen, in their natural order: nested chains spliced in, a group that is followed by something made
 * the header of a chord. Only the last step belongs to what surrounds the chain. Source: _chain.prepare_steps.
 */
function prepareSteps(
  chain: Signature,
  partial: { readonly args: readonly unknown[]; readonly kwargs: ExactMap },
  given: Given,
  linkErrors: readonly unknown[],
  publisher: Publisher,
): { readonly steps: readonly Signature[]; readonly result: ResultTuple | undefined } {
  const flat = splice(chain);
  const first = flat[0];
  if (first === undefined) return { steps: [], result: undefined };
  // Arguments and immutability of the chain itself are not read back from its dictionary: _chain.from_dict.
  flat[0] = { ...first, ...merge(first, partial) };

  const steps: Signature[] = [];
  const results: ResultTuple[] = [];
  for (let at = flat.length - 1; at >= 0; at--) {
    let step = flat[at] as Signature;
    const next = steps[0];
    if (step.subtaskType === 'group' && next !== undefined) {
      step = chordOf(step, next, given.rootId);
      steps.shift();
      results.shift();
    }
    const isLast = at === flat.length - 1;
    const frozen = freeze(step, isLast ? given : { rootId: given.rootId }, publisher);
    step = frozen.signature;
    if (linkErrors.length > 0)
      step = withOption(step, 'link_error', unique(step.options.get('link_error'), linkErrors));
    steps.unshift(step);
    results.unshift(frozen.result);
  }
  let result: ResultTuple | undefined;
  for (const step of results) result = [[step[0][0], result ?? null], step[1]];
  return { steps, result };
}

function splice(chain: Signature): Signature[] {
  return listOf(chain.kwargs.get('tasks')).flatMap((value) => {
    const step = readSignature(value);
    if (step.subtaskType === 'chain') return splice(step);
    if (step.subtaskType !== 'group') return [step];
    const members = listOf(step.kwargs.get('tasks'));
    return members.length === 1 ? [readSignature(members[0])] : [step];
  });
}

function chordOf(header: Signature, body: Signature, rootId: string | undefined): Signature {
  const options = new Map<string, unknown>();
  if (rootId !== undefined) options.set('root_id', rootId);
  return composite(
    'chord',
    new Map<string, unknown>([
      ['kwargs', NOTHING],
      ['header', signatureToMap(header)],
      ['body', signatureToMap(body)],
    ]),
    options,
  );
}

function composite(type: string, kwargs: ExactMap, options: ExactMap): Signature {
  return { task: `celery.${type}`, args: [], kwargs, options, subtaskType: type, immutable: false };
}

/** Source: Signature._merge, which drops what is null in the call. */
function merge(
  signature: Signature,
  extra: Extra,
): { readonly args: readonly unknown[]; readonly kwargs: ExactMap; readonly options: Map<string, unknown> } {
  const options = mergeOptions(signature.options, present(extra.options));
  if (signature.immutable) return { args: signature.args, kwargs: signature.kwargs, options };
  return {
    args: extra.args === undefined || extra.args.length === 0 ? signature.args : [...extra.args, ...signature.args],
    kwargs:
      extra.kwargs === undefined || extra.kwargs.size === 0
        ? signature.kwargs
        : new Map([...signature.kwargs, ...extra.kwargs]),
    options,
  };
}

/** The call's options win, except over the group and the stamps, which others count on. Source: Signature._merge. */
function mergeOptions(own: ExactMap, over: Iterable<readonly [string, unknown]>): Map<string, unknown> {
  const options = new Map(own);
  const stamps = listOf(own.get('stamped_headers'));
  for (const [name, value] of over) {
    const fixed = name === 'group_id' || name === 'stamped_headers' || stamps.includes(name);
    if (!fixed || (own.get(name) ?? null) === null) options.set(name, value);
  }
  return options;
}

/**
 * The options of `apply_async` as fields of a message. Source: celery/app/base.py send_task, celery/app/amqp.py as_task_v2.
 */
function toCall(
  task: string,
  routedAs: string,
  args: readonly unknown[],
  kwargs: ExactMap,
  given: ExactMap,
  publisher: Publisher,
): TaskCall {
  const defaults = publisher.defaults?.(task);
  const options = defaults === undefined ? given : new Map([...defaults, ...given]);
  const countdown = numberOf(options.get('countdown'));
  const expiry = expiryOf(options.get('expires'), publisher.now);
  const stampedHeaders = options.get('stamped_headers');
  const serializer = textOf(options.get('serializer')) ?? publisher.serializer;
  const priority = numberOf(options.get('priority'));
  const mode = numberOf(options.get('delivery_mode'));
  const headers = mapOf(options.get('headers'));
  const argsrepr = textOf(options.get('argsrepr'));
  const kwargsrepr = textOf(options.get('kwargsrepr'));
  return {
    task,
    id: textOf(options.get('task_id')) ?? publisher.mint(),
    args,
    kwargs,
    callbacks: maybeList(options.get('link')),
    errbacks: maybeList(options.get('link_error')),
    chain: maybeList(options.get('chain')),
    chord: options.get('chord') ?? null,
    retries: numberOf(options.get('retries')) ?? 0,
    eta: countdown ? isoText(new Date(publisher.now.getTime() + countdown * 1000)) : isoOf(options.get('eta')),
    expires: expiry.iso,
    group: textOf(options.get('group_id')) ?? null,
    groupIndex: numberOf(options.get('group_index')) ?? null,
    rootId: textOf(options.get('root_id')) ?? publisher.rootId ?? null,
    parentId: textOf(options.get('parent_id')) ?? publisher.parentId ?? null,
    timeLimit: numberOf(options.get('time_limit')) ?? null,
    softTimeLimit: numberOf(options.get('soft_time_limit')) ?? null,
    shadow: textOf(options.get('shadow')) ?? null,
    ignoreResult: options.get('ignore_result') === true,
    replacedTaskNesting: numberOf(options.get('replaced_task_nesting')) ?? 0,
    ...(Array.isArray(stampedHeaders)
      ? {
          stampedHeaders: stampedHeaders as readonly string[],
          stamps: Object.fromEntries(stampedHeaders.map((name: string) => [name, options.get(name) ?? null])),
        }
      : {}),
    ...(argsrepr === undefined ? {} : { argsrepr }),
    ...(kwargsrepr === undefined ? {} : { kwargsrepr }),
    origin: textOf(options.get('origin')) ?? publisher.origin,
    ...(headers === undefined ? {} : { headers }),
    replyTo: textOf(options.get('reply_to')) ?? publisher.replyTo ?? '',
    ...(priority === undefined ? {} : { priority }),
    ...(mode === 1 || mode === 2 ? { deliveryMode: mode } : {}),
    ...(expiry.expiration === undefined ? {} : { expiration: expiry.expiration }),
    ...(serializer === undefined ? {} : { serializer }),
    compression: textOf(options.get('compression')) ?? publisher.compression ?? null,
    ...publisher.route(routedAs, options),
  };
}

/** Seconds from now or a point in time; what RabbitMQ gets is milliseconds, not below 0. */
function expiryOf(value: unknown, now: Date): { readonly iso: string | null; readonly expiration: string | undefined } {
  const seconds = numberOf(value);
  if (seconds !== undefined) {
    return { iso: isoText(new Date(now.getTime() + seconds * 1000)), expiration: millisText(seconds * 1000) };
  }
  const iso = isoOf(value);
  const at = iso === null ? Number.NaN : parseIso(iso);
  return { iso, expiration: Number.isNaN(at) ? undefined : millisText(at - now.getTime()) };
}

function millisText(millis: number): string {
  return String(Math.max(0, Math.trunc(millis)));
}

function isoOf(value: unknown): string | null {
  if (typeof value === 'string') return value === '' ? null : value;
  if (value instanceof DateTime) return value.iso;
  if (value instanceof Date) return isoText(value);
  // kombu's typed JSON, left as it was by an exact reader.
  const text = mapOf(value)?.get('__value__');
  return typeof text === 'string' ? text : null;
}

function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  return value instanceof Numeral || typeof value === 'bigint' ? Number(value) : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function maybeList(value: unknown): readonly unknown[] | null {
  return value === null || value === undefined ? null : listOf(value);
}

function listOf(value: unknown): readonly unknown[] {
  if (value === null || value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** Both lists in one. Source: Signature.extend_list_option. */
function union(own: unknown, more: readonly unknown[]): readonly unknown[] {
  return [...listOf(own), ...more];
}

/** Those that are not there yet are added. Source: Signature.link_error, append_to_list_option. */
function unique(own: unknown, more: readonly unknown[]): readonly unknown[] {
  const list = [...listOf(own)];
  const known = new Set(list.map((item) => encodeJson(item)));
  for (const item of more) if (!known.has(encodeJson(item))) list.push(item);
  return list;
}

function withOption(signature: Signature, name: string, value: readonly unknown[]): Signature {
  if (value.length === 0) return signature;
  return { ...signature, options: new Map(signature.options).set(name, value) };
}

/** Nulls in a call say nothing. */
function* present(options: ExactMap | undefined): Generator<readonly [string, unknown]> {
  for (const entry of options ?? NOTHING) if (entry[1] !== null && entry[1] !== undefined) yield entry;
}

function mapOf(value: unknown): ExactMap | undefined {
  if (value instanceof Map) return value as ExactMap;
  if (typeof value !== 'object' || value === null) return undefined;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null ? new Map(Object.entries(value)) : undefined;
}

const NOTHING: ExactMap = new Map();
const NO_ARGUMENTS: { readonly args: readonly unknown[]; readonly kwargs: ExactMap } = { args: [], kwargs: NOTHING };
const MAPS: ReadonlySet<string | null> = new Set(['xmap', 'xstarmap', 'chunks']);

function bad(message: string): WireError {
  return new WireError('celery', 'bad-signature', message);
}
