import { ConnectionError } from '../errors.ts';
import type { AmqpConnection, Channel } from './amqp.ts';

/** The number of messages in a queue that no consumer has, and the number of its consumers. */
export interface AmqpQueueCount {
  readonly messages: number;
  readonly consumers: number;
}

/**
 * Asks for queues by passive declarations, which change nothing. Gives one answer for each name: undefined for a queue that does not exist or that
 * this user may not see. Rejects with ConnectionError when the connection ends.
 */
export async function countQueues(
  connection: AmqpConnection,
  names: readonly string[],
): Promise<readonly (AmqpQueueCount | undefined)[]> {
  const counts: (AmqpQueueCount | undefined)[] = [];
  let channel: Channel | undefined;
  for (const name of names) {
    channel ??= await openChannel(connection);
    try {
      const { messageCount, consumerCount } = await channel.checkQueue(name);
      counts.push({ messages: messageCount, consumers: consumerCount });
    } catch (error) {
      // The broker closes a channel that asked for a queue that does not exist (404), that this user may not see (403) or that is exclusive to
      // another connection (405).
      if (![403, 404, 405].includes((error as { readonly code?: number }).code ?? 0)) throw lost(error);
      channel = undefined;
      counts.push(undefined);
    }
  }
  await channel?.close().catch(() => undefined);
  return counts;
}

/** Removes the messages of a queue that no consumer has; undefined where the queue does not exist. */
export async function purgeQueue(connection: AmqpConnection, name: string): Promise<number | undefined> {
  const channel = await openChannel(connection);
  try {
    const { messageCount } = await channel.purgeQueue(name);
    await channel.close().catch(() => undefined);
    return messageCount;
  } catch (error) {
    if ((error as { readonly code?: number }).code === 404) return undefined;
    throw lost(error);
  }
}

async function openChannel(connection: AmqpConnection): Promise<Channel> {
  const { model } = await connection.linked();
  try {
    const channel = await model.createChannel();
    // The call that failed reports the reason.
    channel.on('error', () => undefined);
    return channel;
  } catch (cause) {
    throw lost(cause);
  }
}

function lost(cause: unknown): ConnectionError {
  return new ConnectionError(`amqp: cannot ask for queues: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
}
