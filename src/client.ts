import type { Task } from './task.ts';

/** The producer side: one verb; the options are the system's own, under the system's own names. */
export interface Client<Options, Receipt> {
  /** Send a job. Resolves when the broker has it. Rejects with ConnectionError where it does not answer, ConfigError for options that cannot be. */
  enqueue<A extends readonly unknown[], K, R>(
    task: Task<A, K, R> | string,
    call: { readonly args?: NoInfer<A>; readonly kwargs?: NoInfer<K> } & Options,
  ): Promise<Receipt>;
  /** Close the connections. */
  close(): Promise<void>;
}

/** Where results are kept, for the systems that keep them. */
export interface ResultStore<State extends string> {
  /** What became of it, in the system's own word. */
  state(id: string): Promise<State>;
  /** Wait for the result. Rejects with RemoteError where the job failed, ResultTimeoutError after `timeoutMs`. */
  get(id: string, options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<unknown>;
  /** Remove what is stored. */
  forget(id: string): Promise<void>;
}
