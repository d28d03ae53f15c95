import type { Channel, GetMessage, Options } from 'amqplib';
import type { CeleryAppOptions } from '../../src/drivers/celery/index.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { celeryMessages, celeryResult, celerySender, celerySource } from './celery.ts';
import { conformance } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly rabbit: RabbitServer;
  readonly redis: RedisServer;
  readonly app: CeleryAppOptions;
}

/** RabbitMQ with results in Redis. A message's bytes are, for the suite, kombu's envelope of what AMQP holds. */
conformance<Store>({
  name: 'celery-amqp',
  async store() {
    const [rabbit, redis] = await Promise.all([startRabbit(), startRedis()]);
    const app = {
      broker: rabbit.url,
      backend: redis.url,
      // Nobody is there to be greeted at the start of each worker.
      workerEnableRemoteControl: false,
    };
    return {
      rabbit,
      redis,
      app,
      async [Symbol.asyncDispose]() {
        await rabbit[Symbol.asyncDispose]();
        await redis[Symbol.asyncDispose]();
      },
    };
  },
  async restart({ rabbit }, between) {
    await rabbit.kill();
    await between();
    await rabbit.restart();
  },
  source: ({ app }, options) => celerySource(app, options),
  client: ({ app }) => celerySender(app),
  raw({ rabbit, redis }) {
    const found = async (queue: string): Promise<readonly GetMessage[]> => {
      // A queue that nobody declared has none.
      if (!(await rabbit.queues()).some(({ name }) => name === queue)) return [];
      return rabbit.get(queue);
    };
    return {
      ...celeryMessages,
      put: (queue, bytes) =>
        onChannel(rabbit, async (channel) => {
          await channel.assertQueue(queue, { durable: true });
          const { body, options } = publicationOf(Buffer.from(bytes));
          await rabbit.publish('', queue, body, { ...options, persistent: true });
        }),
      waiting: async (queue) => (await found(queue)).map(envelopeOf),
      claimed: async () => Object.values(await rabbit.allMessages()).reduce((sum, { unacked }) => sum + unacked, 0),
      aside: async (queue) =>
        (await found(`jobglot.quarantine.${queue}`)).map(({ content, properties }) => ({
          bytes: content,
          reason: String(properties.headers?.['x-jobglot-reason']),
        })),
      async result(id) {
        const client = redis.client();
        try {
          return celeryResult(await client.getBuffer(`celery-task-meta-${id}`));
        } finally {
          client.disconnect();
        }
      },
    };
  },
  without: {
    'an expired job is not run, and its result says so': 'RabbitMQ drops it by itself, as Celery asks it to',
    'a job that ends while the store is away is settled when it is back':
      'results are in Redis, which is there; acknowledged when it comes again: test/faults/amqp-recovery.test.ts',
  },
});

async function onChannel(rabbit: RabbitServer, work: (channel: Channel) => Promise<void>): Promise<void> {
  const connection = await rabbit.connect();
  try {
    await work(await connection.createChannel());
  } finally {
    await connection.close();
  }
}

interface Envelope {
  readonly body: string;
  readonly 'content-type': string;
  readonly 'content-encoding': string;
  readonly headers: Record<string, unknown>;
  readonly properties: { readonly correlation_id: string; readonly reply_to: string };
}

/** Bytes that are no envelope are a body without headers. */
function publicationOf(bytes: Buffer): { readonly body: Buffer; readonly options: Options.Publish } {
  let envelope: Envelope;
  try {
    envelope = JSON.parse(bytes.toString()) as Envelope;
  } catch {
    return { body: bytes, options: {} };
  }
  const { body, headers, properties, ...rest } = envelope;
  return {
    body: Buffer.from(body, 'base64'),
    options: {
      contentType: rest['content-type'],
      contentEncoding: rest['content-encoding'],
      correlationId: properties.correlation_id,
      replyTo: properties.reply_to,
      headers,
    },
  };
}

function envelopeOf({ content, properties: { headers = {} } }: GetMessage): Buffer {
  return Buffer.from(JSON.stringify({ body: content.toString('base64'), headers }));
}
