import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { celery, type CeleryAppOptions, CeleryClient, type CeleryOptions } from '../../src/drivers/celery/index.ts';
import { ConnectionError } from '../../src/errors.ts';
import { createLogger } from '../../src/log.ts';
import { Worker } from '../../src/worker/worker.ts';
import { temporaryFolder } from '../support/folder.ts';
import { PythonCelery, type PythonAppOptions, type PythonWorkerOptions, startPythonWorker } from '../support/python.ts';
import { type RedisServer, startRedis, startSentinel, until } from '../support/redis.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { interopTasks } from './apps/tasks.ts';

const VERSION = '5.6';

let folder: string;
let open: AsyncDisposable[];

beforeEach(async () => {
  folder = temporaryFolder('jobglot-transport-');
  open = [];
});
afterEach(async () => {
  for (const one of open.toReversed()) await one[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Closed at the end of the test, the last one first. */
function use<T extends AsyncDisposable>(one: T): T {
  open.push(one);
  return one;
}

async function node(options: CeleryOptions): Promise<{ readonly worker: Worker; readonly log: () => string }> {
  let written = '';
  const log = createLogger({ format: 'json', stream: { write: (text) => (written += text) } });
  const worker = use(
    new Worker({ tasks: interopTasks(), sources: [celery({ concurrency: 4, ...options })], abortGraceMs: 200, log }),
  );
  await worker.start();
  return { worker, log: () => written };
}

const python = async (options: PythonAppOptions): Promise<PythonCelery> =>
  use(await PythonCelery.start(VERSION, options));
const pythonWorker = async (options: PythonWorkerOptions): Promise<void> => {
  use(await startPythonWorker(VERSION, { args: ['--without-gossip', '--without-mingle'], ...options }));
};

/** Python sends to a Node worker and reads the result; Node sends to a Python worker and reads the result. */
async function bothWays(theirs: PythonAppOptions, ours: CeleryAppOptions): Promise<void> {
  const client = use(new CeleryClient(ours));
  const [sender] = await Promise.all([
    python(theirs),
    pythonWorker({ ...theirs, queues: ['to-python'] }),
    node({ ...ours, queues: ['to-node'] }),
  ]);
  const id = await sender.send('node.add', [2, 3], {}, { queue: 'to-node' });
  expect(await sender.get(id)).toMatchObject({ state: 'SUCCESS', value: 5 });
  const result = await client.enqueue('py.add', { args: [20, 22], queue: 'to-python' });
  expect(await result.get({ timeoutMs: PATIENCE_MS })).toBe(42);
}

describe('with Celery 5.6 on the same', () => {
  test('server with a password, another database for the results, and TCP keep-alive', async () => {
    const redis = use(await startRedis({ password: 'p@ss:w/ö%' }));
    const urls = { broker: redis.urlOf(2), backend: redis.urlOf(3) };
    expect(urls.broker).toContain('p%40ss');
    await bothWays(
      { ...urls, config: { broker_transport_options: { socket_keepalive: true } } },
      { ...urls, brokerTransportOptions: { socketKeepalive: true } },
    );
    expect(await redis.client({ db: 3 }).keys('celery-task-meta-*')).toHaveLength(2);
  });

  test('user and password, both percent-encoded', async () => {
    const redis = use(await startRedis());
    await redis.client().acl('SETUSER', 'job@user', 'on', '>s3:cret@', '~*', '&*', '+@all');
    const url = `redis://job%40user:s3%3Acret%40@127.0.0.1:${redis.port}/0`;
    await redis.client().acl('SETUSER', 'default', 'off');
    await bothWays({ broker: url, backend: url }, { broker: url, backend: url });
  });

  test('TLS port that wants certificates', async () => {
    const redis = use(await startRedis({ tls: 'mutual' }));
    const { ca, clientCert, clientKey } = redis.certificates!;
    const files = `ssl_ca_certs=${ca}&ssl_certfile=${clientCert}&ssl_keyfile=${clientKey}`;
    const url = `${redis.url}?ssl_cert_reqs=required&${files}`;
    await bothWays({ broker: url, backend: url }, { broker: url, backend: url });
  });

  test('Unix socket', async () => {
    const redis = use(await startRedis({ unixSocket: true }));
    const url = `redis+socket://${redis.socketPath}?virtual_host=1`;
    await bothWays({ broker: url, backend: url }, { broker: url, backend: url });
    expect(await redis.client({ db: 1 }).keys('celery-task-meta-*')).toHaveLength(2);
  });

  test('master behind sentinels, one of them dead; after a failover the worker goes on', async () => {
    const sentinel = use(await startSentinel());
    const { url } = sentinel;
    const theirs = { master_name: sentinel.name };
    const ours = { masterName: sentinel.name };
    const both = `sentinel://127.0.0.1:1/0;${url}`;
    const app = { broker: both, backend: both, brokerTransportOptions: ours, resultBackendTransportOptions: ours };
    await bothWays(
      {
        broker: url,
        backend: url,
        config: { broker_transport_options: theirs, result_backend_transport_options: theirs },
      },
      app,
    );
    const port = await sentinel.failover();
    expect(port).not.toBe(sentinel.master.port);
    const client = use(new CeleryClient(app));
    const result = await client.enqueue('node.add', { args: [1, 1], queue: 'to-node' });
    expect(await result.get({ timeoutMs: PATIENCE_MS, recheckMs: 500 })).toBe(2);
    const [master] = sentinel.replicas.filter((one) => one.port === port);
    expect(await master!.client().exists(`celery-task-meta-${result.id}`)).toBe(1);
  });

  test('server, every key under one prefix', async () => {
    const redis = use(await startRedis());
    const urls = { broker: redis.url, backend: redis.url };
    await bothWays(
      {
        ...urls,
        config: {
          broker_transport_options: { global_keyprefix: 'shop.' },
          result_backend_transport_options: { global_keyprefix: 'shop' },
        },
      },
      {
        ...urls,
        brokerTransportOptions: { globalKeyprefix: 'shop.' },
        resultBackendTransportOptions: { globalKeyprefix: 'shop' },
      },
    );
    const keys = await redis.client().keys('*');
    expect(keys.filter((key) => !/^shop[._]/.test(key))).toEqual([]);
    expect(keys.filter((key) => key.startsWith('shop_celery-task-meta-'))).toHaveLength(2);
  });

  test('cluster, every key under one hash tag', async () => {
    const redis = use(await startRedis({ args: ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'] }));
    const admin = redis.client();
    await admin.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await until('the cluster is up', async () =>
      String(await admin.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
    );
    const theirs = { global_keyprefix: '{celery}:' };
    const ours = { cluster: true, globalKeyprefix: '{celery}:' };
    const url = `redis://127.0.0.1:${redis.port}`;
    await bothWays(
      {
        broker: url,
        backend: url,
        config: { broker_transport_options: theirs, result_backend_transport_options: theirs },
      },
      { broker: url, backend: url, brokerTransportOptions: ours, resultBackendTransportOptions: ours },
    );
    expect((await admin.keys('*')).filter((key) => !key.startsWith('{celery}:'))).toEqual([]);
  });
});

describe('priorities: 0 first, then the steps 3, 6 and 9, each in its order', () => {
  const PUBLISHED = [9, 5, 0, 7, 3, 6, 1];
  const RUN = [0, 1, 5, 3, 7, 6, 9];

  test('Python publishes, Node runs', async () => {
    const redis = use(await startRedis());
    const sender = await python({ broker: redis.url });
    const path = join(folder, 'ran');
    for (const priority of PUBLISHED) await sender.send('node.write', [path, String(priority)], {}, { priority });
    const { worker } = await node({ broker: redis.url, concurrency: 1, prefetchMultiplier: 1 });
    await ran(path, PUBLISHED.length);
    expect((await lines(path)).map(Number)).toEqual(RUN);
    await worker.stop();
  });

  test('Node publishes, Python runs', async () => {
    const redis = use(await startRedis());
    const client = use(new CeleryClient({ broker: redis.url }));
    const path = join(folder, 'ran');
    for (const priority of PUBLISHED) await client.enqueue('py.write', { args: [path, String(priority)], priority });
    await pythonWorker({ broker: redis.url, config: { worker_prefetch_multiplier: 1 } });
    await ran(path, PUBLISHED.length);
    expect((await lines(path)).map(Number)).toEqual(RUN);
  });
});

describe('exchanges', () => {
  const queue = (name: string, type: string, routing_key: string): object => ({
    name,
    exchange: { name: `${name}-exchange`, type },
    routing_key,
  });

  test('Python publishes to a direct and a topic exchange, and Node runs what its queues are bound to', async () => {
    const redis = use(await startRedis());
    // A Python process, too, knows the types of the exchanges it has declared, and of no others.
    const task_queues = [
      { name: 'orders', exchange: { name: 'shop', type: 'direct' }, routing_key: 'order.new' },
      { name: 'errors', exchange: { name: 'logs', type: 'topic' }, routing_key: '*.error.#' },
    ];
    const urls = { broker: redis.url, backend: redis.url };
    const sender = await python({ ...urls, config: { task_queues } });
    await node({
      ...urls,
      queues: [
        { name: 'orders', exchange: 'shop', exchangeType: 'direct', routingKey: 'order.new' },
        { name: 'errors', exchange: 'logs', exchangeType: 'topic', routingKey: '*.error.#' },
      ],
    });
    const send = (queue: string, routing_key: string): Promise<string> =>
      sender.send('node.context', [], {}, { queue, routing_key });
    expect(await sender.get(await send('orders', 'order.new'))).toMatchObject({ value: { queue: 'orders' } });
    expect(await sender.get(await send('errors', 'db.error.disk'))).toMatchObject({ value: { queue: 'errors' } });
    // What nothing is bound to, nobody gets.
    await send('orders', 'order.old');
    await send('errors', 'db.info');
    expect(await redis.client().exists('orders', 'errors', 'order.old', 'db.info')).toBe(0);
  });

  test('Node publishes, and the Python worker runs what its queues are bound to, by the type its bindings show', async () => {
    const redis = use(await startRedis());
    const urls = { broker: redis.url, backend: redis.url };
    await pythonWorker({
      ...urls,
      config: { task_queues: [queue('pay', 'direct', 'pay.now'), queue('logs', 'topic', 'log.#')] },
    });
    const client = use(new CeleryClient(urls));
    const direct = await client.enqueue('py.add', { args: [1, 2], exchange: 'pay-exchange', routingKey: 'pay.now' });
    const topic = await client.enqueue('py.add', {
      args: [3, 4],
      exchange: 'logs-exchange',
      routingKey: 'log.disk.full',
    });
    expect(await direct.get({ timeoutMs: PATIENCE_MS })).toBe(3);
    expect(await topic.get({ timeoutMs: PATIENCE_MS })).toBe(7);
    await expect(client.enqueue('py.add', { exchange: 'pay-exchange', routingKey: 'pay.later' })).rejects.toThrow(
      "exchange 'pay-exchange' has no queue bound for routing key 'pay.later'",
    );
  });

  test('both write the same binding for the same queue', async () => {
    const redis = use(await startRedis());
    const keys = ['plain', 'a.*.b', 'log.#', '#', 'my-key_1.x+y', 'größe.*', 'sla/sh:co{lon}'];
    const sender = await python({ broker: redis.url });
    await sender.run(
      `
exchange = kombu.Exchange('logs', 'topic')
with app.connection() as connection:
    for number, key in enumerate(keys):
        kombu.Queue('queue-%d' % number, exchange, routing_key=key)(connection.default_channel).declare()
`,
      { keys },
    );
    const theirs = (await redis.client().smembers('_kombu.binding.logs')).sort();
    await redis.client().del('_kombu.binding.logs');
    await node({
      broker: redis.url,
      queues: keys.map((routingKey, number) => ({
        name: `queue-${number}`,
        exchange: 'logs',
        exchangeType: 'topic' as const,
        routingKey,
      })),
    });
    expect((await redis.client().smembers('_kombu.binding.logs')).sort()).toEqual(theirs);
  });

  test('a broadcast of Python reaches every Node worker', async () => {
    const redis = use(await startRedis());
    const prelude = "from kombu.common import Broadcast\napp.conf.task_queues = (Queue('celery'), Broadcast('news'))";
    const sender = await python({ broker: redis.url, prelude });
    const news = (number: number): CeleryOptions => ({
      broker: redis.url,
      queues: ['celery', { name: `news-${number}`, exchange: 'news', exchangeType: 'fanout' }],
    });
    await Promise.all([node(news(1)), node(news(2))]);
    const path = join(folder, 'ran');
    // Celery declares no Broadcast queue when it sends, and kombu takes an exchange it has not declared for a direct one.
    await sender.run("app.send_task('node.write', (path,), queue='news', declare=[kombu.Exchange('news', 'fanout')])", {
      path,
    });
    await ran(path, 2);
    expect(await redis.client().hlen('unacked')).toBe(0);
  });

  test('a broadcast of Node reaches a Python worker', async () => {
    const redis = use(await startRedis());
    const prelude = "from kombu.common import Broadcast\napp.conf.task_queues = (Queue('celery'), Broadcast('news'))";
    await pythonWorker({ broker: redis.url, prelude });
    // kombu subscribes in its loop, after the worker is ready: to the worker's mailbox and to the broadcast.
    await until('it listens', async () => (await redis.client().call('PUBSUB', 'NUMPAT')) === 2);
    const client = use(
      new CeleryClient({ broker: redis.url, brokerTransportOptions: { exchangeTypes: { news: 'fanout' } } }),
    );
    const path = join(folder, 'ran');
    // The key Celery gives a queue that has none.
    await client.enqueue('py.write', { args: [path], exchange: 'news', routingKey: 'celery' });
    await ran(path, 1);
  });
});

describe('several queues', () => {
  test.each([
    ['round_robin', 'b1 a1 b2 a2 b3 a3'],
    ['priority', 'b1 b2 b3 a1 a2 a3'],
    ['sorted', 'a1 a2 a3 b1 b2 b3'],
  ] as const)('queueOrderStrategy %s', async (queueOrderStrategy, order) => {
    const redis = use(await startRedis());
    const client = use(new CeleryClient({ broker: redis.url }));
    const path = join(folder, 'ran');
    for (const queue of ['a', 'b'])
      for (const number of [1, 2, 3]) await client.enqueue('node.write', { args: [path, `${queue}${number}`], queue });
    await node({
      broker: redis.url,
      queues: ['b', 'empty', 'a'],
      concurrency: 1,
      prefetchMultiplier: 1,
      brokerTransportOptions: { queueOrderStrategy },
    });
    await ran(path, 6);
    expect((await lines(path)).join(' ')).toBe(order);
  });
});

describe('an idle worker', () => {
  test('is woken by a push at once, and asks next to nothing meanwhile', async () => {
    const redis = use(await startRedis());
    const { worker } = await node({ broker: redis.url, queues: ['a', 'b', 'c'] });
    const client = use(new CeleryClient({ broker: redis.url }));
    const waited: number[] = [];
    for (const queue of ['a', 'b', 'c', 'a', 'b']) {
      const started = worker.once('job:started');
      const at = performance.now();
      await client.enqueue('node.add', { args: [1, 1], queue });
      await started;
      waited.push(performance.now() - at);
    }
    // It looks by itself once a second: a push right after such a look would wait for the next.
    expect(Math.min(...waited.slice(1))).toBeLessThan(500);
    const admin = redis.client();
    await admin.config('RESETSTAT');
    // What is measured is a second in which nothing happens.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const stats = await admin.info('commandstats');
    const calls = [...stats.matchAll(/cmdstat_([a-z|_]+):calls=(\d+)/g)].filter(([, name]) => name !== 'info');
    const asked = calls.filter(([, name]) => !['llen', 'rpop', 'zrangebyscore'].includes(name!));
    expect(asked.reduce((sum, [, , count]) => sum + Number(count), 0)).toBeLessThan(25);
  });

  test('polls where it may not call CLIENT, and says so once', async () => {
    const redis = use(await startRedis());
    await redis.client().acl('SETUSER', 'plain', 'on', '>pw', '~*', '&*', '+@all', '-client');
    const url = `redis://plain:pw@127.0.0.1:${redis.port}/0`;
    const { worker, log } = await node({ broker: url });
    expect(log().match(/polling instead/g)).toHaveLength(1);
    const client = use(new CeleryClient({ broker: url }));
    const settled = worker.once('job:settled');
    await client.enqueue('node.add', { args: [1, 1] });
    expect((await settled).disposition.state).toBe('succeeded');
  });
});

describe('a worker that cannot connect rejects within its time, naming the URL without its password, and why:', () => {
  const refused = async (broker: string, options: Partial<CeleryOptions> = {}): Promise<string> => {
    const source = celery({ broker, brokerTransportOptions: { connectTimeoutMs: 1_000 }, ...options });
    const worker = new Worker({ tasks: interopTasks(), sources: [source] });
    const at = performance.now();
    const error: unknown = await worker.start().catch((thrown: unknown) => thrown);
    // Far below the ten seconds of the default.
    expect(performance.now() - at).toBeLessThan(8_000);
    expect(error).toBeInstanceOf(ConnectionError);
    return (error as Error).message;
  };

  test('nobody listens', async () => {
    expect(await refused('redis://:secret@127.0.0.1:1/0')).toBe(
      'redis: cannot connect to redis://:**@127.0.0.1:1/0: connect ECONNREFUSED 127.0.0.1:1',
    );
  });

  test('no such host', async () => {
    expect(await refused('redis://no.such.host.invalid/0')).toMatch(/no\.such\.host\.invalid\/0: getaddrinfo/);
  });

  test('a wrong password, none, a database that is not there, TLS on a plain port, a server that says nothing', async () => {
    const redis = use(await startRedis({ password: 'right' }));
    const at = `127.0.0.1:${redis.port}`;
    expect(await refused(`redis://:wrong@${at}/0`)).toMatch(/^redis: cannot connect to redis:\/\/:\*\*@.*: WRONGPASS/);
    expect(await refused(`redis://${at}/0`)).toMatch(/: NOAUTH/);
    expect(await refused(`redis://:right@${at}/99`)).toMatch(/\/99: ERR DB index is out of range/);
    expect(await refused(`rediss://:right@${at}/0`)).toMatch(/^redis: cannot connect to rediss:\/\/:\*\*@/);
    redis.freeze();
    expect(await refused(`redis://:right@${at}/0`)).toMatch(/: no answer within 1000 ms$/);
    redis.thaw();
  });

  test('a result store that is away', async () => {
    const redis = use(await startRedis());
    const options = {
      backend: 'redis://:secret@127.0.0.1:1/5',
      resultBackendTransportOptions: { connectTimeoutMs: 1_000 },
    };
    expect(await refused(redis.url, options)).toContain('redis://:**@127.0.0.1:1/5: connect ECONNREFUSED');
  });

  describe('TLS', () => {
    const connects = async (redis: RedisServer, query: string): Promise<void> => {
      const client = use(new CeleryClient({ broker: `${redis.url}?${query}` }));
      await client.open();
    };

    test('a certificate of nobody known is refused unless the URL says ssl_cert_reqs=none', async () => {
      const redis = use(await startRedis({ tls: true }));
      for (const query of ['', 'ssl_cert_reqs=required', 'ssl_cert_reqs=CERT_REQUIRED', 'ssl_cert_reqs=optional'])
        expect(await refused(`${redis.url}?${query}`)).toMatch(/certificate/);
      await connects(redis, 'ssl_cert_reqs=none');
      await connects(redis, 'ssl_cert_reqs=CERT_NONE');
      await connects(redis, `ssl_cert_reqs=required&ssl_ca_certs=${redis.certificates!.ca}`);
    });

    test('a server that wants a certificate of ours refuses us without one', async () => {
      const redis = use(await startRedis({ tls: 'mutual' }));
      // With TLS 1.3 its reason may come after the connection is cut: then the cut is all there is to tell.
      expect(await refused(`${redis.url}?ssl_ca_certs=${redis.certificates!.ca}`)).toContain(
        'cannot connect to rediss:',
      );
    });
  });
});

async function lines(path: string): Promise<readonly string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n').slice(0, -1);
}

async function ran(path: string, times: number): Promise<void> {
  await until(`${times} lines in ${path}`, async () => (await lines(path)).length >= times);
}
