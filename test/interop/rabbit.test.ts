import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { PythonCelery } from '../support/python.ts';
import { startRabbit, type RabbitServer } from '../support/rabbit.ts';
import { until } from '../support/redis.ts';

/** A durable queue with one persistent message in it. */
async function keepOne(rabbit: RabbitServer, queue: string): Promise<void> {
  const connection = await rabbit.connect();
  await (await connection.createChannel()).assertQueue(queue, { durable: true });
  await connection.close();
  await rabbit.publish('', queue, 'kept', { persistent: true });
}

async function bodies(rabbit: RabbitServer, queue: string): Promise<readonly string[]> {
  return (await rabbit.get(queue)).map(({ content }) => content.toString());
}

/** Processes whose environment has this folder: the broker, its helpers, its epmd. */
function processesOf(folder: string): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'latin1').includes(folder);
    } catch {
      return false;
    }
  });
}

describe('the RabbitMQ of the tests', () => {
  it('has what Python declares and publishes', async () => {
    await using rabbit = await startRabbit();
    await using python = await PythonCelery.start('5.6', { broker: rabbit.url });
    const id = await python.send('node.add', [2, 3], {}, { queue: 'sums' });

    const [message, ...more] = await rabbit.get('sums');
    expect(more).toEqual([]);
    expect(JSON.parse(message?.content.toString() ?? '')).toMatchObject([[2, 3], {}, {}]);
    expect(message?.properties).toMatchObject({ correlationId: id, contentType: 'application/json', deliveryMode: 2 });
    expect(message?.properties.headers).toMatchObject({ id, task: 'node.add' });

    expect(await rabbit.queues()).toEqual([
      { name: 'sums', type: 'classic', durable: true, autoDelete: false, exclusive: false, arguments: {} },
    ]);
    expect(await rabbit.exchanges()).toEqual([
      { name: 'sums', type: 'direct', durable: true, autoDelete: false, internal: false, arguments: {} },
    ]);
    expect(await rabbit.bindings()).toEqual([
      { source: 'sums', destination: 'sums', destinationKind: 'queue', routingKey: 'sums', arguments: {} },
    ]);
  });

  it('counts exactly what waits and what a consumer holds', async () => {
    await using rabbit = await startRabbit();
    const connection = await rabbit.connect();
    const channel = await connection.createChannel();
    await channel.assertQueue('held', { durable: true, arguments: { 'x-max-priority': 9 } });
    for (const body of ['a', 'b', 'c']) await rabbit.publish('', 'held', body);
    expect(await rabbit.messages('held')).toEqual({ ready: 3, unacked: 0 });

    await channel.prefetch(1);
    await channel.consume('held', () => {}, { consumerTag: 'one' });
    expect(await rabbit.messages('held')).toEqual({ ready: 2, unacked: 1 });
    expect(await rabbit.consumers()).toEqual([
      { queue: 'held', tag: 'one', ackRequired: true, prefetch: 1, arguments: {} },
    ]);
    expect((await rabbit.queues())[0]?.arguments).toEqual({ 'x-max-priority': 9 });

    expect(await rabbit.purge('held')).toBe(2);
    await rabbit.dropConnections();
    await until('the message is back', async () => (await rabbit.messages('held')).ready === 1);
    await expect(rabbit.messages('nowhere')).rejects.toThrow("no queue 'nowhere'");
  });

  it('keeps a persistent message of a durable queue over a restart, a crash and a pause', async () => {
    await using rabbit = await startRabbit();
    await keepOne(rabbit, 'durable');
    const { port, pid } = rabbit;

    await rabbit.restart();
    expect(rabbit.port).toBe(port);
    expect(rabbit.pid).not.toBe(pid);
    expect(await bodies(rabbit, 'durable')).toEqual(['kept']);

    await rabbit.kill();
    await expect(rabbit.connect()).rejects.toThrow('ECONNREFUSED');
    await rabbit.restart();
    expect(await bodies(rabbit, 'durable')).toEqual(['kept']);

    rabbit.pause();
    let answered = false;
    const answer = bodies(rabbit, 'durable').finally(() => (answered = true));
    const state = (): string => /^State:\s+(\w)/m.exec(readFileSync(`/proc/${rabbit.pid}/status`, 'utf8'))?.[1] ?? '';
    await until('the process is stopped', () => state() === 'T');
    expect(answered).toBe(false);
    rabbit.resume();
    expect(await answer).toEqual(['kept']);
  }, 120_000);

  it('has the users, virtual hosts, TLS and timeouts asked for', async () => {
    const user = { name: 'us er@/:', password: 'p%ss/:@#?', vhosts: ['a/b c'] };
    const options = { tls: true, consumerTimeoutMs: 1_000, heartbeatSeconds: 7, vhosts: ['a/b c'], users: [user] };
    await using rabbit = await startRabbit(options);
    const own = await connect(rabbit.urlOf('a/b c', user));
    await (await own.createChannel()).assertQueue('there');
    await own.close();
    expect((await rabbit.queues('a/b c')).map(({ name }) => name)).toEqual(['there']);
    await expect(connect(rabbit.urlOf('/', user))).rejects.toThrow('ConnectionClose');

    const secure = await connect(rabbit.tlsUrl, { ca: [rabbit.ca] });
    await secure.close();
    expect(await rabbit.eval('element(2, application:get_env(rabbit, heartbeat)).')).toBe(7);
    expect(await rabbit.ctl('list_vhosts', '--no-table-headers')).toContain('a/b c');

    await keepOne(rabbit, 'slow');
    const connection = await rabbit.connect();
    const channel = await connection.createChannel();
    const closed = new Promise<Error>((resolve) => channel.once('error', resolve));
    await channel.consume('slow', () => {});
    expect((await closed).message).toContain('PRECONDITION_FAILED');
  });

  it('leaves no process and no folder behind, and says why it did not start', async () => {
    const rabbit = await startRabbit();
    const { folder } = rabbit;
    expect(processesOf(folder).length).toBeGreaterThan(1);
    await rabbit[Symbol.asyncDispose]();
    await until('all of them are gone', () => processesOf(folder).length === 0);
    expect(existsSync(folder)).toBe(false);

    await expect(startRabbit({ config: ['no_such_setting = 1'] })).rejects.toThrow('no_such_setting');
  });
});
