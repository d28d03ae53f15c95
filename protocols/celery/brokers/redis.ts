import { Buffer } from 'node:buffer';
import { callScript, type Command, type Exchange, type Script } from '../../redis.ts';
import { type Keyspace, listsOf, parkedKeys, quarantineKey } from './keys.ts';

/** kombu on Redis: names, and the round trips of a consumer as data. Source: kombu/transport/redis.py (5.6). */
export * from './keys.ts';
export * from './redis-exchanges.ts';
export { topicMatches, topicPattern } from './topic.ts';

/** `LPUSH` of many envelopes, one command a list. */
export function publish(
  items: readonly { readonly key: string; readonly envelope: string | Uint8Array }[],
): Exchange<void> {
  const lists = new Map<string, (string | Uint8Array)[]>();
  for (const { key, envelope } of items) {
    const list = lists.get(key);
    if (list === undefined) lists.set(key, [envelope]);
    else list.push(envelope);
  }
  const commands: Command[] = [];
  for (const [key, envelopes] of lists) {
    for (let at = 0; at < envelopes.length; at += CHUNK)
      commands.push(['LPUSH', key, ...envelopes.slice(at, at + CHUNK)]);
  }
  return { commands, atomic: commands.length > 1, read: () => undefined };
}

/** How many arguments one command may get: Lua's unpack and JavaScript's spread both have a limit. */
const CHUNK = 1000;

/**
 * Claim up to N messages in one step: popped from their lists and written to `unacked` and `unacked_index` by the same
 * script, so that nothing can vanish in between (kombu pops first and writes after). The claim is a new name of ours, not the
 * message's `delivery_tag`: copies of one message to several queues, and a message claimed twice, never share an entry.
 * The envelope is spliced in as it is; Lua's cjson would change it.
 *
 * What cannot be spliced (not an object's text) or is larger than allowed goes to quarantine here and now.
 * When nothing was there, the lists are read once, so that a client that tracks keys is told of the next push.
 *
 * KEYS unacked, unacked_index, then lists. ARGV max, claim prefix, unix time, byte limit of one message, byte limit of a
 * batch, then per list: `, "<exchange>", "<queue>"]`, quarantine key, queue as JSON, 1 to be told of a push.
 * Returns flat: for every list with messages: list number, count, messages …; then 0, and what was set aside:
 * list number, code, size, first bytes …
 */
export const CLAIM: Script = {
  name: 'claim',
  keys: 'variable',
  lua: `
local left, prefix, now, biggest, budget = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local out, aside, hash, index, n, wrong_type = {}, {}, {}, {}, 0, nil
-- A script that fails undoes nothing: keys of another kind are to be met before a message is taken. Writes that change nothing; a look
-- would have us told of every change.
redis.call('HDEL', KEYS[1], prefix .. '0')
redis.call('ZREM', KEYS[2], prefix .. '0')
for l = 3, #KEYS do
  if left <= 0 or budget <= 0 then break end
  local found = redis.pcall('RPOP', KEYS[l], left)
  if found and found.err then
    wrong_type = found
  elseif found then
    local tail, at, count = ARGV[(l - 3) * 4 + 6], #out + 2, 0
    out[#out + 1] = l - 2
    out[at] = 0
    for i = 1, #found do
      local m = found[i]
      local size = #m
      if size > biggest or string.byte(m, 1) ~= 123 or string.byte(m, size) ~= 125 then
        local code = size > biggest and 'too-large' or 'undecodable'
        local store = ARGV[(l - 3) * 4 + 7]
        local kept = redis.pcall('LPUSH', store, m)
        if type(kept) == 'table' then
          wrong_type = kept
          for j = #found, i, -1 do redis.call('RPUSH', KEYS[l], found[j]) end
          break
        end
        redis.pcall('LPUSH', store .. ':why', '{"code": "' .. code .. '", "queue": ' .. ARGV[(l - 3) * 4 + 8] .. ', "bytes": ' .. size .. ', "at": ' .. now .. '}')
        aside[#aside + 1] = l - 2
        aside[#aside + 1] = code
        aside[#aside + 1] = size
        aside[#aside + 1] = string.sub(m, 1, 200)
      elseif budget <= 0 then
        for j = #found, i, -1 do redis.call('RPUSH', KEYS[l], found[j]) end
        break
      else
        n = n + 1
        local tag = prefix .. n
        hash[#hash + 1] = tag
        hash[#hash + 1] = '[' .. m .. tail
        index[#index + 1] = now
        index[#index + 1] = tag
        count = count + 1
        out[at + count] = m
        budget = budget - size
        left = left - 1
      end
    end
    out[at] = count
  end
end
if n > 0 then
  redis.call('HSET', KEYS[1], unpack(hash))
  redis.call('ZADD', KEYS[2], unpack(index))
elseif #aside == 0 then
  if wrong_type then return wrong_type end
  for l = 3, #KEYS do if ARGV[(l - 3) * 4 + 9] == '1' then redis.call('LLEN', KEYS[l]) end end
end
out[#out + 1] = 0
for i = 1, #aside do out[#out + 1] = aside[i] end
return out`,
};

export interface ClaimLimits {
  /** A larger message goes to quarantine. */
  readonly messageBytes: number;
  /** No more is claimed at once than this, or one message. */
  readonly batchBytes: number;
}

export interface ClaimedMessage {
  readonly queue: string;
  readonly tag: string;
  readonly bytes: Buffer;
}

export interface QuarantinedMessage {
  readonly queue: string;
  readonly code: string;
  readonly size: number;
  /** The first 200 bytes. */
  readonly start: Buffer;
}

/** At most 1 000 a claim (Lua's unpack). `at` is unix seconds. */
export function claim(
  keys: Keyspace,
  queues: readonly string[],
  claims: {
    readonly max: number;
    readonly prefix: string;
    readonly at: number;
    readonly limits: ClaimLimits;
    /** Lists at which somebody waits anyhow: their pushes need not be told of. */
    readonly waitedAt?: ReadonlySet<string>;
  },
): Exchange<{ readonly claimed: readonly ClaimedMessage[]; readonly aside: readonly QuarantinedMessage[] }> {
  const lists = listsOf(keys, queues);
  const command = callScript(
    CLAIM,
    [keys.unacked, keys.unackedIndex, ...lists.map(({ key }) => key)],
    [
      Math.min(claims.max, CHUNK),
      claims.prefix,
      claims.at,
      claims.limits.messageBytes,
      claims.limits.batchBytes,
      ...lists.flatMap(({ key, queue }) => [
        `, "", ${asciiJson(queue)}]`,
        quarantineKey(keys, queue),
        asciiJson(queue),
        claims.waitedAt?.has(key) === true ? '0' : '1',
      ]),
    ],
  );
  return {
    commands: [command],
    atomic: false,
    read: ([reply]) => {
      const flat = reply as readonly unknown[];
      const claimed: ClaimedMessage[] = [];
      const aside: QuarantinedMessage[] = [];
      let at = 0;
      for (let tag = 1; flat[at] !== 0;) {
        const queue = lists[(flat[at++] as number) - 1]?.queue ?? '';
        for (let count = flat[at++] as number; count > 0; count--) {
          claimed.push({ queue, tag: claims.prefix + tag++, bytes: flat[at++] as Buffer });
        }
      }
      for (at++; at < flat.length; at += 4) {
        const queue = lists[(flat[at] as number) - 1]?.queue ?? '';
        aside.push({ queue, code: String(flat[at + 1]), size: flat[at + 2] as number, start: flat[at + 3] as Buffer });
      }
      return { claimed, aside };
    },
  };
}

/** Forget claims whose messages are done: one variadic command a key for a whole turn. */
export function ack(keys: Keyspace, tags: readonly string[]): Exchange<void> {
  const commands: Command[] = [];
  for (let at = 0; at < tags.length; at += CHUNK) {
    const some = tags.slice(at, at + CHUNK);
    commands.push(['ZREM', keys.unackedIndex, ...some], ['HDEL', keys.unacked, ...some]);
  }
  return { commands, atomic: false, read: () => undefined };
}

/**
 * Move a claimed message on: to the right end of a list (it runs next), the left end (it waits its turn), or a quarantine list
 * with its reason. Does nothing when the claim is gone: then somebody restored the message, and it is not ours to move.
 *
 * KEYS unacked, unacked_index, target list. ARGV claim, RPUSH or LPUSH, message, reason or ''.
 */
export const MOVE: Script = {
  name: 'move',
  keys: 3,
  lua: `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
-- A script that fails undoes nothing: the claim goes last.
redis.call(ARGV[2], KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[4] ~= '' then redis.pcall('LPUSH', KEYS[3] .. ':why', ARGV[4]) end
return 1`,
};

export function move(
  keys: Keyspace,
  tag: string,
  target: {
    readonly list: string;
    readonly end: 'left' | 'right';
    readonly message: string | Uint8Array;
    readonly why?: string;
  },
): Exchange<boolean> {
  return {
    commands: [
      callScript(
        MOVE,
        [keys.unacked, keys.unackedIndex, target.list],
        [tag, target.end === 'right' ? 'RPUSH' : 'LPUSH', target.message, target.why ?? ''],
      ),
    ],
    atomic: false,
    read: ([moved]) => moved === 1,
  };
}

/**
 * Say that these claims are held, so that nobody's visibility timeout restores a message whose task still runs (or waits).
 * KEYS unacked, unacked_index. ARGV unix time, claims. Returns the claims that are gone.
 */
export const REFRESH: Script = {
  name: 'refresh',
  keys: 2,
  lua: `
local gone = {}
for i = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then redis.call('ZADD', KEYS[2], ARGV[1], ARGV[i])
  else gone[#gone + 1] = ARGV[i] end
end
return gone`,
};

export function refresh(keys: Keyspace, tags: readonly string[], at: number): Exchange<readonly string[]> {
  const commands: Command[] = [];
  for (let from = 0; from < tags.length; from += CHUNK) {
    commands.push(callScript(REFRESH, [keys.unacked, keys.unackedIndex], [at, ...tags.slice(from, from + CHUNK)]));
  }
  return {
    commands,
    atomic: false,
    read: (replies) => replies.flatMap((gone) => (gone as readonly Buffer[]).map(String)),
  };
}

/** Claims older than `before` (unix seconds), oldest first, with what they hold. */
export function abandoned(keys: Keyspace, before: number, limit: number): Exchange<readonly string[]> {
  return {
    commands: [['ZRANGEBYSCORE', keys.unackedIndex, '-inf', before, 'LIMIT', 0, limit]],
    atomic: false,
    read: ([tags]) => (tags as readonly Buffer[]).map(String),
  };
}

export function held(keys: Keyspace, tags: readonly string[]): Exchange<readonly (Buffer | undefined)[]> {
  if (tags.length === 0) return { commands: [], atomic: false, read: () => [] };
  return {
    commands: [['HMGET', keys.unacked, ...tags]],
    atomic: false,
    read: ([values]) => (values as readonly (Buffer | null)[]).map((value) => value ?? undefined),
  };
}

/**
 * Cuts an entry of `unacked`, `[<envelope>, "<exchange>", "<routing key>"]`, without touching the envelope: its last two members are
 * plain texts. Takes and gives latin1 text, so that no byte changes. Undefined for anything else.
 */
export function cutUnacked(
  value: string,
): { readonly envelope: string; readonly exchange: string; readonly routingKey: string } | undefined {
  const match = /,\s*("(?:[^"\\]|\\.)*")\s*,\s*("(?:[^"\\]|\\.)*")\s*\]\s*$/.exec(value.slice(-2_000));
  if (match === null || !value.startsWith('[')) return undefined;
  const end = value.length - match[0].length;
  try {
    const [exchange, routingKey] = [match[1], match[2]].map(
      (text) => JSON.parse(Buffer.from(text as string, 'latin1').toString()) as string,
    ) as [string, string];
    return { envelope: value.slice(1, end), exchange, routingKey };
  } catch {
    return undefined;
  }
}

/** An index entry without a message: what is left when a process died between two of kombu's writes. */
export function dropIndex(keys: Keyspace, tags: readonly string[]): Exchange<void> {
  return {
    commands: tags.length === 0 ? [] : [['ZREM', keys.unackedIndex, ...tags]],
    atomic: false,
    read: () => undefined,
  };
}

/**
 * Restore one abandoned message to the lists it belongs to, only if the claim still holds what we read and is still old:
 * its owner may have refreshed it in between.
 * KEYS unacked, unacked_index, lists … ARGV claim, what it held, unix time it must be older than, message.
 */
export const RESTORE: Script = {
  name: 'restore',
  keys: 'variable',
  lua: `
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[3]) then return 0 end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
-- A script that fails undoes nothing: the claim goes last, and no list gets the message before all have been seen to be lists.
for i = 3, #KEYS do redis.call('LLEN', KEYS[i]) end
for i = 3, #KEYS do redis.call('RPUSH', KEYS[i], ARGV[4]) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1`,
};

export function restore(
  keys: Keyspace,
  tag: string,
  was: Uint8Array,
  before: number,
  lists: readonly string[],
  message: string | Uint8Array,
): Exchange<boolean> {
  return {
    commands: [callScript(RESTORE, [keys.unacked, keys.unackedIndex, ...lists], [tag, was, before, message])],
    atomic: false,
    read: ([done]) => done === 1,
  };
}

/** The lock kombu's workers hold while they restore: one of us at a time, for at most 300 s. */
export function lockRestore(keys: Keyspace, token: string, expireSeconds = 300): Exchange<boolean> {
  return {
    commands: [['SET', keys.unackedMutex, token, 'NX', 'PX', expireSeconds * 1000]],
    atomic: false,
    read: ([reply]) => reply !== null,
  };
}

export const UNLOCK: Script = {
  name: 'unlock',
  keys: 1,
  lua: `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end`,
};

export function unlockRestore(keys: Keyspace, token: string): Exchange<void> {
  return { commands: [callScript(UNLOCK, [keys.unackedMutex], [token])], atomic: false, read: () => undefined };
}

/**
 * Park a claimed message until its ETA, out of everybody's memory. The hash keeps `<list> NUL <envelope>`.
 * KEYS unacked, unacked_index, parked, parked:messages. ARGV claim, unix time of the ETA, value.
 */
export const PARK: Script = {
  name: 'park',
  keys: 4,
  lua: `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
-- A script that fails undoes nothing: the claim goes last.
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1`,
};

export function park(keys: Keyspace, tag: string, list: string, message: Uint8Array, at: number): Exchange<boolean> {
  const { index, messages } = parkedKeys(keys);
  const value = Buffer.concat([Buffer.from(`${list}\0`), message]);
  return {
    commands: [callScript(PARK, [keys.unacked, keys.unackedIndex, index, messages], [tag, at, value])],
    atomic: false,
    read: ([done]) => done === 1,
  };
}

/** Put parked messages that are due back at the head of their lists. ARGV unix time, limit. Returns how many. */
export const UNPARK: Script = {
  name: 'unpark',
  keys: 2,
  lua: `
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for i = 1, #due do
  local value = redis.call('HGET', KEYS[2], due[i])
  if value then
    local cut = string.find(value, '\\0', 1, true)
    -- What cannot be put back stays, and does not keep the others.
    local back = redis.pcall('RPUSH', string.sub(value, 1, cut - 1), string.sub(value, cut + 1))
    if type(back) == 'number' then redis.call('HDEL', KEYS[2], due[i]) end
    value = type(back) ~= 'number'
  end
  if not value then redis.call('ZREM', KEYS[1], due[i]) end
end
return #due`,
};

export function unpark(keys: Keyspace, at: number, limit: number): Exchange<number> {
  const { index, messages } = parkedKeys(keys);
  return {
    commands: [callScript(UNPARK, [index, messages], [at, limit])],
    atomic: false,
    read: ([count]) => count as number,
  };
}

/**
 * A message for a queue whose owner may be gone already: its list expires, or it would stay for ever (celery#6089).
 * `PEXPIRE` after `LPUSH`, as a queue with `x-expires` has it.
 */
export function pushExpiring(list: string, envelope: string | Uint8Array, expireMs: number): Exchange<void> {
  return {
    commands: [
      ['LPUSH', list, envelope],
      ['PEXPIRE', list, expireMs],
    ],
    atomic: true,
    read: () => undefined,
  };
}

/** Ours: revoked ids in a sorted set, scored by the unix time until which they count. */
export function rememberRevoked(key: string, ids: readonly string[], until: number, now: number): Exchange<void> {
  const commands: Command[] = [['ZREMRANGEBYSCORE', key, '-inf', now]];
  for (let at = 0; at < ids.length; at += CHUNK)
    commands.push(['ZADD', key, ...ids.slice(at, at + CHUNK).flatMap((id) => [until, id])]);
  commands.push(['EXPIREAT', key, Math.ceil(until)]);
  return { commands, atomic: false, read: () => undefined };
}

/** The ids that still count, those that count longest last; at most `limit`. */
export function rememberedRevoked(
  key: string,
  now: number,
  limit: number,
): Exchange<readonly (readonly [id: string, until: number])[]> {
  return {
    commands: [['ZREVRANGEBYSCORE', key, '+inf', now, 'WITHSCORES', 'LIMIT', 0, limit]],
    atomic: false,
    read: ([reply]) => {
      const flat = (reply as readonly unknown[]).flat().map(String);
      const found: [string, number][] = [];
      for (let at = 0; at < flat.length; at += 2) found.push([flat[at] as string, Number(flat[at + 1])]);
      return found.reverse();
    },
  };
}

/**
 * Store results and tell who waits, unless a SUCCESS is stored already (Python reads first and writes after, which races), or the
 * end of a retry that ran before its RETRY came to be written.
 * In JSON and msgpack the status is the first member in every version, in YAML a line of its own; cjson only reads JSON that
 * looks otherwise, and never writes.
 * KEYS result keys. ARGV seconds to keep (0: for ever), then the metas.
 */
export const STORE: Script = {
  name: 'store',
  keys: 'variable',
  lua: `
local function is(meta, state)
  if string.find(meta, '^{"status": ?"') then return string.find(meta, '^{"status": ?"' .. state .. '"') ~= nil end
  if string.byte(meta, 1) ~= 123 then
    local at = string.find(meta, '\\166status' .. string.char(160 + #state) .. state, 1, true)
    return (at ~= nil and at <= 4) or string.find('\\n' .. meta .. '\\n', '\\nstatus: ' .. state .. '\\n', 1, true) ~= nil
  end
  local ok, read = pcall(cjson.decode, meta)
  return ok and type(read) == 'table' and read['status'] == state
end
for i = 1, #KEYS do
  local was = redis.call('GET', KEYS[i])
  local now = ARGV[i + 1]
  if not (was and (is(was, 'SUCCESS') or (is(now, 'RETRY') and (is(was, 'FAILURE') or is(was, 'REVOKED'))))) then
    if ARGV[1] == '0' then redis.call('SET', KEYS[i], now) else redis.call('SETEX', KEYS[i], ARGV[1], now) end
    redis.call('PUBLISH', KEYS[i], now)
  end
end`,
};

export function storeResults(
  results: readonly { readonly key: string; readonly meta: string | Uint8Array }[],
  expireSeconds: number,
): Exchange<void> {
  const commands: Command[] = [];
  for (let at = 0; at < results.length; at += CHUNK) {
    const some = results.slice(at, at + CHUNK);
    commands.push(
      callScript(
        STORE,
        some.map(({ key }) => key),
        [expireSeconds, ...some.map(({ meta }) => meta)],
      ),
    );
  }
  return { commands, atomic: false, read: () => undefined };
}

/** JSON of a short text in ASCII, for splicing into envelopes. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
