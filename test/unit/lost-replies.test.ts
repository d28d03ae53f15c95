import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LostReplies } from '../../src/lost-replies.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('lost replies', () => {
  test('are looked for after a loss, and once more ten seconds later, for a server that was frozen', async () => {
    const replies = new LostReplies();
    const look = vi.fn<() => Promise<void>>(() => Promise.resolve());
    await replies.recover(look);
    expect(look).toHaveBeenCalledTimes(0);
    replies.lost();
    expect(replies.due).toBe(true);
    await replies.recover(look);
    await replies.recover(look);
    expect(look).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(9_999);
    expect(replies.due).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await replies.recover(look);
    expect(look).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(60_000);
    await replies.recover(look);
    expect(look).toHaveBeenCalledTimes(2);
  });

  test('stay due where the look fails', async () => {
    const replies = new LostReplies();
    replies.lost();
    await expect(replies.recover(() => Promise.reject(new Error('away')))).rejects.toThrow('away');
    expect(replies.due).toBe(true);
    await replies.recover(() => Promise.resolve());
    expect(replies.due).toBe(false);
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(replies.recover(() => Promise.reject(new Error('away')))).rejects.toThrow('away');
    expect(replies.due).toBe(true);
  });

  test('of a loss during the look are looked for again', async () => {
    const replies = new LostReplies();
    replies.lost();
    await replies.recover(async () => replies.lost());
    expect(replies.due).toBe(true);
  });

  test('are looked for by one of several callers, and the others wait for it', async () => {
    const replies = new LostReplies();
    replies.lost();
    let done = (): void => {};
    const look = vi.fn<() => Promise<void>>(() => new Promise((resolve) => (done = resolve)));
    const calls = [replies.recover(look), replies.recover(look)];
    expect(look).toHaveBeenCalledTimes(1);
    done();
    await Promise.all(calls);
    expect(replies.due).toBe(false);
  });
});
