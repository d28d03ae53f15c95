/** A pause that somebody may cut short. One waits at a time. */
export class WakeUp {
  #wake: (() => void) | undefined;

  signal(): void {
    this.#wake?.();
  }

  /** Resolves after `ms`, when it rings, or when `signal` aborts. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done, { once: true });
      this.#wake = done;
    });
  }
}
