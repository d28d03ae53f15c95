import { WireError } from '../../errors.ts';
import { Numeral } from '../../formats/values.ts';
import type { ExactMap } from '../message/message.ts';
import { encodeJson } from '../message/serializers.ts';

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

/** What a call adds to a signature: arguments in front, keyword arguments and options over. */
export interface Extra {
  readonly args?: readonly unknown[];
  readonly kwargs?: ExactMap;
  readonly options?: ExactMap;
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

/** The steps of a chain, or the members of a group. */
export function tasksOf(signature: Signature): readonly unknown[] {
  return listOf(signature.kwargs.get('tasks'));
}

export function composite(type: string, kwargs: ExactMap, options: ExactMap): Signature {
  return { task: `celery.${type}`, args: [], kwargs, options, subtaskType: type, immutable: false };
}

/** Source: Signature._merge, which drops what is null in the call. */
export function merge(
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
export function mergeOptions(own: ExactMap, over: Iterable<readonly [string, unknown]>): Map<string, unknown> {
  const options = new Map(own);
  const stamps = listOf(own.get('stamped_headers'));
  for (const [name, value] of over) {
    const fixed = name === 'group_id' || name === 'stamped_headers' || stamps.includes(name);
    if (!fixed || (own.get(name) ?? null) === null) options.set(name, value);
  }
  return options;
}

export function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  return value instanceof Numeral || typeof value === 'bigint' ? Number(value) : undefined;
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function maybeList(value: unknown): readonly unknown[] | null {
  return value === null || value === undefined ? null : listOf(value);
}

export function listOf(value: unknown): readonly unknown[] {
  if (value === null || value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** Both lists in one. Source: Signature.extend_list_option. */
export function union(own: unknown, more: readonly unknown[]): readonly unknown[] {
  return [...listOf(own), ...more];
}

/** Those that are not there yet are added. Source: Signature.link_error, append_to_list_option. */
export function unique(own: unknown, more: readonly unknown[]): readonly unknown[] {
  const list = [...listOf(own)];
  const known = new Set(list.map((item) => encodeJson(item)));
  for (const item of more) if (!known.has(encodeJson(item))) list.push(item);
  return list;
}

export function withOption(signature: Signature, name: string, value: readonly unknown[]): Signature {
  if (value.length === 0) return signature;
  return { ...signature, options: new Map(signature.options).set(name, value) };
}

/** Nulls in a call say nothing. */
export function* present(options: ExactMap | undefined): Generator<readonly [string, unknown]> {
  for (const entry of options ?? NOTHING) if (entry[1] !== null && entry[1] !== undefined) yield entry;
}

export function mapOf(value: unknown): ExactMap | undefined {
  if (value instanceof Map) return value as ExactMap;
  if (typeof value !== 'object' || value === null) return undefined;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null ? new Map(Object.entries(value)) : undefined;
}

export const NOTHING: ExactMap = new Map();
export const NO_ARGUMENTS: { readonly args: readonly unknown[]; readonly kwargs: ExactMap } = {
  args: [],
  kwargs: NOTHING,
};

export function bad(message: string): WireError {
  return new WireError('celery', 'bad-signature', message);
}
