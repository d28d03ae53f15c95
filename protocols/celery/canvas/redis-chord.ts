import type { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../../redis.ts';
import { groupResultKey } from '../brokers/keys.ts';

/** The counter of a chord in Redis; what its keys hold stands in chord.ts. Source: celery/backends/redis.py (5.6). */
export interface ChordKeys {
  readonly group: string;
  readonly members: string;
  readonly added: string;
  readonly size: string;
}

export function chordKeys(prefix: string, groupId: string): ChordKeys {
  const group = groupResultKey(prefix, groupId);
  return { group, members: `${group}.j`, added: `${group}.t`, size: `${group}.s` };
}

/** How many members there are to be. Told like a result, though nobody listens. Source: set_chord_size. */
export function chordSize(keys: ChordKeys, size: number, expireSeconds: number): Exchange<void> {
  const set: Command = expireSeconds > 0 ? ['SETEX', keys.size, expireSeconds, size] : ['SET', keys.size, size];
  return { commands: [set, ['PUBLISH', keys.size, size]], atomic: true, read: () => undefined };
}

/** What the counter says. Texts are as stored; undefined where there is none. */
export interface ChordCount {
  readonly ended: number;
  readonly added: string | undefined;
  readonly size: string | undefined;
}

/**
 * What an earlier run of the same task left in the counter is taken out: with another result it would be counted twice, and the
 * chord never be complete. KEYS members. ARGV 1 for a sorted set, what its members begin with, the member that may stay.
 */
export const FORGET: Script = {
  name: 'forget-member',
  keys: 1,
  lua: `
local sorted = ARGV[1] == '1'
local members = sorted and redis.call('ZRANGE', KEYS[1], 0, -1) or redis.call('LRANGE', KEYS[1], 0, -1)
for _, member in ipairs(members) do
  if string.sub(member, 1, #ARGV[2]) == ARGV[2] then
    if not sorted then redis.call('LREM', KEYS[1], 0, member)
    elseif member ~= ARGV[3] then redis.call('ZREM', KEYS[1], member) end
  end
end`,
};

export interface CountedMember {
  readonly member: string | Uint8Array;
  /** Its place in the header; unknown is the end. */
  readonly index: number | undefined;
  /** Set when the task may have been counted before: what its members begin with. */
  readonly again: string | undefined;
}

/** Count a member. Ordered: a sorted set by the place in the header, else a list. Source: on_chord_part_return. */
export function countMember(
  keys: ChordKeys,
  { member, index, again }: CountedMember,
  ordered: boolean,
  expireSeconds: number,
): Exchange<ChordCount> {
  const commands: Command[] = [];
  if (again !== undefined) commands.push(callScript(FORGET, [keys.members], [ordered ? 1 : 0, again, member]));
  if (ordered) commands.push(['ZADD', keys.members, index ?? '+inf', member], ['ZCOUNT', keys.members, '-inf', '+inf']);
  else commands.push(['RPUSH', keys.members, member], ['LLEN', keys.members]);
  const at = commands.length - 1;
  commands.push(['GET', keys.added], ['GET', keys.size]);
  if (expireSeconds > 0) {
    for (const key of [keys.members, keys.added, keys.size]) commands.push(['EXPIRE', key, expireSeconds]);
  }
  const text = (reply: unknown): string | undefined => (reply === null ? undefined : String(reply as Buffer));
  return {
    commands,
    atomic: true,
    read: (replies) => ({ ended: Number(replies[at]), added: text(replies[at + 1]), size: text(replies[at + 2]) }),
  };
}

export function chordMembers(keys: ChordKeys, ordered: boolean): Exchange<readonly Buffer[]> {
  const all: Command = ordered ? ['ZRANGE', keys.members, 0, -1] : ['LRANGE', keys.members, 0, -1];
  return { commands: [all], atomic: false, read: ([members]) => members as readonly Buffer[] };
}

/** One member more. Source: add_to_chord. */
export function growChord(keys: ChordKeys, expireSeconds: number): Exchange<void> {
  const commands: Command[] = [['INCRBY', keys.added, 1]];
  if (expireSeconds > 0) commands.push(['EXPIRE', keys.added, expireSeconds]);
  return { commands, atomic: commands.length > 1, read: () => undefined };
}

export function endChord(keys: ChordKeys): Exchange<void> {
  return { commands: [['DEL', keys.members, keys.added, keys.size]], atomic: false, read: () => undefined };
}
