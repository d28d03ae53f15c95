import { createInterface } from 'node:readline';
import type { Child } from './child.ts';

/** A line of the other side: the answer to the question with this id. Its first, unasked, has the id 0. */
interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: unknown;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Questions to a process, each a line of JSON; it answers with lines, in any order. */
export class Dialogue implements AsyncDisposable {
  /** What it says when it is ready. Rejects, with its log, when it ends before that. */
  readonly hello: Promise<unknown>;
  readonly #child: Child;
  readonly #pending = new Map<number, Waiting>();
  #lastId = 0;

  /** What the other side raised becomes an error by `toError`. */
  constructor(child: Child, toError: (raised: unknown) => Error) {
    this.#child = child;
    this.hello = this.#answerTo(0);
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { id, value, error } = JSON.parse(line) as Answer;
      const waiting = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(toError(error));
    });
    void child.gone.then(() => {
      for (const waiting of this.#pending.values()) waiting.reject(child.ended());
      this.#pending.clear();
    });
  }

  /** Rejects with what the other side raised, or, with its log, when it has ended. */
  ask(question: object): Promise<unknown> {
    if (this.#child.isGone) return Promise.reject(this.#child.ended());
    const id = ++this.#lastId;
    const answer = this.#answerTo(id);
    this.#child.stdin.write(`${JSON.stringify({ id, ...question })}\n`);
    return answer;
  }

  /** What it wrote to its standard error, for a failure message. */
  log(): string {
    return this.#child.log;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#child.end('SIGTERM');
  }

  #answerTo(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }
}
