/** A server that was frozen may execute a claim this long after the client has given it up. */
const LATE_MS = 10_000;

/**
 * Decides when to search for claims whose reply was lost. A claim takes jobs in the server. When the connection ends before the reply arrives, the
 * jobs are claimed under this process's name and do not run here. This process is alive, so no other process gives them back: this process must do it
 * before it claims more.
 *
 * One search is not enough. A server that was frozen executes the claim when it resumes, which may be after the search. So there is a second search,
 * ten seconds later.
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

  /**
   * Calls `work`, which gives such claims back, when a search is due. Only one runs at a time; concurrent callers share it. When `work` rejects, this
   * rejects, and a search is due again.
   */
  recover(work: () => Promise<void>): Promise<void> {
    if (!this.due) return Promise.resolve();
    return (this.#recovering ??= this.#recover(work).finally(() => (this.#recovering = undefined)));
  }

  async #recover(work: () => Promise<void>): Promise<void> {
    const lost = this.#lost;
    // Cleared before `work`: a reply that is lost meanwhile makes the next search due.
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
