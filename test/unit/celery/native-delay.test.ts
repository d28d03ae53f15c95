import { describe, expect, it } from 'vitest';
import type { Declaration } from '../../../protocols/amqp.ts';
import {
  delayBindings,
  delayedDeclarations,
  delayedRoute,
  isDelayable,
  isDelayExchange,
  MAX_DELAY,
  withoutDelay,
} from '../../../protocols/celery/brokers/native-delay.ts';

describe('the levels of waiting', () => {
  it.each([1, 2, 5, 60, 86_399, MAX_DELAY])('hold a message for exactly %d seconds', (seconds) => {
    const route = delayedRoute(seconds, 'shop.orders');
    expect(route?.exchange).toBe('celery_delayed_27');
    expect(travel(delayedDeclarations(), route?.routingKey ?? '')).toEqual({
      waited: seconds,
      arrived: 'celery_delayed_delivery',
    });
  });

  it('are of one type, and never lose a message between two quorum queues', () => {
    const level = (type: 'classic' | 'quorum'): unknown =>
      delayedDeclarations(type).find(({ kind, ...rest }) => kind === 'queue' && 'name' in rest && rest.name === 'celery_delayed_3');
    const classic = {
      'x-queue-type': 'classic',
      'x-overflow': 'reject-publish',
      'x-message-ttl': 8000,
      'x-dead-letter-exchange': 'celery_delayed_2',
    };
    expect(level('classic')).toMatchObject({ durable: true, autoDelete: false, arguments: classic });
    expect(level('quorum')).toMatchObject({
      arguments: { ...classic, 'x-queue-type': 'quorum', 'x-dead-letter-strategy': 'at-least-once' },
    });
  }); // prettier-ignore

  it('declare nothing after it is used', () => {
    const known = new Set<string>();
    for (const each of delayedDeclarations()) {
      if (each.kind !== 'binding') known.add(`${each.kind} ${each.name}`);
      else {
        expect(known).toContain(`exchange ${each.source}`);
        expect(known).toContain(`${each.to} ${each.destination}`);
      }
    }
  });
});

describe('a delayed route', () => {
  const digits = (binary: string): string => [...binary.padStart(28, '0')].join('.');
  it.each([
    [5, 'q', `${digits('101')}.q`],
    [0.25, 'q', `${digits('1')}.q`],
    [1.999, 'q', `${digits('1')}.q`],
    [MAX_DELAY, 'a.b', `${digits('1'.repeat(28))}.a.b`],
    [MAX_DELAY + 1, 'q', `${digits('1'.repeat(28))}.q`],
    [Number.POSITIVE_INFINITY, 'q', `${digits('1'.repeat(28))}.q`],
    [2, '', `${digits('10')}.`],
  ])('of %d seconds for %j', (seconds, key, expected) => {
    expect(delayedRoute(seconds, key)).toEqual({ exchange: 'celery_delayed_27', routingKey: expected });
  });

  it.each([0, -1, Number.NaN])('is none for %d seconds', (seconds) => {
    expect(delayedRoute(seconds, 'q')).toBeUndefined();
  });

  it('does not grow when a message waits again', () => {
    const once = delayedRoute(5, 'shop.orders')?.routingKey ?? '';
    expect(withoutDelay(once)).toBe('shop.orders');
    expect(delayedRoute(7, once)).toEqual(delayedRoute(7, 'shop.orders'));
    expect(withoutDelay('1.0.1.orders')).toBe('1.0.1.orders');
  });

  it('is for every exchange but a direct one', () => {
    expect(['direct', 'topic', 'fanout', 'headers'].map(isDelayable)).toEqual([false, true, true, true]);
  });
});

describe('the way from the last level to a queue', () => {
  const steps = (queue: Parameters<typeof delayBindings>[0]): readonly unknown[] =>
    delayBindings(queue).map((each) =>
      each.kind === 'binding' ? [each.source, each.routingKey, each.to, each.destination] : each,
    );

  it('goes through its exchange, whatever stands before the key', () => {
    expect(steps({ name: 'q', exchange: 'shop', exchangeType: 'topic', routingKey: 'orders.*' })).toEqual([
      ['celery_delayed_delivery', '#.orders.*', 'exchange', 'shop'],
      ['shop', '#.orders.*', 'queue', 'q'],
    ]);
  });
  it('keeps a key that takes everything', () => {
    expect(steps({ name: 'q', exchange: 'shop', exchangeType: 'topic', routingKey: '#.x' })[0]).toEqual([
      'celery_delayed_delivery', '#.x', 'exchange', 'shop',
    ]); // prettier-ignore
  });
  it('is one for each binding that is not direct', () => {
    const bindings = [
      { exchange: 'a', exchangeType: 'topic', routingKey: 'k' },
      { exchange: 'b', routingKey: 'k' },
      { exchange: 'c', exchangeType: 'fanout', routingKey: 'k' },
    ];
    expect(steps({ name: 'q', bindings })).toHaveLength(4);
    expect(steps({ name: 'q' })).toEqual([]);
    expect(steps({ name: 'q', exchange: '', exchangeType: 'topic' })).toEqual([]);
  });
  it('leaves a headers exchange to the headers', () => {
    const queue = { name: 'q', exchange: 'h', exchangeType: 'headers', routingKey: 'k', bindingArguments: { kind: 'a' } };
    expect(steps(queue)).toEqual([['celery_delayed_delivery', '#.k', 'exchange', 'h']]);
  });
}); // prettier-ignore

it('knows the exchanges that a task may come from after its wait', () => {
  const names = [
    'celery_delayed_0',
    'celery_delayed_27',
    'celery_delayed_delivery',
    'celery',
    '',
    'my_celery_delayed_0',
  ];
  expect(names.map(isDelayExchange)).toEqual([true, true, true, false, false, false]);
});

/** Where a message goes from the top, and how long it waits on its way: RabbitMQ in small. */
function travel(
  declarations: readonly Declaration[],
  key: string,
): { readonly waited: number; readonly arrived: string } {
  let exchange = 'celery_delayed_27';
  let waited = 0;
  while (exchange !== 'celery_delayed_delivery') {
    const ways = declarations.flatMap((each) =>
      each.kind === 'binding' && each.source === exchange && matches(each.routingKey, key) ? [each] : [],
    );
    expect(ways).toHaveLength(1);
    const [way] = ways;
    const queue = declarations.find(
      (each) => each.kind === 'queue' && each.name === way?.destination && way.to === 'queue',
    );
    if (queue === undefined || queue.kind === 'binding') exchange = way?.destination ?? '';
    else {
      waited += Number(queue.arguments['x-message-ttl']) / 1000;
      exchange = String(queue.arguments['x-dead-letter-exchange']);
    }
  }
  return { waited, arrived: exchange };
}

/** `*` is one word, and `#` at the end any number. */
function matches(pattern: string, key: string): boolean {
  const words = key.split('.');
  return pattern.split('.').every((word, at) => word === '#' || word === '*' || word === words[at]);
}
