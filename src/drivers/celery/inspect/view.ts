import { ConfigError } from '../../../errors.ts';
import type { InspectedError, JobSet } from '../../../inspector.ts';

/** A message as it lies in the broker. Nothing is consumed to see it. */
export interface Found {
  readonly set: string;
  readonly queue: string | undefined;
  readonly bytes: Uint8Array;
  /** The broker's own handle: a list, the name of a claim, a file. */
  readonly handle: string;
  /** Where the page after this message begins. */
  readonly after: string;
  readonly dueAt?: Date | undefined;
  /** Of a quarantined message: why it is there. */
  readonly error?: InspectedError | undefined;
}

export interface QueueSize {
  readonly size: number;
  /** Undefined where the broker does not tell. */
  readonly consumers?: number | undefined;
}

/** What can be seen of a broker, and done to messages that no worker holds. */
export interface BrokerView {
  /** The sets of messages that can be listed. */
  readonly sets: readonly JobSet[];
  /** Sets from which messages can be deleted, put back into their queue, and run before their time. */
  readonly takes: {
    readonly delete: readonly string[];
    readonly requeue: readonly string[];
    readonly run: readonly string[];
  };
  open(): Promise<void>;
  /** Names of queues that the broker itself shows. */
  queueNames(): Promise<readonly string[]>;
  /** How many messages each set has, and each queue; a queue that is not there is missing. Commands do not grow with the messages. */
  sizes(queues: readonly string[]): Promise<{
    readonly sets: Readonly<Record<string, number>>;
    readonly queues: ReadonlyMap<string, QueueSize>;
  }>;
  /** The message of each queue that runs next, where it can be seen. */
  oldest(queues: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>>;
  /** Up to `count` messages of a set, from `position`; '' is its beginning. Fewer than `count` where the set ends. */
  page(set: string, queues: readonly string[], position: string, count: number): Promise<readonly Found[]>;
  /** Does it to one message; false where the message is gone. */
  take(action: 'delete' | 'requeue' | 'run', found: Found): Promise<boolean>;
  /** Removes all messages that wait in a queue; undefined where there is no such queue. */
  purge(queue: string): Promise<number | undefined>;
  close(): Promise<void>;
}

/** A broker of which nothing can be seen but what workers tell. */
export const NO_VIEW: BrokerView = {
  sets: [],
  takes: { delete: [], requeue: [], run: [] },
  open: () => Promise.resolve(),
  queueNames: () => Promise.resolve([]),
  sizes: () => Promise.resolve({ sets: {}, queues: new Map() }),
  oldest: () => Promise.resolve(new Map()),
  page: () => Promise.resolve([]),
  take: () => Promise.resolve(false),
  purge: () => Promise.resolve(undefined),
  close: () => Promise.resolve(),
};

/** The error for a cursor that did not come from a page. */
export function badCursor(): ConfigError {
  return new ConfigError('celery: no page has given this cursor');
}
