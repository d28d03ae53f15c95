import { join } from 'node:path';
import { byAge, messageFile, type MessageFile } from '../../../../protocols/celery/brokers/filesystem.ts';
import { list, read, remove } from '../../../transports/filesystem.ts';
import { badCursor, type BrokerView, type Found, NO_VIEW, type QueueSize } from './view.ts';

/** What a folder shows: the files that no worker has taken. */
export class FilesystemView implements BrokerView {
  readonly sets: BrokerView['sets'] = [{ name: 'queued', kind: 'waiting', byQueue: true }];
  readonly takes: BrokerView['takes'] = { delete: ['queued'], requeue: [], run: [] };
  readonly #folder: string;

  /** @param folder where workers read from */
  constructor(folder: string) {
    this.#folder = folder;
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  async queueNames(): Promise<readonly string[]> {
    return [...new Set((await this.#files()).map(({ queue }) => queue))];
  }

  async sizes(queues: readonly string[]): ReturnType<BrokerView['sizes']> {
    const files = await this.#files();
    const sizes = new Map<string, QueueSize>(
      queues.map((queue) => [queue, { size: files.filter((file) => file.queue === queue).length }]),
    );
    return { sets: { queued: files.length }, queues: sizes };
  }

  oldest(): Promise<ReadonlyMap<string, Uint8Array>> {
    return NO_VIEW.oldest([]);
  }

  /** In the order they run; `position` is the name of a file. */
  async page(_set: string, queues: readonly string[], position: string, count: number): Promise<readonly Found[]> {
    const last = position === '' ? undefined : messageFile(position);
    if (position !== '' && last === undefined) throw badCursor();
    const files = (await this.#files()).filter(
      (file) => queues.includes(file.queue) && (last === undefined || byAge(file, last) > 0),
    );
    const found: Found[] = [];
    for (const { name, queue } of files) {
      if (found.length === count) break;
      const bytes = await read(join(this.#folder, name));
      // Taken meanwhile.
      if (bytes !== undefined) found.push({ set: 'queued', queue, bytes, handle: name, after: name });
    }
    return found;
  }

  take(_action: string, { handle }: Found): Promise<boolean> {
    return remove(join(this.#folder, handle));
  }

  async purge(queue: string): Promise<number | undefined> {
    let count = 0;
    for (const file of await this.#files())
      if (file.queue === queue && (await remove(join(this.#folder, file.name)))) count++;
    return count;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #files(): Promise<readonly MessageFile[]> {
    const names = (await list(this.#folder)) ?? [];
    return names
      .map(messageFile)
      .filter((file) => file !== undefined)
      .toSorted(byAge);
  }
}
