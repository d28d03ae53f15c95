import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AmqpMessage } from '../../protocols/amqp.ts';
import { CeleryClient, type CeleryClientOptions } from '../../src/drivers/celery/client/client.ts';
import { ConfigError, ConnectionError, UnroutableError } from '../../src/errors.ts';
import { AmqpPublisher, type PublisherOptions } from '../../src/transports/amqp-publisher.ts';
import { amqpTarget, type AmqpTargetOptions } from '../../src/transports/amqp-url.ts';
import { AmqpConnection } from '../../src/transports/amqp.ts';
import { readTls } from '../support/certificates.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { until } from '../support/until.ts';
import { startProxy } from './proxy.ts';
import { holds, send } from './rabbit-scene.ts';
import { startWorker } from './scene.ts';

/** What a publication is told when RabbitMQ does not take it, and what a worker is told that RabbitMQ refuses. */
const LIMITED = { name: 'limited', password: 'secret', vhosts: [] };
let rabbit: RabbitServer;

beforeAll(async () => {
  rabbit = await startRabbit({ tls: 'mutual', users: [LIMITED], vhosts: ['apart'] });
  // May read and write one queue, and configure nothing.
  await rabbit.eval(
    'rabbit_auth_backend_internal:set_permissions(<<"limited">>, <<"/">>, <<"^$">>, <<"^open$">>, <<"^open$">>, <<"test">>).',
  );
});

afterAll(async () => {
  await rabbit?.[Symbol.asyncDispose]();
});

interface Open extends AsyncDisposable {
  readonly connection: AmqpConnection;
  readonly publisher: AmqpPublisher;
}

async function open(url = rabbit.url, options: PublisherOptions & AmqpTargetOptions = {}): Promise<Open> {
  const connection = new AmqpConnection(amqpTarget(url, options), { patienceMs: options.patienceMs ?? 5_000 });
  const publisher = new AmqpPublisher(connection, options);
  await connection.connect();
  return {
    connection,
    publisher,
    async [Symbol.asyncDispose]() {
      await publisher.close();
      await connection.close();
    },
  };
}

function message(routingKey: string, exchange = '', body = 'a'): AmqpMessage {
  const properties = { deliveryMode: 2, correlationId: body };
  return { exchange, routingKey, mandatory: true, body: Buffer.from(body), properties };
}

async function declare(queue: string, queueArguments: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const connection = await rabbit.connect();
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: true, arguments: queueArguments });
  await connection.close();
}

describe('a publication', () => {
  test('resolves when the broker has it, ten thousand at once too', async () => {
    await declare('many');
    await using own = await open();
    await own.publisher.publish(Array.from({ length: 10_000 }, (_, at) => message('many', '', `${at}`)));
    expect(await rabbit.messages('many')).toEqual({ ready: 10_000, unacked: 0 });
    const bodies = (await rabbit.get('many')).map(({ content }) => Number(content.toString()));
    expect(bodies).toEqual(Array.from({ length: 10_000 }, (_, at) => at));
    expect(own.publisher.busy).toBe(false);
  });

  test('that no queue takes is an UnroutableError that names exchange and key; the others of its kind are not meant', async () => {
    await declare('there');
    await using own = await open();
    const results = await Promise.allSettled([
      own.publisher.publish([message('there')]),
      own.publisher.publish([message('nowhere')]),
      own.publisher.publish([message('key', 'amq.topic')]),
      own.publisher.publish([message('there')]),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    const [, queue, exchange] = results.map((result) => (result.status === 'rejected' ? result.reason : undefined));
    expect(queue).toBeInstanceOf(UnroutableError);
    expect((queue as Error).message).toContain("queue 'nowhere'");
    expect(exchange).toBeInstanceOf(UnroutableError);
    expect((exchange as Error).message).toContain("exchange 'amq.topic' with routing key 'key'");
    expect(await rabbit.messages('there')).toEqual({ ready: 2, unacked: 0 });
  });

  test('to an exchange that does not exist says so, and the next one goes', async () => {
    await declare('next');
    await using own = await open();
    const wrong = own.publisher.publish([message('key', 'no-such-exchange')]);
    await expect(wrong).rejects.toThrow(UnroutableError);
    await expect(wrong).rejects.toThrow("exchange 'no-such-exchange' with routing key 'key'");
    await own.publisher.publish([message('next')]);
    expect((await rabbit.messages('next')).ready).toBe(1);
  });

  test('beside one that closes the channel, is confirmed or fails: none waits for ever, none is sent on another channel', async () => {
    await declare('beside');
    await using own = await open();
    const attempts: Promise<PromiseSettledResult<unknown>>[] = [];
    const attempt = (...all: readonly Promise<unknown>[]): void => {
      // Some fail while others are still being made.
      for (const one of all) attempts.push(Promise.allSettled([one]).then(([result]) => result));
    };
    for (let at = 0; at < 200; at++) {
      attempt(own.publisher.publish([at % 10 === 5 ? message('key', 'no-such-exchange') : message('beside')]));
      // Channels are opened and closed meanwhile, with numbers that are used again.
      if (at % 20 === 0) attempt(own.connection.declare([]), own.connection.verify(30_000));
      if (at % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const results = await Promise.all(attempts);
    for (const result of results) {
      if (result.status === 'rejected') expect(['unroutable', 'connection']).toContain(result.reason.code);
    }
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0);
    expect(own.connection.ready).toBe(true);
    await own.publisher.publish([message('beside')]);
  });

  test('to a queue that is full and refuses (x-overflow) is an error that says so', async () => {
    await declare('full', { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    await using own = await open();
    await own.publisher.publish([message('full')]);
    const refused = own.publisher.publish([message('full')]);
    await expect(refused).rejects.toThrow(ConnectionError);
    await expect(refused).rejects.toThrow("queue 'full'");
    await expect(refused).rejects.toThrow('full');
  });

  test('a user without the right to write is told so', async () => {
    await declare('open');
    await declare('shut');
    await using own = await open(rabbit.urlOf('/', LIMITED));
    const refused = own.publisher.publish([message('key', 'amq.topic')]);
    await expect(refused).rejects.toThrow(/amq\.topic.*(?:403|ACCESS_REFUSED|may not)/);
  });

  test('while RabbitMQ is short of memory waits for a bounded time, says so, and goes when there is memory again', async () => {
    await declare('memory');
    await using own = await open(rabbit.url, { patienceMs: 700, bufferLimit: 2 });
    await rabbit.eval('vm_memory_monitor:set_vm_memory_high_watermark(0.00001), true.');
    let restored = false;
    const restore = async (): Promise<void> => {
      restored = true;
      await rabbit.eval('vm_memory_monitor:set_vm_memory_high_watermark(0.4), true.');
    };
    try {
      // RabbitMQ says so to who publishes. This one lies in its socket.
      const first = own.publisher.publish([message('memory', '', 'first')]);
      await expect(first).rejects.toThrow('takes no publications for now');
      await expect(first).rejects.toThrow('may be taken later');
      expect(own.connection.blocked).toContain('memory');
      const waiting = [own.publisher.publish([message('memory')]), own.publisher.publish([message('memory')])];
      await expect(own.publisher.publish([message('memory')])).rejects.toThrow('2 publications wait for');
      for (const each of waiting) await expect(each).rejects.toThrow('this one was not sent');
      const last = own.publisher.publish([message('memory', '', 'last')]);
      await restore();
      await last;
      await holds(rabbit, 'memory', 2, 0);
      expect((await rabbit.get('memory')).map(({ content }) => content.toString())).toEqual(['first', 'last']);
    } finally {
      if (!restored) await restore();
    }
  });

  test('over a half-open connection fails when that is noticed: it is not known whether it was sent', async () => {
    await declare('half-open');
    await using proxy = await startProxy(rabbit.port);
    await using own = await open(`amqp://guest:guest@127.0.0.1:${proxy.port}//`, { heartbeatSeconds: 0 });
    await own.publisher.publish([message('half-open')]);
    proxy.goSilent();
    const sent = own.publisher.publish([message('half-open')]);
    const failed = expect(sent).rejects.toThrow('not known whether it was sent');
    expect(own.publisher.busy).toBe(true);
    await own.connection.verify(300);
    await failed;
    await own.publisher.publish([message('half-open')]);
  });
});

describe('while RabbitMQ is away', () => {
  test('publications wait for a bounded time, a bounded number of them, and go when it is back', async () => {
    await declare('away');
    await using own = await open(rabbit.url, { patienceMs: 500, bufferLimit: 3 });
    await own.publisher.publish([message('away')]);
    await rabbit.kill();
    await until('it knows', () => !own.connection.ready);
    const waiting = [1, 2, 3].map(() => own.publisher.publish([message('away')]));
    await expect(own.publisher.publish([message('away')])).rejects.toThrow('3 publications wait for');
    for (const each of waiting) await expect(each).rejects.toThrow('no connection to');
    await using patient = await patiently();
    await rabbit.restart();
    await patient.sent;
    expect((await rabbit.messages('away')).ready).toBe(2);

    async function patiently(): Promise<AsyncDisposable & { readonly sent: Promise<void> }> {
      const proxied = new AmqpConnection(amqpTarget(rabbit.url), { patienceMs: 60_000 });
      const publisher = new AmqpPublisher(proxied, { patienceMs: 60_000 });
      const sent = publisher.publish([message('away')]);
      const connecting = (async (): Promise<void> => {
        while (!proxied.ready) await proxied.connect().catch(() => undefined);
      })();
      return {
        sent,
        async [Symbol.asyncDispose]() {
          await connecting;
          await publisher.close();
          await proxied.close();
        },
      };
    }
  });

  test('a client of Celery says that nobody took its task', async () => {
    await using client = new CeleryClient({
      ...options(rabbit.url),
      taskPublishRetry: false,
      brokerTransportOptions: { publishPatience: 0.3 },
    });
    await client.enqueue('ok', { queue: 'away' });
    await rabbit.stop();
    await expect(client.enqueue('ok', { queue: 'away' })).rejects.toThrow(ConnectionError);
    await rabbit.restart();
    await until('it is taken again', () =>
      client.enqueue('ok', { queue: 'away' }).then(
        () => true,
        () => false,
      ),
    );
  });
});

describe('a queue that was deleted after it was declared here', () => {
  test('is declared again with the next publication', async () => {
    await using client = new CeleryClient({ ...options(rabbit.url), taskPublishRetry: false });
    await client.enqueue('ok', { queue: 'deleted' });
    const connection = await rabbit.connect();
    await (await connection.createChannel()).deleteQueue('deleted');
    await connection.close();
    await client.enqueue('ok', { queue: 'deleted' });
    expect((await rabbit.messages('deleted')).ready).toBe(1);
  });
});

describe('a worker is told before it starts', () => {
  const start = (url: string, queues: readonly (string | { readonly name: string; readonly noDeclare?: boolean })[]) =>
    startWorker({ broker: url, queues }, {});

  test('that a queue exists with other properties, and what to do', async () => {
    await declare('other', { 'x-max-priority': 5 });
    const started = start(rabbit.url, ['other']);
    await expect(started).rejects.toThrow(ConfigError);
    await expect(started).rejects.toThrow("the queue 'other'");
    await expect(started).rejects.toThrow('noDeclare');
    await expect(started).rejects.toThrow('x-max-priority');
  });

  test('that a queue which it may not declare does not exist', async () => {
    const started = start(rabbit.url, [{ name: 'not-there', noDeclare: true }]);
    await expect(started).rejects.toThrow(ConfigError);
    await expect(started).rejects.toThrow("the queue 'not-there': it does not exist");
  });

  test('that its user may not declare, or not read', async () => {
    const refused = start(rabbit.urlOf('/', LIMITED), ['private']);
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toThrow('may not');
    await declare('shut');
    const unread = start(rabbit.urlOf('/', LIMITED), [{ name: 'shut', noDeclare: true }]);
    await expect(unread).rejects.toThrow(/'shut'.*ACCESS_REFUSED/);
  });

  test.each([
    ['a wrong password', () => rabbit.urlOf('/', { name: 'guest', password: 'wrong' })],
    ['an unknown user', () => rabbit.urlOf('/', { name: 'nobody', password: 'secret' })],
    ['a virtual host that is not there', () => rabbit.urlOf('not there')],
    ['a virtual host that is not its own', () => rabbit.urlOf('apart', LIMITED)],
  ])('%s is a ConfigError that names neither password nor nonsense', async (_, url) => {
    const started = start(url(), ['q']);
    await expect(started).rejects.toThrow(ConfigError);
    await expect(started).rejects.toThrow(/refuses user '.*' or virtual host '.*'/);
    await expect(started).rejects.not.toThrow(/secret|wrong/);
  });
});

describe('several nodes', () => {
  test('the first one is dead: the second is used, by worker and client', async () => {
    const url = `amqp://guest:guest@127.0.0.1:1//;${rabbit.url}`;
    await using scene = await startWorker({ broker: url, queues: ['several'] }, { ok: () => 'ran' });
    await using client = new CeleryClient(options(url));
    const { id } = await client.enqueue('ok', { queue: 'several' });
    await until('it ran', () => scene.started.includes(id));
  });

  test(
    'one dies on the way: the other is used, and the first again when the other dies',
    { timeout: 240_000 },
    async () => {
      await using second = await startRabbit();
      const url = `${rabbit.url};${second.url}`;
      await using scene = await startWorker({ broker: url, queues: ['fail-over'] }, { ok: () => 'ran' });
      const ran = async (server: RabbitServer): Promise<void> => {
        await until('it is consumed there', async () =>
          (await server.consumers()).some(({ queue }) => queue === 'fail-over'),
        );
        const [id = ''] = await send(server, 'fail-over', {});
        await until('it ran', () => scene.started.includes(id));
      };
      await ran(rabbit);
      await rabbit.kill();
      await ran(second);
      await rabbit.restart();
      await second.kill();
      await ran(rabbit);
    },
  );
});

describe('TLS', () => {
  const own = (): ReturnType<typeof readTls> => readTls(rabbit.certificates as NonNullable<typeof rabbit.certificates>);

  test('with an authority and a certificate of ours, as options and in the URL', async () => {
    await using scene = await startWorker(
      { broker: rabbit.tlsUrl, queues: ['secure'], brokerTransportOptions: { tls: own() } },
      { ok: () => 'ran' },
    );
    const { ca, clientCert, clientKey } = rabbit.certificates as NonNullable<typeof rabbit.certificates>;
    const query = new URLSearchParams({ ssl_ca_certs: ca, ssl_certfile: clientCert, ssl_keyfile: clientKey });
    await using client = new CeleryClient(options(`${rabbit.tlsUrl}?${query.toString()}`));
    const { id } = await client.enqueue('ok', { queue: 'secure' });
    await until('it ran', () => scene.started.includes(id));
  });

  test.each([
    ['an authority that nobody here knows', () => ({ cert: own().cert, key: own().key }), /self-signed|unable to/],
    ['a client without a certificate', () => ({ ca: own().ca }), /alert|certificate|ECONNRESET|closed/i],
    ['a name that the certificate does not have', () => ({ ...own(), servername: 'elsewhere.example' }), /altnames/i],
  ])('%s is refused', async (_, tls, why) => {
    const started = startWorker(
      { broker: rabbit.tlsUrl, queues: ['secure'], brokerTransportOptions: { tls: tls() } },
      {},
    );
    await expect(started).rejects.toThrow(ConnectionError);
    await expect(started).rejects.toThrow(why);
  });

  test('is not spoken to a port that does not speak it', async () => {
    const url = rabbit.url.replace('amqp:', 'amqps:');
    await expect(
      startWorker({ broker: url, queues: ['secure'], brokerTransportOptions: { tls: own() } }, {}),
    ).rejects.toThrow(ConnectionError);
  });
});

function options(broker: string): CeleryClientOptions {
  return { broker };
}
