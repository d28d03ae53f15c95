import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { decodeEnvelope, encodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import { decodeTask, type Publication } from '../../protocols/celery/message/message.ts';
import { chordKeys, chordSize } from '../../protocols/celery/canvas/redis-chord.ts';
import { acceptSet, defaultLimits, encodeJson } from '../../protocols/celery/message/serializers.ts';
import { parseExact } from '../../protocols/formats/json.ts';
import type { ChordCounter } from '../../src/drivers/celery/brokers/broker.ts';
import { MemoryBroker } from '../../src/drivers/celery/brokers/memory.ts';
import {
  chain,
  chord,
  chunks,
  CeleryClient,
  Decimal,
  group,
  immutable,
  link,
  linkError,
  PlainDate,
  signature,
  stamp,
  withOptions,
  xstarmap,
} from '../../src/drivers/celery/index.ts';
import { MemoryResults } from '../../src/drivers/celery/results/memory.ts';
import { defineTask } from '../../src/task.ts';
import { type Enqueued, envelopesOf, load } from './support.ts';

/** The workflows that Python was recorded starting, written down for our client. `about` in the fixture is the Python. */

const add = defineTask<(x: number, y: number) => number>('tasks.add');
const total = defineTask<(numbers: readonly number[]) => number>('tasks.total');
const echo = defineTask<(...args: unknown[]) => unknown>('tasks.echo');
const onErrorOld = defineTask<(id: string) => void>('tasks.on_error_old');
const onErrorNew = defineTask('tasks.on_error_new');

const a = (x: number, y?: number) => (y === undefined ? signature('tasks.add', [x]) : signature('tasks.add', [x, y]));
const one = () => signature(add, [1, 1]);
const two = () => signature(add, [2, 2]);
const three = () => signature(add, [3, 3]);
const sum = () => signature(total);
const twoLinked = () => linkError(link(chain(a(1, 2), a(3)), signature(echo)), signature(onErrorOld));

type Start = (client: CeleryClient) => Promise<unknown>;

const STARTS: Readonly<Record<string, Start>> = {
  link: (client) => client.apply(signature(add, [2, 3]), { link: signature(add, [10]) }),
  'link-immutable': (client) => client.enqueue(add, { args: [2, 3], link: immutable(signature(add, [10, 20])) }),
  'link-several': (client) =>
    client.apply(
      signature(add, [2, 3], {
        link: [signature(add, [10]), signature(echo, [], { kwargs: { k: 'v' }, queue: 'mail', countdown: 5 })],
      }),
    ),
  'link-error': (client) => client.enqueue(add, { args: [2, 3], linkError: signature(onErrorOld) }),
  'link-both': (client) =>
    client.apply(signature(add, [2, 3]), {
      link: signature(add, [10]),
      linkError: [signature(onErrorOld), signature(onErrorNew)],
    }),
  chain: (client) => client.apply(chain(a(1, 2), a(3), a(4))),
  'chain-options': (client) =>
    client.apply(
      chain(
        signature(add, [1, 2], { priority: 3 }),
        signature(add, [3], { queue: 'mail' }),
        immutable(signature(add, [4, 5])),
      ),
      { link: signature(echo), linkError: signature(onErrorOld) },
    ),
  'chain-then-group': (client) => client.apply(chain(a(1, 2), group(a(3), a(4)))),
  'chain-typed': (client) =>
    client.apply(chain(signature(echo, [new PlainDate('2026-01-02')]), signature('tasks.add', [new Decimal('1.5')]))),
  group: (client) => client.apply(group(one(), two(), three())),
  chord: (client) => client.apply(chord([one(), two()], sum())),
  'chord-of-chains': (client) => client.apply(chord([chain(one(), signature(add, [2])), three()], sum())),
  'group-into-chain': (client) => client.apply(chain(group(one(), two()), sum(), signature(add, [5]))),
  starmap: (client) => client.apply(xstarmap(add, [[1, 2], [3, 4]])), // prettier-ignore
  chunks: (client) => client.apply(chunks(add, [[1, 2], [3, 4], [5, 6]], 2)), // prettier-ignore
  stamped: (client) => client.apply(stamp(signature(add, [2, 3]), { tenant: 'acme', build: [1, 2] })),
  'stamped-chain': (client) => client.apply(stamp(chain(a(1, 2), a(3)), { tenant: 'acme' })),

  'canvas-chain-of-one': (client) => client.apply(chain(a(1, 2))),
  'canvas-chain-in-chain': (client) => client.apply(chain(a(1, 2), chain(a(3), a(4)), a(5))),
  'canvas-chain-links': (client) => client.apply(twoLinked()),
  'canvas-chain-links-then': (client) => client.apply(chain(twoLinked(), a(5))),
  'canvas-chain-task-id': (client) => client.apply(chain(a(1, 2), a(3)), { taskId: 'sum-1' }),
  'canvas-chain-set': (client) => client.apply(withOptions(chain(a(1, 2), a(3)), { queue: 'mail' }), { priority: 6 }),
  'canvas-chain-group-of-one': (client) => client.apply(chain(a(1, 2), group(a(3)))),
  'canvas-chain-group-inside': (client) =>
    client.apply(chain(a(1, 2), group(a(3), a(4)), signature('tasks.total'), a(5))),
  'canvas-chain-of-groups': (client) =>
    client.apply(chain(group(one(), two()), group(signature(echo), signature(echo, ['b'])), signature(echo))),
  'canvas-chain-chord-inside': (client) =>
    client.apply(chain(signature(add, [1, 2]), chord([signature(add, [3]), signature(add, [4])], sum()), a(5))),
  'canvas-chain-chord-then-group': (client) =>
    client.apply(
      chain(
        signature(add, [1, 2]),
        chord([signature(add, [3]), signature(add, [4])], sum()),
        group(signature(add, [5]), signature(add, [6])),
      ),
    ),
  'canvas-chain-two-groups-inside': (client) =>
    client.apply(
      chain(
        signature(add, [1, 2]),
        group(signature(add, [3]), signature(add, [4])),
        sum(),
        group(signature(add, [5]), signature(add, [6])),
        sum(),
      ),
    ),
  'canvas-chain-begins-with-chord': (client) => client.apply(chain(chord([one(), two()], sum()), a(5))),
  'canvas-group-in-group': (client) => client.apply(group(one(), group(two(), three()))),
  'canvas-group-of-chains': (client) =>
    client.apply(group(chain(one(), signature(add, [2])), chain(three(), signature(add, [4])))),
  'canvas-group-chain-to-group': (client) =>
    client.apply(group(chain(one(), group(signature(add, [2]), signature(add, [3]))))),
  'canvas-group-with-chord': (client) => client.apply(group(one(), chord([two(), three()], sum()))),
  'canvas-group-options': (client) =>
    client.apply(group(one(), signature(add, [2, 2], { priority: 3 })), { queue: 'mail', priority: 6 }),
  'canvas-group-links': (client) =>
    client.apply(linkError(link(group(one(), two()), signature(echo)), signature(onErrorOld))),
  'canvas-chord-of-one': (client) => client.apply(chord([one()], sum())),
  'canvas-chord-empty': (client) => client.apply(chord([], signature(echo))),
  'canvas-chord-immutable': (client) => client.apply(chord([one(), two()], immutable(signature(add, [7, 8])))),
  'canvas-chord-options': (client) => client.apply(chord([one(), two()], sum()), { queue: 'mail', priority: 3 }),
  'canvas-chord-set': (client) =>
    client.apply(withOptions(chord([one(), two()], withOptions(sum(), { queue: 'mail' })), { priority: 3 })),
  'canvas-chord-task-id': (client) => client.apply(chord([one(), two()], sum()), { taskId: 'sum-1' }),
  'canvas-chord-links': (client) =>
    client.apply(linkError(link(chord([one(), two()], sum()), signature(echo)), signature(onErrorOld))),
  'canvas-chord-body-chain': (client) => client.apply(chord([one(), two()], chain(sum(), signature(add, [5])))),
  'canvas-chord-body-group': (client) =>
    client.apply(chord([one(), two()], group(signature(echo), signature(echo, ['b'])))),
  'canvas-chord-body-chord': (client) =>
    client.apply(chord([one(), two()], chord([signature(echo), signature(echo, ['b'])], signature(echo)))),
  'canvas-chord-in-chord': (client) => client.apply(chord([one(), chord([two(), three()], sum())], sum())),
  'canvas-chord-of-groups': (client) => client.apply(chord(group(one(), group(two(), three())), sum())),
  'canvas-chord-chain-to-group': (client) =>
    client.apply(
      chord([chain(one(), group(signature(add, [2]), signature(add, [3]))), signature(add, [4, 4])], signature(echo)),
    ),
  'canvas-link-chain': (client) =>
    client.apply(signature(add, [1, 2]), {
      link: chain(signature(add, [3]), group(signature(add, [4]), signature(add, [5])), sum()),
    }),
  'canvas-stamped-group': (client) => client.apply(stamp(group(one(), two()), { tenant: 'acme' })),
  'canvas-stamped-links': (client) =>
    client.apply(
      stamp(linkError(link(signature(add, [1, 2]), signature(echo)), signature(onErrorOld)), { tenant: 'acme' }),
    ),
  'canvas-stamped-twice': (client) =>
    client.apply(stamp(stamp(signature(add, [1, 2]), { tenant: 'acme' }), { tenant: 'best' })),
  'canvas-stamped-append': (client) =>
    client.apply(stamp(stamp(signature(add, [1, 2]), { tenant: 'acme' }), { tenant: 'best' }, { append: true })),
};

/** What Python does by mistake. */
const ELSEWISE: ReadonlyMap<string, string> = new Map([
  ['enqueue-canvas-chord-of-groups', 'the members of a group in a header are turned around, and so are the results'],
]);

describe('a workflow that our client starts', () => {
  const recorded = load<Enqueued>('5.6', 'enqueue-').filter(
    ({ name }) => name.startsWith('enqueue-canvas-') || STARTS[name.slice('enqueue-'.length)] !== undefined,
  );

  test.each(recorded.filter(({ name }) => !ELSEWISE.has(name)).map((fixture) => [fixture.name, fixture] as const))(
    '%s: is as Celery starts it',
    async (name, fixture) => {
      const start = STARTS[name.slice('enqueue-'.length)];
      if (start === undefined) throw new Error(`no workflow of ours is like this one: ${fixture.about}`);
      const ours = await started(start, fixture.frozen.oid);
      const messages = envelopesOf(fixture.wire).map(({ envelope }) => envelope);
      expect(alike(ours)).toEqual(alike({ messages, chords: fixture.means.chord ?? [] }));
    },
  );

  test.each([...ELSEWISE])('%s: has its members in their order, for in Python %s', async (name) => {
    const { messages } = await started(STARTS[name.slice('enqueue-'.length)] as Start, 'oid');
    const read = messages.map((envelope) => decodeTask(decodeEnvelope(Buffer.from(envelope)), OPTIONS));
    expect(read.map(({ args, groupIndex }) => [args, groupIndex])).toEqual([
      [[1, 1], 0],
      [[2, 2], 1],
      [[3, 3], 2],
    ]);
  });
});

interface Started {
  readonly messages: readonly string[];
  readonly chords: readonly (readonly unknown[])[];
}

async function started(start: Start, oid: string): Promise<Started> {
  const sent: Publication[] = [];
  const chords: (readonly unknown[])[] = [];
  const broker = new (class extends MemoryBroker {
    override async publish(publications: Iterable<Publication>): Promise<void> {
      sent.push(...publications);
    }
  })('golden-canvas');
  const backend = new (class extends MemoryResults {
    readonly replyTo = oid;
    readonly chords = {
      start: async (id: string, size: number): Promise<void> => {
        const [command] = chordSize(chordKeys('', id), size, 86_400).commands;
        chords.push((command as readonly unknown[]).map(String));
      },
    } as ChordCounter;
    override async storeGroup(id: string, meta: string): Promise<void> {
      chords.push(['SETEX', chordKeys('', id).group, '86400', meta]);
    }
  })('golden-canvas');
  await using client = new CeleryClient({ broker, backend });
  await start(client);
  return { messages: sent.map((publication) => encodeEnvelope(publication, 'tag')), chords };
}

/** What two senders cannot share, taken out: who they are, and what their ids are; not which are the same, nor the order of anything. */
function alike({ messages, chords }: Started): unknown {
  const readable = messages.map((envelope) => {
    const message = parseExact(envelope) as Map<string, unknown>;
    const headers = new Map(message.get('headers') as Map<string, unknown>);
    headers.set('lang', '').set('origin', '');
    // Stamps stand in the order of a set of Python's, which is chance.
    const stamps = headers.get('stamps');
    if (stamps instanceof Map) headers.set('stamps', new Map([...stamps].sort(byName)));
    const stamped = headers.get('stamped_headers');
    if (Array.isArray(stamped)) headers.set('stamped_headers', stamped.toSorted());
    // Tuples are lists in JSON, and shown as such.
    if (headers.get('task') === 'celery.starmap') headers.delete('kwargsrepr');
    const properties = new Map(message.get('properties') as Map<string, unknown>);
    properties.delete('delivery_tag');
    const body = encodeJson(tidy(parseExact(Buffer.from(String(message.get('body')), 'base64').toString()), false));
    return { headers: encodeJson(headers), properties: encodeJson(properties), body };
  });
  const known = new Map<string, string>();
  const named = (text: string): string =>
    text.replace(UUID, (id) => {
      if (!known.has(id)) known.set(id, `id ${known.size + 1}`);
      return known.get(id) as string;
    });
  return JSON.parse(named(JSON.stringify({ messages: readable, chords })));
}

/**
 * Signatures without what the original leaves in them by accident: options of its own calls, and in a chord that is still to be
 * started the body in every member of the header, where whoever starts it puts it anyway.
 */
function tidy(value: unknown, inHeader: boolean): unknown {
  if (Array.isArray(value)) return value.map((item) => tidy(item, inHeader));
  if (!(value instanceof Map)) return value;
  const map = new Map<unknown, unknown>();
  for (const [name, item] of value) {
    if (name === 'add_to_parent' || (name === 'chord' && inHeader)) continue;
    map.set(name, tidy(item, inHeader || name === 'header'));
  }
  // An option of null says nothing; among the parts of a message it does.
  if (map.get('chord') === null && !map.has('callbacks')) map.delete('chord');
  return map;
}

const OPTIONS = { accept: acceptSet(['json']), limits: defaultLimits };
const UUID = /[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}/g;

function byName([one]: [string, unknown], [other]: [string, unknown]): number {
  return one < other ? -1 : 1;
}
