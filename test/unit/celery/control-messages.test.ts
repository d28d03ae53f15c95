import { describe, expect, test } from 'vitest';
import { LamportClock } from '../../../protocols/celery/control/clock.ts';
import { COMMANDS, commandOf, misfit } from '../../../protocols/celery/control/commands.ts';
import { decodeEnvelope, encodeEnvelope } from '../../../protocols/celery/brokers/envelope.ts';
import {
  decodeEvents,
  encodeBatch,
  encodeEvent,
  stampEvent,
  taskEnded,
  taskRevoked,
  utcoffset,
  workerEvent,
} from '../../../protocols/celery/control/event.ts';
import { reprException } from '../../../protocols/celery/outcome/exceptions.ts';
import { nodeMatches } from '../../../protocols/celery/control/matcher.ts';
import type { Publication, WireMessage } from '../../../protocols/celery/message/message.ts';
import {
  decodeReply,
  decodeRequest,
  encodeReply,
  encodeRequest,
  isFor,
} from '../../../protocols/celery/control/pidbox.ts';
import { acceptSet, type DecodeOptions, defaultLimits } from '../../../protocols/celery/message/serializers.ts';

const JSON_ONLY: DecodeOptions = { accept: acceptSet(['json']), limits: defaultLimits };

/** As a broker hands it over. */
function carried(publication: Publication): WireMessage {
  return decodeEnvelope(Buffer.from(encodeEnvelope(publication, 'tag')));
}

function message(body: string, headers: Record<string, unknown> = {}): WireMessage {
  return {
    body: Buffer.from(body),
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    headers,
    properties: {},
    raw: undefined,
  };
}

describe('the clock', () => {
  test('is ahead of what it heard, and counts what it sends', () => {
    const clock = new LamportClock();
    expect(clock.forward()).toBe(1);
    expect(clock.adjust(10)).toBe(11);
    expect(clock.adjust(3)).toBe(12);
    expect(clock.value).toBe(12);
  });

  test.each([[undefined], [null], ['99'], [Number.NaN], [1e300], [2 ** 53 - 1], [1.5], [{}], [-5]])(
    'moves by one for %j, which is no count',
    (heard) => {
      const clock = new LamportClock(7);
      expect(clock.adjust(heard)).toBe(8);
    },
  );
});

describe('patterns of node names', () => {
  test.each([
    ['glob', 'w1@*', true],
    ['glob', '*@box', true],
    ['glob', 'w?@box', true],
    ['glob', 'w[0-9]@box', true],
    ['glob', 'w[!1]@box', false],
    ['glob', 'w1', false],
    ['glob', 'W1@*', false],
    ['glob', '[', false],
    ['glob', 'w.@box', false],
    ['pcre', 'w1', true],
    ['pcre', '1', false],
    ['pcre', '^w\\d+@(?:box|other)$', true],
    ['pcre', '(w2|w1)@.*', true],
    ['pcre', 'w{1}1@b[ox]{2}$', true],
    ['pcre', 'w{2,}', false],
    ['pcre', '[^w]', false],
    ['pcre', '[\\w-]+@\\S+\\Z', true],
    ['pcre', '.*?@box$', true],
    ['pcre', 'x?w+1', true],
    ['pcre', '', true],
  ])('%s %j', (matcher, pattern, expected) => {
    expect(nodeMatches('w1@box', pattern, matcher)).toBe(expected);
  });

  test.each([
    ['(a'],
    ['a)'],
    ['[a'],
    ['a**'],
    ['(?=a)'],
    ['(a)\\1'],
    ['\\'],
    ['a{300}'],
    ['*'],
    ['(?i)w1'],
    ['a'.repeat(501)],
  ])('pcre %j is refused', (pattern) => {
    expect(() => nodeMatches('w1@box', pattern, 'pcre')).toThrow(expect.objectContaining({ code: 'bad-pattern' }));
  });

  test('an expression that would keep a backtracking engine for years is answered', () => {
    expect(nodeMatches('a'.repeat(200), '^(((a+)+)+)+$'.replace('$', 'b$'), 'pcre')).toBe(false);
    expect(nodeMatches('a'.repeat(200), '(.*){20}x', 'pcre')).toBe(false);
    expect(nodeMatches('a'.repeat(200), '*a'.repeat(100) + 'b', 'glob')).toBe(false);
  });

  test('an unknown matcher is refused', () => {
    expect(() => nodeMatches('w1@box', 'w1', 'nope')).toThrow(expect.objectContaining({ code: 'unknown-matcher' }));
  });
});

describe('control messages', () => {
  test('a request has kombu’s members in kombu’s order', () => {
    const publication = encodeRequest(
      {
        method: 'rate_limit',
        arguments: { task_name: 'shop.bill', rate_limit: '10/m' },
        destination: ['w1@box'],
        ticket: '5d0c',
        replyTo: { exchange: 'reply.celery.pidbox', routingKey: '7be1' },
      },
      { clock: 12, expires: 1795219298.7 },
    );
    expect(Buffer.from(publication.body).toString()).toBe(
      '{"method": "rate_limit", "arguments": {"task_name": "shop.bill", "rate_limit": "10/m"}, "destination": ["w1@box"], ' +
        '"pattern": null, "matcher": null, "ticket": "5d0c", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "7be1"}}',
    );
    expect(publication).toMatchObject({ exchange: 'celery.pidbox', routingKey: '' });
    expect([...publication.headers]).toEqual([
      ['clock', 12],
      ['expires', 1795219298.7],
    ]);
  });

  test('a request without a reply has neither ticket nor reply_to', () => {
    const { body } = encodeRequest({ method: 'shutdown', arguments: {} }, { clock: 1, expires: 0 });
    expect(Object.keys(JSON.parse(Buffer.from(body).toString()) as object)).toEqual([
      'method',
      'arguments',
      'destination',
      'pattern',
      'matcher',
    ]);
  });

  test('what was sent is what is heard', () => {
    const request = {
      method: 'revoke',
      arguments: { task_id: ['a', 'b'], terminate: true },
      destination: undefined,
      pattern: 'w*',
      matcher: 'glob',
      ticket: 't',
      replyTo: { exchange: 'reply.jobs.pidbox', routingKey: 'o' },
    };
    const sent = encodeRequest(request, { clock: 3, expires: 0 }, { namespace: 'jobs', serializer: 'msgpack' });
    expect(sent.exchange).toBe('jobs.pidbox');
    expect(decodeRequest(carried(sent), { ...JSON_ONLY, accept: acceptSet(['msgpack']) })).toEqual({
      ...request,
      clock: 3,
    });
  });

  test('a reply carries the ticket, the clock and the node’s name, whatever that is', () => {
    const sent = encodeReply(
      { exchange: 'reply.celery.pidbox', routingKey: 'o' },
      '__proto__',
      { ok: 'pong' },
      { ticket: 't', clock: 9 },
    );
    expect(Buffer.from(sent.body).toString()).toBe('{"__proto__": {"ok": "pong"}}');
    const heard = decodeReply(
      carried(encodeReply({ exchange: 'x', routingKey: 'o' }, 'w1@box', undefined, { ticket: 't', clock: 9 })),
      JSON_ONLY,
    );
    expect(heard).toEqual({ ticket: 't', clock: 9, nodes: [['w1@box', null]] });
  });

  test.each([
    ['not JSON', '{', 'undecodable'],
    ['a list', '[]', 'wrong-shape'],
    ['null', 'null', 'wrong-shape'],
    ['no method', '{"arguments": {}}', 'wrong-shape'],
    ['a method that is no text', '{"method": ["ping"]}', 'wrong-shape'],
    ['arguments that are a list', '{"method": "ping", "arguments": [1]}', 'wrong-shape'],
    ['a destination that is a number', '{"method": "ping", "destination": 5}', 'wrong-shape'],
    ['reply_to without a routing key', '{"method": "ping", "reply_to": {"exchange": "x"}}', 'wrong-shape'],
    ['nesting without end', `{"method": "ping", "arguments": ${'['.repeat(2000)}${']'.repeat(2000)}}`, 'too-deep'],
  ])('a message with %s is refused', (_, body, code) => {
    expect(() => decodeRequest(message(body), JSON_ONLY)).toThrow(expect.objectContaining({ code }));
  });

  test('a content type that is not accepted is refused', () => {
    expect(() => decodeRequest({ ...message('x'), contentType: 'application/x-python-serialize' }, JSON_ONLY)).toThrow(
      expect.objectContaining({ code: 'content-disallowed' }),
    );
  });

  test('arguments called __proto__ are data', () => {
    const { arguments: given } = decodeRequest(
      message('{"method": "ping", "arguments": {"__proto__": {"x": 1}}}'),
      JSON_ONLY,
    );
    expect(Object.keys(given)).toEqual(['__proto__']);
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });

  test.each([
    ['everybody', {}, true],
    ['an empty destination', { destination: undefined }, true],
    ['its own name', { destination: ['w2@box', 'w1@box'] }, true],
    ['another name', { destination: ['w2@box'] }, false],
    ['a pattern without a matcher', { pattern: 'w2*' }, true],
    ['a pattern that matches', { pattern: 'w*', matcher: 'glob' }, true],
    ['a pattern that does not', { pattern: 'x*', matcher: 'glob' }, false],
    ['a destination beside a pattern', { destination: ['w1@box'], pattern: 'x*', matcher: 'glob' }, true],
  ])('a request for %s', (_, target, expected) => {
    expect(isFor({ method: 'ping', arguments: {}, ...target }, 'w1@box')).toBe(expected);
  });
});

describe('commands', () => {
  function raised(method: string, given: Record<string, unknown>): string | undefined {
    const { name, spec } = commandOf(method) ?? expect.unreachable(method);
    const exception = misfit(name, spec, given);
    return exception && reprException(exception);
  }

  test('are found under their older names', () => {
    expect(commandOf('dump_tasks')?.name).toBe('registered');
    expect(commandOf('constructor')).toBeUndefined();
    expect(COMMANDS.size).toBe(32);
  });

  // As Celery 5.6.3 answered.
  test.each([
    ['query_task', {}, `TypeError("query_task() missing 1 required positional argument: 'ids'")`],
    [
      'rate_limit',
      {},
      `TypeError("rate_limit() missing 2 required positional arguments: 'task_name' and 'rate_limit'")`,
    ],
    ['active_queues', { x: 1 }, `TypeError("active_queues() got an unexpected keyword argument 'x'")`],
    ['ping', { x: 1 }, undefined],
    ['terminate', { task_id: 'z' }, `TypeError("terminate() missing 1 required positional argument: 'signal'")`],
    ['ping', { state: 1 }, `TypeError("ping() got multiple values for argument 'state'")`],
  ])('%s %j', (method, given, expected) => {
    expect(raised(method, given)).toBe(expected);
  });
});

describe('events', () => {
  const stamp = { hostname: 'w1@box', utcoffset: 0, pid: 912, clock: 9, timestamp: 1795219293 };

  test('have Celery’s members in Celery’s order, floats as floats', () => {
    const publication = encodeEvent(
      workerEvent('worker-heartbeat', {
        freq: 2,
        active: 0,
        processed: 41,
        loadavg: [0.904, 0.5, 0],
        software: { sw_ident: 'jobglot', sw_ver: '1', sw_sys: 'Linux' },
      }),
      stamp,
    );
    expect(publication).toMatchObject({ exchange: 'celeryev', routingKey: 'worker.heartbeat' });
    expect([...publication.headers]).toEqual([['hostname', 'w1@box']]);
    expect(publication.properties.get('delivery_mode')).toBe(1);
    expect(Buffer.from(publication.body).toString()).toBe(
      '{"hostname": "w1@box", "utcoffset": 0, "pid": 912, "clock": 9, "freq": 2.0, "active": 0, "processed": 41, ' +
        '"loadavg": [0.9, 0.5, 0.0], "sw_ident": "jobglot", "sw_ver": "1", "sw_sys": "Linux", "timestamp": 1795219293.0, "type": "worker-heartbeat"}',
    );
  });

  test('of tasks travel as a list', () => {
    const batch = encodeBatch(
      [stampEvent(taskRevoked('u', { terminated: true, signum: 15, expired: false }), stamp)],
      'task',
      'w1@box',
    );
    expect(batch.routingKey).toBe('task.multi');
    expect(decodeEvents(carried(batch), JSON_ONLY)).toEqual({
      events: [{ ...stamp, uuid: 'u', terminated: true, signum: 15, expired: false, type: 'task-revoked' }],
      dropped: 0,
    });
  });

  const error = { type: 'ValueError', module: 'builtins', message: "it's gone", traceback: 'Traceback…' };
  const ended = { runtime: 2, signum: null } as const;
  test.each([
    ['a value', { kind: 'success', value: 3 }, 'succeeded', 'task-succeeded', { result: '3' }],
    ['nothing', { kind: 'success', value: undefined }, 'succeeded', 'task-succeeded', { result: 'None' }],
    [
      'an error',
      { kind: 'error', error, retriable: false },
      'failed',
      'task-failed',
      { exception: `ValueError("it's gone")` },
    ],
    [
      'a retry',
      { kind: 'retry', delayMs: 1, error },
      'retrying',
      'task-retried',
      { exception: `ValueError("it's gone")` },
    ],
    [
      'a retry without a reason',
      { kind: 'retry', delayMs: 1, error: undefined },
      'retrying',
      'task-retried',
      { exception: 'None' },
    ],
    [
      'a time limit',
      { kind: 'timeout', limitMs: 1500 },
      'failed',
      'task-failed',
      { exception: 'TimeLimitExceeded(1.5)' },
    ],
    ['an expiry', { kind: 'expired' }, 'cancelled', 'task-revoked', { expired: true, terminated: false, signum: null }],
    [
      'a revoke',
      { kind: 'cancelled', reason: 'revoked' },
      'cancelled',
      'task-revoked',
      { expired: false, terminated: false },
    ],
    [
      'a termination',
      { kind: 'cancelled', reason: 'terminated' },
      'cancelled',
      'task-revoked',
      { terminated: true, signum: 9 },
    ],
    ['a reject', { kind: 'reject', reason: '', requeue: true }, 'requeued', 'task-rejected', { requeue: true }],
  ] as const)('%s is told', (_, outcome, state, type, fields) => {
    const event = taskEnded('u', outcome, { ...ended, signum: outcome.kind === 'cancelled' ? 9 : null, state });
    expect(event).toMatchObject({ type, fields: { uuid: 'u', ...fields } });
  });

  test('a discarded task is not told of', () => {
    expect(taskEnded('u', { kind: 'discard', reason: '' }, { ...ended, state: 'discarded' })).toBeUndefined();
  });

  test.each([
    [0, 0],
    [300, 5],
    [-540, -9],
    [-330, -6],
  ])('a clock %i minutes west has utcoffset %i', (minutes, hours) => {
    expect(utcoffset(minutes)).toBe(hours);
  });

  test.each([['{'], ['5'], ['{}'], ['[1, null, []]'], ['{"type": 5}']])('%s is refused', (body) => {
    expect(() => decodeEvents(message(body), JSON_ONLY)).toThrow(expect.objectContaining({ name: 'WireError' }));
  });

  test('what is no event in a batch is left out and counted', () => {
    const { events, dropped } = decodeEvents(
      message('[1, {"type": "task-sent", "__proto__": {"x": 1}}, {"no": "type"}]'),
      JSON_ONLY,
    );
    expect(dropped).toBe(2);
    expect(events.map(({ type }) => type)).toEqual(['task-sent']);
    expect(Object.keys(events[0] ?? {})).toEqual(['type', '__proto__']);
  });
});
