import * as lifecycle from '../../../../protocols/celery/outcome/lifecycle.ts';
import { peek } from '../../../../protocols/celery/message/message.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { Chores } from '../../../chores.ts';
import type { Logger } from '../../../log.ts';
import type { PoisonReport } from '../../../source.ts';
import type { CeleryBroker, Claim, ResultBackend } from '../brokers/broker.ts';
import type { ResolvedApp } from '../options.ts';
import { moment } from './delivery.ts';
import type { Revoked } from './revoked.ts';
import { notYet, type Progress } from './write-executor.ts';

export interface UpkeepOptions {
  readonly broker: CeleryBroker;
  readonly backend: ResultBackend;
  readonly app: ResolvedApp;
  readonly revoked: Revoked;
  readonly log: () => Logger;
  /** Called for each message that was quarantined. */
  readonly poison: (report: PoisonReport) => void;
}

/** The writes of a worker outside its deliveries: for claims that did not become a delivery, and for revoked ids. */
export class Upkeep {
  readonly #options: UpkeepOptions;
  readonly #chores: Chores;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#chores = new Chores(options.log);
  }

  /** Aborts when the worker closes. */
  get signal(): AbortSignal {
    return this.#chores.signal;
  }

  /**
   * Does work on a claim outside of any delivery, and retries it until it succeeds. Without the retries the message would be stuck: while this process
   * lives it refreshes its claims, and no other worker gets the message. `what` completes `could not ... `.
   */
  write(claim: Claim, what: string, work: (done: Progress) => Promise<unknown>): void {
    const done = notYet();
    this.#chores.add(what, () => work(done), { queue: claim.queue, id: peek(claim.message).id });
  }

  /** Returns a claimed message to the front of its queue. A message that the broker has quarantined already stays there. */
  giveBack(claim: Claim): void {
    if (claim.message === undefined && claim.kept !== undefined) return;
    this.write(claim, 'give back a message', () => this.#options.broker.requeue(claim, 'front'));
  }

  /** Quarantines an unreadable message with the reason, and reports it. */
  quarantine(claim: Claim, thrown: unknown): void {
    const { broker, poison } = this.#options;
    const error =
      thrown instanceof WireError ? thrown : new WireError('celery', 'undecodable', String(thrown), { cause: thrown });
    const { code } = error;
    const { id, task } = peek(claim.message);
    const reason = error.message.replace(/^celery: /, '');
    this.write(claim, 'quarantine a message', async () => {
      const kept = await broker.quarantine(claim, { code, reason, ...(id === undefined ? {} : { id }) });
      const named = task === undefined ? reason : `${reason} (task '${task.slice(0, 200)}')`;
      poison({ system: 'celery', queue: claim.queue, id, code, reason: named, kept });
    });
  }

  /** Reads the revoked ids that the broker keeps, also while no worker runs. */
  async recallRevoked(): Promise<void> {
    const { broker, revoked } = this.#options;
    for (const [id, until] of (await broker.revokes?.recall()) ?? []) revoked.add(id, until * 1000);
  }

  /** Stores REVOKED for these ids, and keeps the ids in the broker if it can keep them. Never rejects: the ids are revoked in this worker already. */
  async recordRevoked(ids: readonly string[]): Promise<void> {
    const { broker, backend, app, revoked, log } = this.#options;
    const policy = { resultSerializer: app.resultSerializer, typed: app.typedJson };
    const stored =
      backend.kind === 'disabled'
        ? []
        : ids.map(async (id) => {
            const { meta } = lifecycle.revokedByCommand(id, policy, moment());
            await backend.store(id, meta);
          });
    const until = (Date.now() + revoked.ttlMs) / 1000;
    const writes = await Promise.allSettled([
      ...stored,
      ...(ids.length > 0 ? [broker.revokes?.remember(ids, until)] : []),
    ]);
    const failures = writes.filter((write) => write.status === 'rejected');
    if (failures[0] !== undefined)
      log().warn(
        { ids: failures.length, error: failures[0].reason as unknown },
        'some revoked ids could not be recorded',
      );
  }

  /** Resolves when no write is left, or after `limitMs`. */
  async settled(limitMs?: number): Promise<void> {
    await this.#chores.settled(limitMs);
  }

  close(): void {
    this.#chores.close();
  }
}
