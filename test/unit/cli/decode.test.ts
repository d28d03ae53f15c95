import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeEnvelope } from '../../../protocols/celery/brokers/envelope.ts';
import { explain } from '../../../protocols/celery/explain.ts';
import { encodeTask, type TaskCall } from '../../../protocols/celery/message/message.ts';
import { render } from '../../../src/cli/decode.ts';

const now = new Date('2026-11-21T10:00:00Z');
const CALL: TaskCall = {
  task: 'proj.add',
  id: 'a1',
  args: [2, 3],
  kwargs: { note: 'é' },
  origin: 'gen1@web',
  exchange: '',
  routingKey: 'high',
};

function envelope(call: Partial<TaskCall> = {}): Record<string, any> {
  return JSON.parse(encodeEnvelope(encodeTask({ ...CALL, ...call }), 'tag-1')) as Record<string, any>;
}

function explained(value: unknown): ReturnType<typeof explain> {
  return explain(typeof value === 'string' ? value : JSON.stringify(value), now);
}

const effects = (value: unknown): readonly string[] => explained(value).warnings.map(({ effect }) => effect);

describe('a message is explained', () => {
  test('by its name, queue, headers and arguments, with nothing to warn of', () => {
    const { kind, summary, sections, warnings } = explained(envelope());
    expect({ kind, summary }).toEqual({
      kind: 'task',
      summary: 'A task message of protocol 2: proj.add for the queue "high".',
    });
    expect(warnings).toEqual([]);
    const fields = sections.flatMap((section) => section.fields);
    expect(fields).toContainEqual({
      name: 'id',
      value: '"a1"',
      meaning: "the task's id; its result is stored under it",
    });
    expect(fields).toContainEqual({ name: 'kwargs', value: '{"note": "é"}', meaning: '1 keyword argument' });
  });

  test('as an entry of `unacked`, whether its envelope is an object or a text', () => {
    expect(explained([envelope(), '', 'high']).kind).toBe('claimed-task');
    expect(explained([JSON.stringify(envelope()), '', 'high']).kind).toBe('claimed-task');
  });

  test('as a body, alone or in base64', () => {
    expect(explained([[1], {}, null]).kind).toBe('body');
    expect(explained(envelope()['body']).kind).toBe('body');
    expect(explained({ task: 'proj.add', id: 'a1', args: [] }).summary).toMatch(/protocol 1.*proj\.add/);
  });

  test('as redis-cli prints it on a terminal', () => {
    const printed = JSON.stringify(JSON.stringify(envelope())).replaceAll('é', '\\xc3\\xa9');
    expect(explained(printed).summary).toContain('proj.add');
  });

  test('as a stored result', () => {
    expect(explained({ status: 'SUCCESS', result: 5, task_id: 'a1', children: [] })).toMatchObject({
      kind: 'result',
      warnings: [],
    });
    expect(effects({ status: 'FAILURE', result: 'oops', task_id: 'a1' })).toEqual(['breaks']);
  });

  test('with numbers as they are written', () => {
    expect(explained('[[1.0, 12345678901234567890], {}, null]').sections[0]?.fields[0]?.value).toBe(
      '[1.0, 12345678901234567890]',
    );
  });
});

describe('a message that ends a Python worker is told as one', () => {
  test.each<[string, (message: Record<string, any>) => unknown]>([
    ['no id', ({ headers, ...rest }) => ({ ...rest, headers: { ...headers, id: undefined } })],
    ['a timelimit of one', ({ headers, ...rest }) => ({ ...rest, headers: { ...headers, timelimit: [1] } })],
    ['a timelimit that is no list', ({ headers, ...rest }) => ({ ...rest, headers: { ...headers, timelimit: 5 } })],
    ['a body of two elements', (message) => ({ ...message, body: Buffer.from('[[], {}]').toString('base64') })],
    [
      'no delivery tag',
      ({ properties, ...rest }) => ({ ...rest, properties: { ...properties, delivery_tag: undefined } }),
    ],
    [
      'no delivery info',
      ({ properties, ...rest }) => ({ ...rest, properties: { ...properties, delivery_info: undefined } }),
    ],
    ['no properties', (message) => ({ ...message, properties: undefined })],
    ['no headers', (message) => ({ ...message, headers: undefined })],
    ['headers that are a list', (message) => ({ ...message, headers: [] })],
    ['no JSON', () => 'hello'],
  ])('%s', (_, change) => {
    expect(effects(change(envelope()))).toContain('ends');
  });
});

test.each<[string, Partial<TaskCall>]>([
  ['an ETA that is no time', { eta: 'tomorrow' }],
  ['an unknown mark', { args: [{ __type__: 'set', __value__: [] }] }],
  ['a uuid as a text', { args: [[{ __type__: 'uuid', __value__: 'x' }]] }],
])('%s loses the message', (_, call) => {
  expect(effects(envelope(call))).toContain('drops');
});

test('a pickle is read as data, with a word about what Python does with it', () => {
  const explanation = explained(envelope({ serializer: 'pickle' }));
  expect(explanation.warnings.map(({ text }) => text).join()).toContain('Python then runs what its sender put in');
  const fields = explanation.sections.flatMap((section) => section.fields);
  expect(fields.find(({ name }) => name === 'args')?.value).toBe('[2, 3]');
});

test('what is said to be a pickle and is none is told of', () => {
  const message = envelope();
  message['content-type'] = 'application/x-python-serialize';
  expect(
    explained(message)
      .warnings.map(({ text }) => text)
      .join(),
  ).toContain('pickle');
});

test('an expired message and a later one are noted', () => {
  expect(explained(envelope({ expires: '2026-11-21T09:59:00+00:00' })).warnings[0]?.text).toMatch(/expired 60 s ago/);
  expect(explained(envelope({ eta: '2026-11-21T11:00:00+00:00' })).warnings[0]?.text).toMatch(/run in 60 min/);
});

describe('hostile input', () => {
  const printable = (text: string): void => {
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  };

  test('does not reach the terminal as it is', () => {
    const bad = '\u001b[2J\u202e\u009b\n';
    printable(render(explained(envelope({ task: bad, args: [bad], headers: { [bad]: bad } }))));
    printable(render(explained({ [bad]: bad })));
    printable(render(explain(bad, now)));
    printable(render(explain(`{"${bad}`, now)));
  });

  test('is explained, whatever the bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => printable(render(explain(bytes, now)))));
  });

  test('is explained, whatever the JSON', () => {
    fc.assert(fc.property(fc.json(), (text) => printable(render(explain(text, now)))));
  });

  test('is explained, whatever stands in a field of a message', () => {
    const places = ['headers', 'properties', 'body', 'content-type', 'content-encoding'];
    const names = [
      'task',
      'id',
      'timelimit',
      'eta',
      'expires',
      'compression',
      'delivery_info',
      'delivery_tag',
      'body_encoding',
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...places),
        fc.constantFrom(...names),
        fc.jsonValue(),
        fc.boolean(),
        (place, name, value, whole) => {
          const message = envelope();
          if (whole || typeof message[place] !== 'object') message[place] = value;
          else message[place] = { ...message[place], [name]: value };
          printable(render(explained(message)));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('that nests deep is refused in words', () => {
    expect(explain('['.repeat(100_000), now).kind).toBe('unknown');
    expect(explain(`${'['.repeat(900)}${']'.repeat(900)}`, now).kind).toBe('body');
  });
});
