import type { TaskMeta } from '../../../../protocols/celery/outcome/result.ts';
import { ResultTimeoutError } from '../../../errors.ts';
import type { ResultBackend } from '../brokers/broker.ts';

/** How to wait for a result, and for how long. A time-out or an abort ends only the waiting: the task continues. */
export interface WaitOptions {
  /** @default no limit */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** The interval of the polls that run beside the subscription. @default 5 000 */
  readonly recheckMs?: number;
}

/** How to read a stored result. Either function may throw: that ends the waiting. */
export interface Awaited {
  readonly decode: (stored: Buffer) => TaskMeta;
  readonly ready: (meta: TaskMeta) => boolean;
}

/**
 * Waits until each of these tasks is ready. It subscribes, reads the stored results, and polls them at intervals, since a published message may be
 * lost. The metas are in the order of the ids. Throws ResultTimeoutError, the signal's reason, or what `decode` and `ready` throw.
 */
export async function awaitMetas(
  backend: Pick<ResultBackend, 'fetchMany' | 'watch'>,
  ids: readonly string[],
  { decode, ready }: Awaited,
  { timeoutMs, signal, recheckMs = 5_000 }: WaitOptions,
): Promise<readonly TaskMeta[]> {
  signal?.throwIfAborted();
  const found = new Map<string, TaskMeta>();
  const pending = new Set(ids);
  const watches = new Map<string, Promise<() => void>>();
  let finish: () => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const finished = new Promise<void>((resolve, reject) => ([finish, fail] = [resolve, reject]));
  finished.catch(() => undefined);

  const see = (id: string, stored: Buffer | undefined): void => {
    if (stored === undefined || !pending.has(id)) return;
    try {
      const meta = decode(stored);
      if (!ready(meta)) return;
      found.set(id, meta);
    } catch (error) {
      fail(error);
      return;
    }
    pending.delete(id);
    unwatch(id);
    if (pending.size === 0) finish();
  };
  const unwatch = (id: string): void => {
    void watches.get(id)?.then(
      (end) => end(),
      () => undefined,
    );
    watches.delete(id);
  };
  const look = async (): Promise<void> => {
    const left = [...pending];
    for (const [at, stored] of (await backend.fetchMany(left)).entries()) see(left[at] as string, stored);
  };
  const listen = async (): Promise<void> => {
    // If there are several, those that are ready already need no subscription.
    if (pending.size > 1) await look();
    for (const id of pending)
      watches.set(
        id,
        backend.watch(id, (stored) => see(id, stored)),
      );
    await Promise.all(watches.values());
    await look();
  };

  const abort = (): void => fail(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => fail(new ResultTimeoutError([...pending][0] ?? '', timeoutMs)), timeoutMs);
  const recheck = setInterval(() => void look().catch(() => undefined), recheckMs);
  try {
    if (pending.size > 0) {
      listen().catch(fail);
      await finished;
    }
    return ids.map((id) => found.get(id) as TaskMeta);
  } finally {
    clearTimeout(timer);
    clearInterval(recheck);
    signal?.removeEventListener('abort', abort);
    for (const id of [...watches.keys()]) unwatch(id);
  }
}
