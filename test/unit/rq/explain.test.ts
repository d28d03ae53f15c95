import { describe, expect, it } from 'vitest';
import { newJob } from '../../../protocols/rq/enqueue.ts';
import { explain } from '../../../protocols/rq/explain.ts';
import { writeJob } from '../../../protocols/rq/message.ts';
import { jobSettings } from '../../../protocols/rq/options.ts';
import { writeResult } from '../../../protocols/rq/result.ts';
import { deflate, dumps } from '../../../protocols/rq/serializers.ts';

const job = newJob(jobSettings({ meta: { a: 1 }, retry: { max: 2 } }), {
  call: { funcName: 'jobs.add', instance: null, args: [1, 'é\n'], kwargs: { b: 2 } },
  id: 'a',
  queue: 'default',
  serializer: 'pickle',
  now: new Date(0),
}).job;

/** As redis-cli prints a reply for people. */
function printed(texts: readonly (string | Buffer)[]): string {
  return texts
    .map((text, at) => {
      const escaped = [...Buffer.from(text)].map((byte) => {
        const char = String.fromCharCode(byte);
        if (char === '"' || char === '\\') return `\\${char}`;
        if (char === '\n') return '\\n';
        return byte >= 32 && byte < 127 ? char : `\\x${byte.toString(16).padStart(2, '0')}`;
      });
      return `${at + 1}) "${escaped.join('')}"`;
    })
    .join('\n');
}

describe('explain', () => {
  it('a hash, as redis-cli prints it', () => {
    const { kind, summary, sections, warnings } = explain(printed(writeJob(job)));
    expect([kind, summary, warnings]).toEqual(['job', "A job, queued: jobs.add(1, 'é\\n', b=2)", []]);
    const fields = new Map(sections.flatMap((section) => section.fields).map(({ name, value }) => [name, value]));
    expect(Object.fromEntries(fields)).toMatchObject({
      function: "'jobs.add'",
      'args[1]': "'é\\n'",
      'b=': '2',
      origin: "'default'",
      meta: "{'a': 1}",
      retries_left: '2',
      created_at: '1970-01-01T00:00:00.000Z',
    });
  });

  it('tells what ends a Python worker', () => {
    const fields = [...writeJob(job), 'timeout', '1h', 'mine', 'x'];
    const { warnings, sections } = explain(printed(fields));
    expect(warnings).toEqual([{ effect: 'ends', text: expect.stringMatching(/^timeout: "1h" is no whole number/) }]);
    expect(sections.at(-1)?.fields).toEqual([{ name: 'mine', value: "'x'", meaning: 'no field of RQ' }]);
  });

  it.each<[string, Buffer | string, string, RegExp]>([
    ['data', job.data, 'call', /pickle, in zlib: jobs\.add\(1/],
    ['data with the line end of redis-cli', Buffer.concat([job.data, Buffer.from('\n')]), 'call', /jobs\.add/],
    ['data in JSON', deflate(Buffer.from('["f", null, [1], {}]')), 'call', /JSON, in zlib: f\(1\)/],
    ['a meta', dumps('pickle', { a: 1 }), 'value', /pickle/],
    ['a return value', dumps('pickle', [1]).toString('base64'), 'value', /pickle, in base64/],
    [
      'a traceback',
      deflate(Buffer.from('Traceback…\nValueError: x')).toString('base64'),
      'traceback',
      /base64 of zlib/,
    ],
    [
      'a result',
      printed(['1-0', ...writeResult({ type: 'successful', workerName: 'w', returnValue: dumps('pickle', 5) })]),
      'result',
      /successful/,
    ],
    ['nothing', '', 'unknown', /empty/],
    ['nonsense', 'nonsense', 'unknown', /8 bytes that are no/],
    ['bytes', Buffer.from([1, 2, 3, 255]), 'unknown', /4 bytes/],
    ['a hash of somebody else', printed(['a', 'b']), 'unknown', /no data/],
  ])('%s', (_, input, kind, summary) => {
    const explanation = explain(input);
    expect(explanation.kind).toBe(kind);
    expect(explanation.summary).toMatch(summary);
  });
});
