import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { exceptionsKey } from '../../protocols/formats/active-job/index.ts';
import { parseExact } from '../../protocols/formats/json.ts';
import {
  activeJob,
  decodeJob,
  dialect,
  json,
  payload,
  readTimestamp,
  type SidekiqMessage,
} from '../../protocols/sidekiq/index.ts';
import { capture, captures, jobTexts, type RubySet } from './ruby-support.ts';

/** Jobs of Active Job as they are on Sidekiq: the wrapper around what test/golden/active-job.test.ts looks at. */

const SETS: readonly (readonly [RubySet, '6.1' | '8.1', string])[] = [
  ['active-job/6.1', '6.1', '6.4'],
  ['active-job/8.1', '8.1', '8.1'],
];

describe.each(SETS)('%s on Sidekiq', (set, rails, sidekiq) => {
  const spoken = dialect(sidekiq);
  const all = captures(set, 'sidekiq-').flatMap((one) => jobTexts(one).map((text) => ({ name: one.name, text })));

  test('the class is that of the job in the wrapper, and its arguments are decoded', () => {
    expect(all.length).toBeGreaterThan(10);
    for (const { name, text } of all) {
      const { hash } = read(text);
      expect(activeJob.wrappedClass(hash), name).toBe(hash['wrapped']);
      expect(activeJob.readWrapped(hash).activeJob.jobClass, name).toBe(hash['wrapped']);
    }
  });

  test.each(['args-hash', 'args-keyword', 'args-positional', 'set', 'queue-priority', 'sidekiq-options', 'scheduled'])(
    'sidekiq-aj-%s: made here, it has the same members',
    (name) => {
      const [text = ''] = jobTexts(capture(set, `sidekiq-aj-${name}`));
      const { hash } = read(text);
      const exact = parseExact(text) as ReadonlyMap<string, unknown>;
      const { activeJob: job, args, kwargs } = activeJob.readWrapped(Object.fromEntries(exact));
      const now = new Date(Math.floor(readTimestamp(hash['created_at']) as number));
      const at = job.scheduledAt === undefined ? undefined : Date.parse(job.scheduledAt);
      const inner = activeJob.wrap(
        {
          ...{ jobClass: job.jobClass, jobId: job.jobId ?? '', queue: job.queueName ?? '', args, kwargs, at },
          ...{ priority: job.priority, locale: job.locale, timezone: job.timezone },
        },
        new Date(job.enqueuedAt ?? ''),
        { rails },
      );
      const members = new Map(exact);
      for (const key of ['class', 'args', 'jid', 'queue', 'created_at', 'enqueued_at']) members.delete(key);
      const own = {
        class: spoken.activeJobWrapper,
        args: [inner],
        jid: String(hash['jid']),
        queue: String(hash['queue']),
      };
      const isLater = !exact.has('enqueued_at');
      const made = payload({ ...own, members, at: isLater ? now.getTime() + 1 : undefined }, { now, dialect: spoken });
      expect(comparable(String(made.text))).toEqual(comparable(text));
    },
  );

  test('sidekiq-aj-retry-on: what Active Job itself runs again', () => {
    const texts = jobTexts(capture(set, 'sidekiq-aj-retry-on'));
    const [first = ''] = texts.filter((text) => text.includes('"executions":0'));
    const [next = ''] = texts.filter((text) => text.includes('"executions":1'));
    const { hash } = read(next);
    const now = new Date(Math.floor(readTimestamp(hash['created_at']) as number));
    const error = { type: 'AjError', message: 'm', traceback: '' };
    const made = activeJob.again(
      read(first),
      { delayMs: 60_000, error },
      { now, jid: String(hash['jid']), dialect: spoken },
    );
    // Its retry_on says `queue: :low`, which a handler has no word for.
    const low = String(made.text).replaceAll('"default"', '"low"');
    expect(comparable(low)).toEqual(comparable(next));
    expect(low).toContain(exceptionsKey(['AjError']));
    expect(made.at).toBe(now.getTime() + 60_000);
  });
});

function read(text: string): SidekiqMessage {
  return decodeJob(Buffer.from(text), 'default');
}

/** Members in the order of their names; times to the second, and of one moment. */
function comparable(text: string): unknown {
  const even = text
    .replace(/("(?:enqueued|scheduled)_at":"[^"]{19})\.\d+Z/g, '$1Z')
    .replace(/"(created|enqueued)_at":([\d.]+)/g, (_, which: string, at: string) => `"${which}_at":${at.slice(0, 10)}`);
  const sorted = [...(parseExact(even) as ReadonlyMap<string, unknown>)].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return sorted.map(([key, value]) => [key, json.stringify(value)]);
}
