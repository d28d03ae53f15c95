import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Exchange } from '../../protocols/redis.ts';
import { silent } from '../../src/log.ts';
import { RedisLists, type RedisListsOptions } from '../../src/transports/redis-lists.ts';
import { redisTarget } from '../../src/transports/redis-url.ts';
import { RedisConnection } from '../../src/transports/redis.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let redis: RedisServer;
let open: { quiet?(): Promise<unknown>; close(): Promise<void> }[];

beforeEach(async () => {
  redis = await startRedis();
  open = [];
});
afterEach(async () => {
  for (const one of open.toReversed()) {
    await one.quiet?.();
    await one.close();
  }
  await redis[Symbol.asyncDispose]();
});

/** Moves up to `max` members of these lists to `claimed`, in one step. */
const CLAIM = `
local out = {}
for l = 1, #KEYS - 1 do
  while #out < tonumber(ARGV[1]) do
    local item = redis.call('RPOP', KEYS[l])
    if not item then break end
    redis.call('RPUSH', KEYS[#KEYS], item)
    out[#out + 1] = item
  end
end
if #out == 0 then for l = 1, #KEYS - 1 do redis.call('LLEN', KEYS[l]) end end
return out`;

function claim(lists: readonly string[], max: number): Exchange<readonly string[]> {
  return {
    commands: [['EVAL', CLAIM, lists.length + 1, ...lists, 'claimed', max]],
    atomic: false,
    read: ([reply]) => (reply as readonly Buffer[]).map(String),
  };
}

interface Scene {
  readonly lists: RedisLists<string>;
  readonly commands: RedisConnection;
  /** How often `take` was called. */
  readonly takes: () => number;
  readonly receive: (max?: number, signal?: AbortSignal) => Promise<readonly string[]>;
}

async function scene(names: readonly string[], options: Partial<RedisListsOptions<string>> = {}): Promise<Scene> {
  const target = redisTarget(redis.url);
  const commands = new RedisConnection(target);
  await commands.connect();
  const lists = new RedisLists<string>({
    commands,
    target,
    log: silent,
    takeAt: (list, send) => send(claim(options.takesFrom === 'one' ? [list] : names, 1)),
    takesFrom: 'all',
    ...options,
  });
  await lists.start(names);
  open.push(commands, lists);
  let takes = 0;
  const take = (max: number): Promise<readonly string[]> => {
    takes++;
    return commands.run(claim(names, max));
  };
  return {
    lists,
    commands,
    takes: () => takes,
    receive: (max = 10, signal = new AbortController().signal) => lists.receive(() => take(max), signal),
  };
}

/** Until this many connections wait at a list. */
function waiting(count: number): Promise<void> {
  return until(`${count} connections wait`, async () => {
    const clients = String(await redis.client().client('LIST'));
    return [...clients.matchAll(/ cmd=blmove /g)].length === count;
  });
}

/** Calls since the last `CONFIG RESETSTAT`, by command. */
async function calls(command: string): Promise<number> {
  const stats = await redis.client().info('commandstats');
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

describe('a push to a list', () => {
  test('that is waited at is claimed at the moment of the push, without another take', async () => {
    const { lists, receive, takes } = await scene(['a', 'b']);
    const received = receive();
    await waiting(2);
    const before = takes();
    await redis.client().lpush('b', 'one');
    expect(await received).toEqual(['one']);
    expect(takes()).toBe(before);
    expect(await redis.client().lrange('claimed', 0, -1)).toEqual(['one']);
    expect([...lists.waitedAt]).toEqual(['a', 'b']);
  });

  test('beyond the first four is reported by the server, and then taken', async () => {
    const { receive, takes } = await scene(['a', 'b', 'c', 'd', 'e']);
    const received = receive();
    await waiting(4);
    expect(takes()).toBe(1);
    await redis.client().lpush('e', 'one');
    expect(await received).toEqual(['one']);
    expect(takes()).toBe(2);
  });

  test('is received in the order of the list, each item once, however many there are', async () => {
    const { receive } = await scene(['a']);
    const first = receive();
    await waiting(1);
    const items = Array.from({ length: 50 }, (_, at) => String(at));
    await redis.client().lpush('a', ...items);
    const all = [...(await first)];
    while (all.length < 50) all.push(...(await receive()));
    expect(all).toEqual(items);
    expect(await redis.client().lrange('claimed', 0, -1)).toEqual(items);
  });

  test('is found by polls where the user may use neither CLIENT nor BLMOVE', async () => {
    await redis.client().acl('SETUSER', 'default', '-client', '-blmove');
    const { receive, lists } = await scene(['a']);
    const received = receive();
    await until('nothing waits at the list', () => lists.waitedAt.size === 0);
    await redis.client().lpush('a', 'one');
    expect(await received).toEqual(['one']);
  });
});

describe('while the lists are empty', () => {
  test('nothing is polled, and a receive that got nothing ends after a second', async () => {
    const { receive, takes } = await scene(['a']);
    await redis.client().config('RESETSTAT');
    expect(await receive()).toEqual([]);
    expect(await receive()).toEqual([]);
    expect(takes()).toBe(1);
    expect(await calls('blmove')).toBeLessThanOrEqual(4);
  });

  test('a take that is due for the caller is made all the same', async () => {
    let due = false;
    const { receive, takes } = await scene(['a'], { due: () => due });
    await receive();
    due = true;
    const before = takes();
    await receive();
    expect(takes()).toBeGreaterThan(before);
  });

  test('a list that is not open is not waited at, and its items stay', async () => {
    const { receive } = await scene(['a', 'paused'], { takesFrom: 'one', open: () => new Set(['a']) });
    const received = receive();
    await waiting(1);
    await redis.client().lpush('a', 'one');
    expect(await received).toEqual(['one']);
  });
});

describe('an item that arrives while nothing is asked for', () => {
  test('is kept for the next receive', async () => {
    const { receive, takes } = await scene(['a', 'b']);
    const received = receive();
    await waiting(2);
    await redis.client().lpush('a', 'one');
    expect(await received).toEqual(['one']);
    await redis.client().lpush('b', 'two');
    await until('it was claimed', async () => (await redis.client().llen('claimed')) === 2);
    const before = takes();
    expect(await receive()).toEqual(['two']);
    expect(takes()).toBe(before);
  });

  test('is given back where the caller says so', async () => {
    const back: string[] = [];
    const { receive } = await scene(['a', 'b'], {
      unasked: (items) => {
        back.push(...items);
        return Promise.resolve();
      },
    });
    const received = receive();
    await waiting(2);
    await redis.client().lpush('a', 'one');
    expect(await received).toEqual(['one']);
    await redis.client().lpush('b', 'two');
    await until('it was given back', () => back.length === 1);
    expect(back).toEqual(['two']);
  });

  test('is what `quiet` resolves to, when no connection waits any more', async () => {
    const { receive, lists } = await scene(['a', 'b']);
    const received = receive();
    await waiting(2);
    await redis.client().lpush('a', 'one');
    await received;
    await redis.client().lpush('b', 'two');
    await until('it was claimed', async () => (await redis.client().llen('claimed')) === 2);
    expect(await lists.quiet()).toEqual(['two']);
    await waiting(0);
  });
});

test('a list that is added is waited at, and one that is removed no more', async () => {
  const names = ['a'];
  const { receive, lists } = await scene(names);
  const received = receive();
  await waiting(1);
  names.push('b');
  await lists.add('b');
  await waiting(2);
  await redis.client().lpush('b', 'one');
  expect(await received).toEqual(['one']);
  const stop = new AbortController();
  const again = receive(10, stop.signal);
  await waiting(2);
  names.pop();
  await lists.remove('b');
  await waiting(1);
  stop.abort();
  expect(await again).toEqual([]);
});

test('a wait whose connection was lost is made again, and what it claimed is for the caller to recover', async () => {
  let lost = 0;
  let due = false;
  const { receive } = await scene(['a'], {
    due: () => due,
    takeAt: async (_, send) => {
      try {
        return await send(claim(['a'], 1));
      } catch (error) {
        lost++;
        due = true;
        throw error;
      }
    },
  });
  const received = receive();
  await waiting(1);
  await redis.client().call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await until('the wait failed', () => lost === 1);
  due = false;
  await redis.client().lpush('a', 'one');
  let items = await received.catch(() => []);
  await until('it was received', async () => {
    if (items.length === 0) items = await receive().catch(() => []);
    return items.length > 0;
  });
  expect(items).toEqual(['one']);
  const again = receive();
  await waiting(1);
  await again;
});
