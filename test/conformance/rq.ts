import { randomUUID } from 'node:crypto';
import { deflateSync, inflateSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import * as json from '../../protocols/formats/json.ts';
import * as pickle from '../../protocols/formats/pickle/index.ts';
import type { SerializerName } from '../../protocols/rq/serializers.ts';
import { rq, RqClient } from '../../src/drivers/rq/index.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { SCRIPT } from './script.ts';
import { conformance, type Foreign, type Raw, type Sender, type StoredResult } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly server: RedisServer;
}

export function rqConformance(serializer: SerializerName, without: Readonly<Record<string, string>>): void {
  conformance<Store>({
    name: `rq-${serializer}`,
    async store({ durable }) {
      const server = await startRedis({ persistence: durable });
      return { server, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
    },
    async restart({ server }, between) {
      await server.kill();
      await between();
      await server.restart();
    },
    source: ({ server }, { queues, concurrency, unknownTask }) =>
      rq({
        url: server.url,
        queues,
        concurrency,
        unknownTaskDelayMs: 200,
        ...(unknownTask === undefined ? {} : { unknownTask }),
      }),
    client: ({ server }) => sender(server.url, serializer),
    raw: ({ server }) => raw(server),
    without: {
      ...without,
    },
  });
}

function sender(url: string, serializer: SerializerName): Sender {
  const client = new RqClient({ url, serializer });
  return {
    async send({ task = SCRIPT, queue, script, kwargs = {}, id = randomUUID(), delayMs, at, timeoutMs }) {
      const due = at ?? (delayMs === undefined ? undefined : new Date(Date.now() + delayMs));
      // RQ counts whole seconds.
      const jobTimeout = timeoutMs === undefined ? undefined : Math.ceil(timeoutMs / 1000);
      const when = { ...(due === undefined ? {} : { at: due }), ...(jobTimeout === undefined ? {} : { jobTimeout }) };
      await client.enqueue(task, { args: script, kwargs, queue, jobId: id, ...when });
      return id;
    },
    close: () => client.close(),
  };
}

/** A job as somebody else writes it: an id and the fields of its hash, in JSON; its call is JSON as well. */
function raw(server: RedisServer): Raw {
  // A connection each: the server may have been another in between.
  const ask = async <T>(question: (redis: Redis) => Promise<T>): Promise<T> => {
    const redis = server.client();
    try {
      return await question(redis);
    } finally {
      redis.disconnect();
    }
  };
  const shown = async (redis: Redis, id: string): Promise<Buffer> => {
    const hash = await redis.hgetallBuffer(`rq:job:${id}`);
    const fields = Object.entries(hash).map(([name, value]) => {
      const text = name === 'data' ? JSON.stringify(dataText(value)) : String(value);
      return `"${name}": ${name.startsWith('x-') || name === 'data' ? text : JSON.stringify(text)}`;
    });
    return Buffer.from(`{"id": "${id}", ${fields.join(', ')}}`);
  };
  return {
    message(queue: string, { task, id, args, extra = {} }: Foreign): Uint8Array {
      const date = new Date().toISOString();
      const fields = {
        created_at: date,
        data: deflateSync(Buffer.from(`["${task}", null, ${args}, {}]`)).toString('base64'),
        success_callback_name: '',
        failure_callback_name: '',
        origin: queue,
        enqueued_at: date,
        timeout: '180',
        status: 'queued',
        ...Object.fromEntries(
          Object.entries(extra).map(([name, value]) => [name, JSON.stringify(value).replaceAll('":', '": ')]),
        ),
      };
      return Buffer.from(JSON.stringify({ id, fields }));
    },
    async put(queue, bytes) {
      const { id, fields } = JSON.parse(Buffer.from(bytes).toString()) as {
        id: string;
        fields: Record<string, string>;
      };
      const flat = Object.entries(fields).flatMap(([name, value]) => [
        name,
        Buffer.from(value, name === 'data' ? 'base64' : 'utf8'),
      ]);
      await ask(async (redis) => {
        await redis.hset(`rq:job:${id}`, ...flat);
        await redis.rpush(`rq:queue:${queue}`, id);
      });
    },
    // What is scheduled waits too.
    waiting: (queue) =>
      ask(async (redis) => {
        const ids = await redis.lrange(`rq:queue:${queue}`, 0, -1);
        const due = await redis.zrange(`rq:scheduled:${queue}`, 0, '-1');
        return Promise.all([...ids, ...due].map((id) => shown(redis, String(id))));
      }),
    postponed: (queue) =>
      ask(async (redis) => {
        const due = await redis.zrange(`rq:scheduled:${queue}`, 0, '-1');
        return Promise.all(due.map((id) => shown(redis, String(id))));
      }),
    // A run leaves these three empty, as RQ writes a job that never ran.
    lasting(bytes) {
      const fields = JSON.parse(String(bytes)) as Record<string, unknown>;
      for (const name of ['started_at', 'last_heartbeat', 'worker_name']) if (fields[name] === '') delete fields[name];
      return fields;
    },
    claimed: () =>
      ask(async (redis) => {
        const runs = await Promise.all((await redis.keys('rq:wip:*')).map((key) => redis.zcard(String(key))));
        return runs.reduce((sum, count) => sum + count, 0);
      }),
    aside: (queue) =>
      ask(async (redis) => {
        const ids = await redis.zrange(`rq:failed:${queue}`, 0, '-1');
        return Promise.all(
          ids.map(async (id) => ({
            bytes: await shown(redis, String(id)),
            reason: (await latest(redis, String(id)))?.exc ?? '',
          })),
        );
      }),
    idOf: (bytes) => (JSON.parse(String(bytes)) as { id: string }).id,
    argsOf: (bytes) => (JSON.parse(String(bytes)) as { data: string }).data,
    result: (id) => ask((redis) => stored(redis, id)),
  };
}

function dataText(data: Buffer): string {
  const bytes = inflateSync(data);
  return bytes[0] === 0x80 ? json.stringify(pickle.decode(bytes)) : bytes.toString();
}

const STATES: Readonly<Record<string, StoredResult['state']>> = {
  finished: 'succeeded',
  failed: 'failed',
  stopped: 'cancelled',
  queued: 'retrying',
  scheduled: 'retrying',
};

async function stored(redis: Redis, id: string): Promise<StoredResult | undefined> {
  const status = await redis.hget(`rq:job:${id}`, 'status');
  const result = await latest(redis, id);
  if (status === null || result === undefined) return undefined;
  const { value, text, exc } = result;
  const [, type = '', message = ''] = /(?:^|\n)(?:[\w.]+\.)?(\w+): ([^\n]*)\n?$/.exec(exc ?? '') ?? [];
  return {
    state: STATES[status] ?? status,
    value: STATES[status] === 'succeeded' ? value : undefined,
    error:
      exc === undefined ? undefined : { type: type === 'JobTimeoutException' ? 'TimeLimitExceeded' : type, message },
    text,
  };
}

async function latest(
  redis: Redis,
  id: string,
): Promise<{ readonly value: unknown; readonly text: string; readonly exc: string | undefined } | undefined> {
  const [entry] = await redis.xrevrangeBuffer(`rq:results:${id}`, '+', '-', 'COUNT', 1);
  if (entry === undefined) return undefined;
  const fields = new Map<string, Buffer>();
  const flat = entry[1];
  for (let at = 0; at < flat.length; at += 2) fields.set(String(flat[at]), flat[at + 1] as Buffer);
  const bytes = Buffer.from(String(fields.get('return_value') ?? ''), 'base64');
  const text =
    bytes.length === 0
      ? 'null'
      : bytes[0] === 0x80
        ? json.stringify(pickle.decode(bytes), { replace: (value) => value.constructor.name })
        : String(bytes);
  const exc = fields.get('exc_string');
  return {
    value: JSON.parse(text) as unknown,
    text,
    exc: exc === undefined ? undefined : inflateSync(Buffer.from(String(exc), 'base64')).toString(),
  };
}
