import type { Task } from './task.ts';

/** The producer side: one verb; the options are the system's own, under the system's own names. */
export interface Client<Options, Receipt> {
  enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    call: { readonly args?: NoInfer<A>; readonly kwargs?: NoInfer<K> } & Options,
  ): Promise<Receipt>;
  close(): Promise<void>;
}

/** Where results are kept, for the systems that keep them. */
export interface ResultStore<State extends string> {
  state(id: string): Promise<State>;
  get(id: string, options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<unknown>;
  forget(id: string): Promise<void>;
}
