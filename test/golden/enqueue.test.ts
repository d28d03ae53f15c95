import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import { decodeEnvelope, encodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import { decodeTask } from '../../protocols/celery/message/message.ts';
import { reprArgs, reprKwargs } from '../../protocols/celery/message/repr.ts';
import { bind, bindingKey, fanoutChannel, keyspace, listKey } from '../../protocols/celery/brokers/redis.ts';
import { acceptSet, defaultLimits, encodeJson } from '../../protocols/celery/message/serializers.ts';
import * as json from '../../protocols/formats/json.ts';
import { callOf, embedOf, millisOf, publicationOf, unreadableHere } from './calls.ts';
import { CELERY_VERSIONS, type Enqueued, envelopesOf, load, type Message, valueOf, wordsOf } from './support.ts';

const KEYS = keyspace();
const OPTIONS = { accept: acceptSet(['json', 'yaml', 'msgpack']), limits: defaultLimits };

/** What we do not write, so only read. */
const READ_ONLY: Readonly<Record<string, string>> = {
  'enqueue-unknown-option': 'options that nobody knows do not become properties here',
  'enqueue-body-plain': 'we always write base64, which everybody reads',
};

/** Where the arguments on the wire are no longer those that Python showed. */
const OTHER_REPR: Readonly<Record<string, string>> = {
  'enqueue-argsrepr-given': 'the caller gave it',
  'enqueue-lone-surrogate': 'the caller gave it',
  'enqueue-by-name': 'it was a list, and we show every call as the tuple it is',
  'enqueue-tuples': 'tuples are lists in JSON',
  'enqueue-argsrepr-deep': 'tuples are lists in JSON',
  'enqueue-starmap': 'tuples are lists in JSON',
  'enqueue-chunks': 'tuples are lists in JSON',
};

for (const version of CELERY_VERSIONS) {
  const fixtures = load<Enqueued>(version, 'enqueue-');

  describe(`a message that Celery ${version} published`, () => {
    describe.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', (name, fixture) => {
      const wire = envelopesOf(fixture.wire);
      const copies = new Map(wire.map(({ envelope }) => [envelope, 0]));

      it('is found on the wire as often as it means to be', () => {
        expect(wire).toHaveLength(fixture.means.messages.length);
        if (name === 'enqueue-fanout-undeclared') expect(copies.size).toBe(0);
      });

      for (const [at, message] of fixture.means.messages.entries()) {
        const { envelope = '', target = '' } = wire[at] ?? {};
        const unreadable = unreadableHere(message);

        it.skipIf(unreadable !== undefined)(`${at}: is read as what it means${unreadable ?? ''}`, () => {
          const decoded = decodeTask(decodeEnvelope(Buffer.from(envelope)), OPTIONS);
          const typed = { typed: version !== '5.2' && message.contentType === 'application/json' };
          const { hardLimit, softLimit } = message;
          expect({ ...decoded }).toMatchObject({
            id: message.id,
            task: message.task,
            protocol: message.protocol,
            args: valueOf(message.args, typed),
            kwargs: valueOf(message.kwargs, typed),
            retries: message.retries,
            hardLimitMs: hardLimit === null ? undefined : hardLimit * 1000,
            softLimitMs: softLimit === null ? undefined : softLimit * 1000,
          });
          expect(decoded.eta?.getTime()).toBe(millisOf(message.eta));
          expect(decoded.expires?.getTime()).toBe(millisOf(message.expires));
          expect(decoded.group).toBe(message.group ?? undefined);
          expect(decoded.groupIndex).toBe(message.groupIndex ?? undefined);
          expect(decoded.rootId).toBe(message.rootId ?? message.id);
          expect(decoded.parentId).toBe(message.parentId ?? undefined);
          expect(decoded.replyTo).toBe(message.replyTo);
          expect(decoded.priority).toBe(message.priority);
          expect(decoded.exchange).toBe(message.exchange);
          expect(decoded.routingKey).toBe(message.routingKey);
          expect(decoded.redelivered).toBe(false);
          expect(decoded.shownAs).toBe(message.headers['shadow'] ?? message.task);
          expect(decoded.ignoreResult).toBe(message.headers['ignore_result']);
          expect(decoded.stamps).toEqual(message.headers['stamps'] ?? {});
          expect(decoded.stampedHeaders).toEqual(message.headers['stamped_headers'] ?? []);
          expect(decoded.embed).toEqual(embedOf(exactMessage(fixture.exact, at)));
        });

        it.skipIf(unreadable !== undefined)(`${at}: is passed on byte for byte${unreadable ?? ''}`, () => {
          const decoded = decodeTask(decodeEnvelope(Buffer.from(envelope)), OPTIONS);
          const { args, kwargs } = decoded.exactArguments();
          if (message.protocol === 2 && message.contentType === 'application/json' && 'text' in message.body) {
            expect(message.body.text.startsWith(`[${json.stringify(args)}, ${json.stringify(kwargs)}, {`)).toBe(true);
          }
        });

        const readOnly = READ_ONLY[name] ?? (message.protocol === 1 ? 'we publish protocol 2' : undefined);
        const why = readOnly === undefined ? unreadable : ` [skipped: ${readOnly}]`;
        it.skipIf(why !== undefined)(`${at}: is written byte for byte${why ?? ''}`, () => {
          const publication = publicationOf(version, message, exactMessage(fixture.exact, at));
          const ours = encodeEnvelope(publication, message.deliveryTag);
          const theirs = withoutLeaks(envelope);
          if (message.contentType === 'application/json' && message.headers['compression'] === undefined) {
            expect(ours).toBe(theirs);
            return;
          }
          // Compression, YAML and msgpack write one value in many ways: the rest is the same, and the body reads the same.
          expect(withoutBody(ours)).toBe(withoutBody(theirs));
          expect(decodeTask(decodeEnvelope(Buffer.from(ours)), OPTIONS).exactArguments()).toEqual(
            decodeTask(decodeEnvelope(Buffer.from(theirs)), OPTIONS).exactArguments(),
          );
        });

        const unlike =
          OTHER_REPR[name] ??
          (message.protocol === 1
            ? 'protocol 1 has none'
            : version === '5.2' && name.startsWith('enqueue-typed-')
              ? 'before kombu 5.3 it was text on the wire'
              : undefined);
        const skippedRepr = unlike === undefined ? '' : ` [skipped: ${unlike}]`;
        it.skipIf(unlike !== undefined)(`${at}: shows its arguments as Python does${skippedRepr}`, () => {
          const { args, kwargs } = callOf(message, exactMessage(fixture.exact, at));
          expect(reprArgs(args)).toBe(message.headers['argsrepr']);
          expect(reprKwargs(kwargs)).toBe(message.headers['kwargsrepr']);
        });

        if (message.list !== undefined && message.exchange === '') {
          it(`${at}: lies in the list of its queue and priority`, () => {
            expect(listKey(KEYS, message.routingKey, message.priority)).toBe(target);
          });
        }
        if (message.channel !== undefined) {
          it(`${at}: goes out on the channel of its exchange`, () => {
            expect(fanoutChannel(KEYS, 0, message.exchange, message.routingKey)).toBe(target);
          });
        }
      }

      it('has its queues bound as we bind them', () => {
        const recorded = fixture.wire.map(wordsOf).filter(([command]) => command === 'SADD');
        const ours = fixture.means.bindings.map(({ exchange, routingKey, pattern, queue }) => {
          const type = pattern === '' ? 'direct' : 'topic';
          return bind(KEYS, exchange, type, routingKey, queue).commands[0];
        });
        expect(ours).toEqual(recorded);
        for (const [, key] of recorded) expect(key).toBe(bindingKey(KEYS, key?.slice('_kombu.binding.'.length) ?? ''));
      });
    });
  });
}

describe('values that Celery 5.2 had no marks for', () => {
  const before = new Map(load<Enqueued>('5.2', 'enqueue-typed-').map((fixture) => [fixture.name, fixture]));
  const since = load<Enqueued>('5.6', 'enqueue-typed-').filter(({ name }) => before.has(name));

  it.each(since.map((fixture) => [fixture.name, fixture] as const))(
    '%s: are written as it wrote them',
    (name, fixture) => {
      const { args } = callOf(fixture.means.messages[0] as Message, exactMessage(fixture.exact, 0));
      const recorded = before.get(name)?.means.messages[0]?.body as { readonly text: string };
      expect(recorded.text.startsWith(`[${encodeJson(args, false)}, {`)).toBe(true);
    },
  );
});

/** In Python a repr that the caller gave is a property, too, by accident. */
function withoutLeaks(envelope: string): string {
  return json.edit(envelope, [
    { path: ['properties', 'argsrepr'], value: undefined },
    { path: ['properties', 'kwargsrepr'], value: undefined },
  ]);
}

function withoutBody(envelope: string): string {
  return json.edit(envelope, [{ path: ['body'], value: '""' }]);
}

function exactMessage(means: ReadonlyMap<string, unknown>, at: number): ReadonlyMap<string, unknown> {
  return (means.get('messages') as readonly ReadonlyMap<string, unknown>[])[at] as ReadonlyMap<string, unknown>;
}
