import { randomUUID } from 'node:crypto';
import type { Options } from 'amqplib';
import { until } from '../support/until.ts';
import type { RabbitServer } from '../support/rabbit.ts';
import type { Handler } from '../../src/task.ts';

/** A task as Celery publishes it, written by amqplib's codec and not by ours. */
export interface Sent {
  readonly id?: string;
  readonly task?: string;
  readonly args?: readonly unknown[];
  /** Seconds from now. */
  readonly countdown?: number;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly body?: string | Buffer;
  readonly options?: Options.Publish;
  readonly exchange?: string;
}

/** Publish all of them on one connection, and wait until the broker has them. Their ids. */
export async function send(rabbit: RabbitServer, queue: string, ...tasks: readonly Sent[]): Promise<readonly string[]> {
  const connection = await rabbit.connect();
  const channel = await connection.createConfirmChannel();
  const ids = tasks.map((task) => {
    const { exchange = '', args = [], body = JSON.stringify([args, {}, EMBED]) } = task;
    const { content, id } = { content: Buffer.from(body), id: task.id ?? randomUUID() };
    channel.publish(exchange, queue, content, optionsOf({ ...task, id }));
    return id;
  });
  await channel.waitForConfirms();
  await connection.close();
  return ids;
}

const EMBED = { callbacks: null, errbacks: null, chain: null, chord: null };

function optionsOf({ id, task = 'ok', countdown, headers = {}, options = {} }: Sent): Options.Publish {
  const eta = countdown === undefined ? null : new Date(Date.now() + countdown * 1000).toISOString();
  return {
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    persistent: true,
    correlationId: id as string,
    replyTo: '',
    priority: 0,
    headers: {
      lang: 'py',
      task,
      id,
      shadow: null,
      eta,
      expires: null,
      group: null,
      group_index: null,
      retries: 0,
      timelimit: [null, null],
      root_id: id,
      parent_id: null,
      argsrepr: '()',
      kwargsrepr: '{}',
      origin: 'gen1@by-hand',
      ignore_result: false,
      ...headers,
    },
    ...options,
  };
}

/** Handlers that wait until the test lets them go on. */
export class Gates {
  readonly #open = new Map<string, () => void>();
  readonly #opened = new Set<string>();

  readonly handler: Handler = async ({ id }) => {
    if (!this.#opened.has(id)) await new Promise<void>((resolve) => this.#open.set(id, resolve));
    return 'through';
  };

  open(...ids: readonly string[]): void {
    for (const id of ids) {
      this.#opened.add(id);
      this.#open.get(id)?.();
    }
  }
}

/** Until the queue holds so many messages, of which consumers hold so many. A queue that is not there has none. */
export function holds(rabbit: RabbitServer, queue: string, ready: number, unacked: number): Promise<void> {
  return until(`${queue} has ${ready} ready and ${unacked} unacknowledged messages`, async () => {
    const counts = (await rabbit.allMessages())[queue];
    return (counts?.ready ?? 0) === ready && (counts?.unacked ?? 0) === unacked;
  });
}

/** Until the queue has so many consumers. */
export function consumed(rabbit: RabbitServer, queue: string, times = 1): Promise<void> {
  return until(`${queue} has ${times} consumers`, async () => {
    return (await rabbit.consumers()).filter((consumer) => consumer.queue === queue).length === times;
  });
}

/** What the broker says when a message is settled twice, or on a channel that did not bring it. */
export const SETTLED_TWICE = /unknown delivery tag/;
