import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import { decodeEnvelope, encodeEnvelope, markRedelivered } from '../../protocols/celery/brokers/envelope.ts';
import { bodyFailed, bodyOf, join, readMember } from '../../protocols/celery/canvas/chord.ts';
import {
  type CeleryPolicy,
  type CeleryWrites,
  custom,
  type ResultWrite,
  revokedBeforeStart,
  settle,
  started,
  rejectUnknown,
  type Writes,
} from '../../protocols/celery/outcome/lifecycle.ts';
import { decodeTask, type TaskMessage } from '../../protocols/celery/message/message.ts';
import { publisherOf } from '../../protocols/celery/outcome/policy.ts';
import { chordKeys, countMember } from '../../protocols/celery/canvas/redis-chord.ts';
import { ack, claim, keyspace, listKey, resultKey } from '../../protocols/celery/brokers/redis.ts';
import { decodeMeta } from '../../protocols/celery/outcome/result.ts';
import { acceptSet, defaultLimits } from '../../protocols/celery/message/serializers.ts';
import * as json from '../../protocols/formats/json.ts';
import type { Failure, Moment } from '../../protocols/job.ts';
import {
  type Argument,
  bytesOf,
  CELERY_VERSIONS,
  type CeleryVersion,
  envelopesOf,
  type Fixture,
  type Life,
  load,
  type RecordedError,
  type Step,
  takenFrom,
  textOf,
  valueOf,
  wordsOf,
} from './support.ts';

const KEYS = keyspace();
const OPTIONS = { accept: acceptSet(['json']), limits: defaultLimits };

/** What we leave to others, or do in another way on purpose. */
const NOT_OURS: Readonly<Record<string, string>> = {
  'life-reject': 'a handler here has no way to ask for it',
  'life-reject-requeue': 'a handler here has no way to ask for it',
};

const NO_GROUP_INDEX = 'groups made in a worker have no group_index there';
const NO_GROUP_OF_BODY = 'the body of a chord that a worker starts has no group_id there';
/** What 5.6 does in another way than the versions before it. */
const NOT_THAT_VERSION: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '5.2': {
    'life-chain-into-chord': NO_GROUP_OF_BODY,
    'life-failure-ignored-result': 'errors are stored although the call ignores its result',
    'life-retry-full': 'a retry of a message that expires fails there, and the task is lost without a result',
    'life-chord-last-part-after-failure': NO_GROUP_INDEX,
    'life-failure-link-error-old': NO_GROUP_INDEX,
    'life-failure-link-error-elsewhere': NO_GROUP_INDEX,
    'life-link-group': NO_GROUP_INDEX,
    'life-link-several': NO_GROUP_INDEX,
  },
  '5.4': {
    'life-chain-into-chord': NO_GROUP_OF_BODY,
    'life-failure-ignored-result': 'errors are stored although the call ignores its result',
  },
  '5.6': {},
};

for (const version of CELERY_VERSIONS) {
  const fixtures = load<Life>(version, 'life-').map((fixture) => [fixture.name, fixture] as const);

  describe(`a message in a worker of Celery ${version}`, () => {
    describe.each(fixtures)('%s', (name, fixture) => {
      const { means, wire } = fixture;
      const taken = takenFrom(wire);

      it('was in the list of its queue, and is claimed as we would claim it', () => {
        const { routingKey, priority, deliveryTag } = means.message;
        const message = decodeTask(decodeEnvelope(Buffer.from(taken.envelope)), OPTIONS);
        // kombu 5.2 restores to the list of priority 0, whatever the message's priority.
        const forgotten = version === '5.2' && message.redelivered;
        expect(taken.list).toBe(listKey(KEYS, routingKey, forgotten ? 0 : priority));
        const limits = { messageBytes: 1e6, batchBytes: 1e6 };
        const [command = []] = claim(KEYS, [routingKey], { max: 1, prefix: '', at: 0, limits }).commands;
        // Our script puts the same text together on the server.
        const tail = command.map(String).find((word) => word.startsWith(', "'));
        const held = commandsOf(fixture).filter(([verb, key]) => verb === 'HSET' && key === 'unacked');
        expect(held.at(-1)).toEqual(['HSET', 'unacked', deliveryTag, `[${taken.envelope}${tail}`]);
      });

      if (means.settled === 'ack') {
        it('leaves unacked as it does with us', () => {
          const commands = commandsOf(fixture);
          for (const command of ack(KEYS, [means.claim.deliveryTag]).commands) expect(commands).toContainEqual(command);
        });
      }

      const reason = NOT_OURS[name] ?? NOT_THAT_VERSION[version]?.[name];
      it.skipIf(reason !== undefined)(
        `ends in the writes that Celery made${reason ? ` [skipped: ${reason}]` : ''}`,
        () => {
          const message = decodeTask(decodeEnvelope(Buffer.from(taken.envelope)), OPTIONS);
          const { write, before } = settled(fixture, message);

          // The last part of a chord brings the chord's body, or its errbacks.
          const follow = name.startsWith('life-chord-last') ? completed(fixture, message, write) : undefined;
          const results = [...before, ...write.results, ...(follow?.results ?? [])];
          expect(results.map(({ id }) => resultKey('', id))).toEqual(means.results.map(({ key }) => key));
          const same = means.outcome.kind === 'retry' ? lastLineOnly : follow === undefined ? asItIs : withoutTraceback;
          expect(results.map(({ meta }) => same(asIn(version, String(meta))))).toEqual(
            means.results.map(({ text }) => same(asIn(version, text))),
          );
          expect(write.chords).toEqual(
            commandsOf(fixture)
              .filter(([verb, key]) => verb === 'SETEX' && key?.endsWith('.s'))
              .map(([, key = '', , size]) => ({
                group: key.slice('celery-taskset-meta-'.length, -2),
                size: Number(size),
                saved: undefined,
              })),
          );

          const parts = write.chordParts.map(({ member }) => member);
          const recorded = commandsOf(fixture).filter(([verb, key]) => verb === 'ZADD' && key?.endsWith('.j'));
          expect(parts).toEqual(recorded.map(([, , , member]) => member));
          expect(
            write.chordParts.map(({ group, groupIndex }) => [`celery-taskset-meta-${group}.j`, String(groupIndex)]),
          ).toEqual(recorded.map(([, key, score]) => [key, score]));
          for (const part of write.chordParts) {
            const { group = '', member, groupIndex: index } = part;
            const counted = countMember(chordKeys('', group), { member, index, again: undefined }, true, 86_400);
            for (const command of counted.commands) expect(commandsOf(fixture)).toContainEqual(command.map(String));
          }

          const publications = [
            ...write.publish,
            ...write.errbacks,
            ...(follow?.publish ?? []),
            ...(follow?.errbacks ?? []),
          ];
          const ours = publications.map((publication, at) => {
            const envelope = encodeEnvelope(publication, means.published[at]?.deliveryTag ?? '');
            return {
              target: listKey(KEYS, publication.routingKey, publication.priority),
              envelope: asIn(version, envelope),
            };
          });
          const theirs = envelopesOf(wire).filter(({ envelope }) => !isRestored(envelope));
          const again = means.outcome.kind === 'retry';
          expect(ours).toEqual(
            theirs.map(({ target, envelope }) => ({
              target,
              envelope: asIn(version, again ? asRetried(version, envelope) : envelope),
            })),
          );
        },
      );

      for (const [at, { text, meta }] of means.results.entries()) {
        it(`result ${at}: is read as what it means`, () => {
          const read = decodeMeta(text);
          expect(read.status).toBe(meta['status']);
          expect(read.result).toEqual(valueOf(meta['result'], { typed: version !== '5.2' }));
          expect(read.traceback).toBe(meta['traceback'] ?? undefined);
          expect(read.taskId).toBe(meta['task_id']);
          expect(read.parentId).toBe(meta['parent_id']);
          expect(read.groupId).toBe(meta['group_id']);
          expect(read.children).toEqual(meta['children']);
          const done = meta['date_done'] as string | null;
          expect(read.dateDone?.getTime()).toBe(
            done === null ? undefined : Date.parse(done.endsWith('+00:00') ? done : `${done}Z`),
          );
        });
      }

      const restored = commandsOf(fixture).find(([verb, , envelope]) => verb === 'RPUSH' && isRestored(envelope ?? ''));
      if (restored !== undefined) {
        it('came back marked as redelivered, and otherwise as it was', () => {
          const held = wire.find(({ command }) => JSON.stringify(command[0]) === '{"text":"HGET"}');
          const reply = held?.reply as { readonly text: string } | undefined;
          const [envelope] = json.parseExact(reply?.text ?? '[]') as readonly unknown[];
          expect(String(markRedelivered(Buffer.from(json.stringify(envelope))))).toBe(restored[2]);
          expect(decodeTask(decodeEnvelope(Buffer.from(taken.envelope)), OPTIONS).redelivered).toBe(true);
        });
      }
    });
  });
}

function settled(
  fixture: Fixture<Life>,
  message: TaskMessage,
): { readonly write: CeleryWrites; readonly before: readonly ResultWrite[] } {
  const { means } = fixture;
  const { outcome } = means;
  const policy = policyOf(fixture);
  const moment = momentOf(fixture);
  const typed = { typed: true, exact: true };
  switch (outcome.kind) {
    case 'success': {
      const before: ResultWrite[] = [];
      if (message.task === 'tasks.tracked') {
        const start = started(message, { pid: fixture.frozen.pid, hostname: policy.nodename }, policy);
        if (start !== undefined) before.push(start);
      }
      if (message.task === 'tasks.progress') before.push(custom(message, 'PROGRESS', { done: 3, of: 10 }, policy));
      const value = valueOf((fixture.exact.get('outcome') as ReadonlyMap<string, unknown>).get('value'), typed);
      return { write: settle(message, { kind: 'success', value }, policy, moment).write, before };
    }
    case 'error': {
      const error = failureOf(fixture, outcome.error);
      return { write: settle(message, { kind: 'error', error, retriable: false }, policy, moment).write, before: [] };
    }
    case 'retry': {
      const error = failureOf(fixture, outcome.error);
      return {
        write: settle(message, { kind: 'retry', delayMs: outcome.delayMs, error }, policy, moment).write,
        before: [],
      };
    }
    case 'ignore':
      return { write: settle(message, { kind: 'discard', reason: 'ignored' }, policy, moment).write, before: [] };
    case 'expired':
      return { write: revokedBeforeStart(message, 'expired', policy, moment).write, before: [] };
    case 'unknown-task':
      return { write: rejectUnknown(message, policy, moment).write, before: [] };
    case 'reject':
      throw new Error('there is no such outcome here');
  }
}

/** The options of fixtures/capture/celery/tasks.py, and the settings that the scenario made. */
function policyOf({ about, frozen, means }: Fixture<Life>): CeleryPolicy {
  const { task } = means.message;
  return {
    ignoreResult: task === 'tasks.quiet',
    storeErrorsEvenIfIgnored: about.includes('task_store_errors_even_if_ignored = True'),
    acksLate: task.startsWith('tasks.late') || task === 'tasks.reject',
    acksOnFailureOrTimeout: !about.includes('task_acks_on_failure_or_timeout = False'),
    retry: { max: task === 'tasks.retry_never' ? 0 : 3 },
    resultSerializer: 'json',
    resultExtended: about.includes('result_extended = True'),
    typed: true,
    nodename: `celery@${frozen.host}`,
    origin: `gen${frozen.pid}@${frozen.host}`,
    replyTo: frozen.oid,
    route: (_task, options) => ({ exchange: '', routingKey: (options.get('queue') as string | undefined) ?? 'celery' }),
    taskSerializer: 'json',
    inheritParentPriority: false,
    chords: 'counted',
    takesRequest: (name) => name === 'tasks.on_error_new',
  };
}

function momentOf({ frozen, means }: Fixture<Life>): Moment {
  const text = JSON.stringify(means.published);
  // Ids of messages and groups in the order they were given out; those of deliveries are the broker's.
  const tags = new Set(means.published.map(({ deliveryTag }) => deliveryTag));
  const ids = frozen.ids.filter((id) => !tags.has(id) && text.includes(id));
  return {
    now: new Date(frozen.workerClock ?? frozen.clock),
    random: 0,
    newId: () => ids.shift() ?? 'more ids than Celery took',
  };
}

/** The error with the traceback that Python wrote for it. That of a retry is Retry's own. */
function failureOf({ means }: Fixture<Life>, { type, module, args }: RecordedError): Failure {
  const traceback =
    means.outcome.kind === 'retry'
      ? ''
      : (means.results.map(({ meta }) => meta['traceback']).find((text) => typeof text === 'string') ?? '');
  return { type, module, message: String(args[0]), args, traceback: String(traceback) };
}

function commandsOf({ wire }: Fixture<Life>): readonly (readonly string[])[] {
  return wire.map(wordsOf);
}

/** What follows when the counter of a chord is full, out of what Redis held. */
function completed(fixture: Fixture<Life>, message: TaskMessage, { chordParts: [part] }: CeleryWrites): Writes {
  const policy = policyOf(fixture);
  const publisher = publisherOf(message, policy, momentOf(fixture));
  // In a transaction of its own: the next EXEC has the answer.
  const asked = fixture.wire.findIndex((step) => textOf(step.command[0]) === 'ZRANGE');
  const executed = fixture.wire.find((step, at) => at > asked && textOf(step.command[0]) === 'EXEC');
  const { array: replies } = (executed as Step).reply as {
    readonly array: readonly [{ readonly array: readonly Argument[] }];
  };
  const [{ array }] = replies;
  const joined = join(
    array.map((member) => readMember(bytesOf(member), 'json', defaultLimits)),
    undefined,
  );
  switch (joined.kind) {
    case 'joined':
      return bodyOf(part?.body, joined.results, policy, publisher);
    case 'failed':
      return bodyFailed(part?.body, joined.failure, policy, publisher);
    case 'missing':
      throw new Error('nothing was saved that could be missing');
  }
}

function asItIs(text: string): string {
  return text;
}

function withoutTraceback(text: string): string {
  return json.edit(text, [{ path: ['traceback'], value: 'null' }]);
}

/** A result whose traceback is its last line: what the frames of a retry look like is each language's own. */
function lastLineOnly(text: string): string {
  const { traceback } = JSON.parse(text) as { readonly traceback: string };
  const last = traceback.trimEnd().split('\n').at(-1);
  return json.edit(text, [{ path: ['traceback'], value: JSON.stringify(last) }]);
}

function isRestored(envelope: string): boolean {
  return envelope.startsWith('{"body"') && envelope.includes('"redelivered": true');
}

/** Without what a retry in Python leaves among the properties by accident; 5.2 also forgot who sent the task first. */
function asRetried(version: CeleryVersion, envelope: string): string {
  const retried = json.edit(envelope, [
    { path: ['properties', 'origin'], value: undefined },
    { path: ['properties', 'replaced_task_nesting'], value: undefined },
  ]);
  return version === '5.2' ? json.edit(retried, [{ path: ['headers', 'origin'], value: '"gen71@web1"' }]) : retried;
}

/**
 * The text with what cannot or need not be equal made equal: we say that the language is JavaScript; and a worker of 5.2 wrote
 * dates without an offset and had no headers for stamps.
 */
function asIn(version: CeleryVersion, text: string): string {
  const same = text
    .replace('"lang": "js"', '"lang": "py"')
    // Python shows the arguments of a signature that nothing was added to as the list they are.
    .replace(/"argsrepr": "\[(.*?)\]", "kwargsrepr"/, '"argsrepr": "($1)", "kwargsrepr"');
  if (version !== '5.2') return same;
  return same
    .replace(/("date_done": "[^"+]*)\+00:00"/, '$1"')
    .replace(', "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}', '');
}
