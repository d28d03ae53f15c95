/** A server that was frozen may carry out a claim this long after the client has given it up. */
const LATE_MS = 10_000;

/**
 * Knows when to look for claims whose reply was lost. A claim takes jobs in the server; where the connection ends before the reply has come, they are
 * claimed under this process's name and nothing here runs them. This process lives, so no other process gives them back: it has to, before it claims
 * more.
 *
 * One look is not enough. A server that was frozen carries out the claim when it goes on, which may be after the look. So there is a second one, ten
 * seconds later.
 */
export class LostReplies {
  #lost = false;
  #againAt = Number.POSITIVE_INFINITY;
  #recovering: Promise<void> | undefined;

  /** Whether there may be such claims. */
  get due(): boolean {
    return this.#lost || this.#recovering !== undefined || performance.now() >= this.#againAt;
  }

  /** A claim failed: its reply may be lost. */
  lost(): void {
    this.#lost = true;
  }

  /** Calls `work`, which gives such claims back, where that is due. One at a time; callers at the same time share it. Rejects as it does: it is due again. */
  recover(work: () => Promise<void>): Promise<void> {
    if (!this.due) return Promise.resolve();
    return (this.#recovering ??= this.#recover(work).finally(() => (this.#recovering = undefined)));
  }

  async #recover(work: () => Promise<void>): Promise<void> {
    const lost = this.#lost;
    // A reply that is lost meanwhile counts for the next time.
    this.#lost = false;
    try {
      await work();
    } catch (error) {
      this.#lost ||= lost;
      throw error;
    }
    this.#againAt = lost ? performance.now() + LATE_MS : Number.POSITIVE_INFINITY;
  }
}
