/** A pause that a wake-up signal can end early. Only one caller waits at a time. */
export class WakeUp {
  #wake: (() => void) | undefined;

  signal(): void {
    this.#wake?.();
  }

  /** Resolves after `ms`, at the wake-up signal, or when `signal` aborts. */
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
