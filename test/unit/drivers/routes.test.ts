import { describe, expect, test } from 'vitest';
import { destination, signatureRoute, type TaskRoutes } from '../../../src/drivers/celery/client/routes.ts';

const to = (routes: TaskRoutes, task: string, options = {}): unknown => destination(routes, 'celery', task, options);
const queue = (name: string): unknown => ({ exchange: '', routingKey: name });

describe('what a call says itself wins over any route, whose priority stays:', () => {
  const routes: TaskRoutes = { 'shop.pay': { queue: 'money', priority: 3 } };
  test.each([
    ['its queue', { queue: 'own' }, { exchange: '', routingKey: 'own', priority: 3 }],
    ['its routing key', { routingKey: 'own' }, { exchange: '', routingKey: 'own', priority: 3 }],
    [
      'its queue, and the key for the exchange of that',
      { queue: 'own', routingKey: 'k' },
      { exchange: '', routingKey: 'own', queueKey: 'k', priority: 3 },
    ],
    ['its exchange and routing key', { exchange: 'x', routingKey: 'k' }, { exchange: 'x', routingKey: 'k' }],
    ['its exchange, reached by the queue name', { exchange: 'x', queue: 'q' }, { exchange: 'x', routingKey: 'q' }],
    ['nothing, so the route', { exchange: '' }, { exchange: '', routingKey: 'money', priority: 3 }],
  ])('%s', (_, options, expected) => {
    expect(to(routes, 'shop.pay', options)).toEqual(expected);
  });
});

describe('a table', () => {
  test.each<[string, TaskRoutes, string, unknown]>([
    ['by name', { 'shop.pay': 'money' }, 'shop.pay', queue('money')],
    [
      'an exact name before a pattern that stands first',
      { 'shop.*': 'any', 'shop.pay': 'money' },
      'shop.pay',
      queue('money'),
    ],
    ['the first pattern that fits', { 'shop.p*': 'p', 'shop.*': 'any' }, 'shop.pay', queue('p')],
    ['no match: the default queue', { 'shop.*': 'any' }, 'mail.send', queue('celery')],
    ['the whole name must fit', { '*.pay': 'money' }, 'shop.pay_later', queue('celery')],
    ['a star fits the empty text, too', { 'shop.*': 'any' }, 'shop.', queue('any')],
    ['a dot is a dot', { 'a.b*': 'any' }, 'aXb', queue('celery')],
    ['? is one character, beside a star', { 'shop.?ay*': 'any' }, 'shop.payment', queue('any')],
    ['? without a star is a question mark', { 'shop.?ay': 'any' }, 'shop.pay', queue('celery')],
    ['[…] is one of these, beside a star', { 'shop[12].*': 'any' }, 'shop2.pay', queue('any')],
    ['[!…] is none of these', { 'shop[!12].*': 'any' }, 'shop2.pay', queue('celery')],
    ['a set without its end is text', { 'shop[1*': 'any' }, 'shop[1.pay', queue('any')],
    [
      'an exchange with its key',
      { pay: { exchange: 'x', routingKey: 'k' } },
      'pay',
      { exchange: 'x', routingKey: 'k' },
    ],
    [
      'a queue, and a key for its exchange',
      { pay: { queue: 'money', routingKey: 'money.in' } },
      'pay',
      { exchange: '', routingKey: 'money', queueKey: 'money.in' },
    ],
    ['an exchange without a key', { pay: { exchange: 'x' } }, 'pay', { exchange: 'x', routingKey: '' }],
    [
      'only a priority: the default queue',
      { pay: { priority: 9 } },
      'pay',
      { exchange: '', routingKey: 'celery', priority: 9 },
    ],
    ['a name of Object.prototype is not in it', {}, 'toString', queue('celery')],
  ])('%s', (_, routes, task, expected) => {
    expect(to(routes, task)).toEqual(expected);
  });
});

describe('a list', () => {
  test('takes the first entry that answers: table, function or pair', () => {
    const routes: TaskRoutes = [
      { 'a.*': 'table' },
      (task) => (task.startsWith('b.') ? 'function' : undefined),
      ['c.*', 'pair'],
      ['d.exact', 'name'],
      [/^(video|image)\./, { queue: 'media' }],
    ];
    expect(
      ['a.1', 'b.1', 'c.1', 'd.exact', 'd.other', 'video.cut', 'my.video.cut'].map((task) => to(routes, task)),
    ).toEqual(['table', 'function', 'pair', 'name', 'celery', 'media', 'celery'].map(queue));
  });

  test('an expression with the g flag fits every time, not every other time', () => {
    const routes: TaskRoutes = [[/video/g, 'media']];
    expect([1, 2, 3].map(() => to(routes, 'video.cut'))).toEqual([1, 2, 3].map(() => queue('media')));
  });
});

test('a router function sees the arguments', () => {
  const routes: TaskRoutes = (_task, [region], kwargs) => `${String(region)}-${(kwargs as { tier: string }).tier}`;
  expect(destination(routes, 'celery', 'pay', {}, ['eu'], { tier: 'gold' })).toEqual(queue('eu-gold'));
});

test("a signature's options on the wire win over the routes; what is not text is not looked at", () => {
  const route = signatureRoute({ pay: 'money' }, 'celery');
  expect(route('pay', new Map())).toEqual(queue('money'));
  expect(route('pay', new Map([['queue', 'own']]))).toEqual(queue('own'));
  expect(route('pay', new Map<string, unknown>([['queue', null]]))).toEqual(queue('money'));
  const named = new Map([
    ['exchange', 'x'],
    ['routing_key', 'k'],
  ]);
  expect(route('pay', named)).toEqual({ exchange: 'x', routingKey: 'k' });
});
