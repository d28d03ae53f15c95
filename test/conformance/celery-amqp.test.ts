import type { Channel, GetMessage, Options } from 'amqplib';
import type { CeleryAppOptions } from '../../src/drivers/celery/index.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { CELERY_GAPS, celeryMessages, celeryResult, celerySender, celerySource, CLAIMS_UNSEEN } from './celery.ts';
import { conformance, type System } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly rabbit: RabbitServer;
  readonly redis: RedisServer;
  readonly app: CeleryAppOptions;
}

type Kind = 'classic' | 'quorum';

const GAPS: Readonly<Record<string, string>> = {
  'an expired job is not run, and its result says so': 'RabbitMQ drops it by itself, as Celery asks it to',
  'a job that ends while the store is away is settled when it is back':
    'results are in Redis, which is there; acknowledged when it comes again: test/faults/amqp-recovery.test.ts',
};

const TO_THE_END =
  'RabbitMQ puts what is given back to a quorum queue without a delivery limit at its end; what holds: test/faults/amqp-recovery.test.ts';
const QUORUM_GAPS: Readonly<Record<string, string>> = {
  "an unknown task is claimed until the worker stops, with unknownTask: 'hold'": TO_THE_END,
  'quiet gives back what waits, in its order, and running jobs go on': TO_THE_END,
  'a job that does not end in time is given back to the head of its queue, and runs again': TO_THE_END,
};

/** RabbitMQ with results in Redis. A message's bytes are, for the suite, kombu's envelope of what AMQP holds. */
const system = (kind: Kind, gaps: Readonly<Record<string, string>> = {}): System<Store> => ({
  name: kind === 'classic' ? 'celery-amqp' : 'celery-amqp-quorum',
  async store() {
    const [rabbit, redis] = await Promise.all([startRabbit(), startRedis()]);
    const app = {
      broker: rabbit.url,
      backend: redis.url,
      taskCreateMissingQueueType: kind,
      // 28 queues that are not looked at here: classic ones are made faster.
      brokerNativeDelayedDeliveryQueueType: 'classic' as const,
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
    // It writes down where its quorum queues are every now and then; one made a moment before would not come back.
    if (kind === 'quorum') await rabbit.eval('[dets:sync(Table) || Table <- dets:all()], true.');
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
      const messages = await rabbit.get(queue);
      // A quorum queue has them back a moment after it was told so.
      const areBack = async (): Promise<boolean> =>
        (await rabbit.messages(queue)).ready >= messages.length ||
        (await rabbit.consumers()).some((consumer) => consumer.queue === queue);
      if (kind === 'quorum') await until('what was looked at is back', areBack);
      return messages;
    };
    return {
      ...celeryMessages,
      // RabbitMQ's own count of how often a message came back.
      lasting(bytes) {
        const { body, headers } = JSON.parse(String(bytes)) as Envelope;
        const { 'x-delivery-count': _, ...sent } = headers;
        return { body, headers: sent };
      },
      put: (queue, bytes) =>
        onChannel(rabbit, async (channel) => {
          const queueArguments = kind === 'quorum' ? { 'x-queue-type': kind } : {};
          await channel.assertQueue(queue, { durable: true, arguments: queueArguments });
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
  without: { ...CELERY_GAPS, ...CLAIMS_UNSEEN, ...GAPS, ...gaps },
});

conformance(system('classic'));
conformance(system('quorum', QUORUM_GAPS));

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
