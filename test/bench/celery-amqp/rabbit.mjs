// A RabbitMQ of the bench's own, and what the bench asks of it.
import { createRequire } from 'node:module';
import { tsImport } from 'tsx/esm/api';

const amqp = createRequire(new URL('../../../package.json', import.meta.url))('amqplib');
const { startRabbit: start } = await tsImport('../../support/rabbit.ts', import.meta.url);

export const QUEUE = 'celery';

/** @param file the rabbitmq-server to run */
export async function startRabbit(file) {
  process.env.JOBGLOT_RABBITMQ_SERVER = file;
  const server = await start();
  const connection = await amqp.connect(server.url, { noDelay: true });
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(QUEUE, { durable: true });
  await channel.assertExchange(QUEUE, 'direct', { durable: true });
  await channel.bindQueue(QUEUE, QUEUE, QUEUE);
  return {
    url: server.url,
    pid: server.pid,
    version: server.version,
    channel,
    empty: () => channel.purgeQueue(QUEUE),
    /** Waiting and unacknowledged messages together. */
    async left() {
      const { ready, unacked } = await server.messages(QUEUE);
      return ready + unacked;
    },
    async stop() {
      await connection.close();
      await server[Symbol.asyncDispose]();
    },
  };
}
