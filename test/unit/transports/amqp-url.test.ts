import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../../src/errors.ts';
import { amqpTarget } from '../../../src/transports/amqp-url.ts';

const local = { hostname: '127.0.0.1', port: 5672, username: 'guest', password: 'guest', vhost: '/' };

/** What py-amqp is told, by kombu/utils/url.py and kombu/connection.py (5.6). */
describe('an AMQP URL is read as kombu reads it', () => {
  test.each([
    ['amqp://', local],
    ['amqp://localhost', local],
    ['pyamqp://localhost//', local],
    ['AMQP://localhost/', local],
    ['amqp://h', { ...local, hostname: 'h' }],
    ['amqp://h:7000', { ...local, hostname: 'h', port: 7000 }],
    ['amqp://[::1]:7000/foo', { ...local, hostname: '::1', port: 7000, vhost: 'foo' }],
    ['amqp://h/', { ...local, hostname: 'h' }],
    ['amqp://h//', { ...local, hostname: 'h' }],
    ['amqp://h/foo', { ...local, hostname: 'h', vhost: 'foo' }],
    ['amqp://h//foo', { ...local, hostname: 'h', vhost: '/foo' }],
    ['amqp://h/%2F', { ...local, hostname: 'h' }],
    ['amqp://h/%2Ffoo', { ...local, hostname: 'h', vhost: '/foo' }],
    ['amqp://h/a%2Fb%20c', { ...local, hostname: 'h', vhost: 'a/b c' }],
    ['amqp://h/a/b', { ...local, hostname: 'h', vhost: 'a/b' }],
    ['amqp://h/100%', { ...local, hostname: 'h', vhost: '100%' }],
    ['amqp://me:pw@h/v', { ...local, hostname: 'h', username: 'me', password: 'pw', vhost: 'v' }],
    ['amqp://m%40e:p%2Fw%3A%25@h/v', { ...local, hostname: 'h', username: 'm@e', password: 'p/w:%', vhost: 'v' }],
    ['amqp://me:p@ss:w@h', { ...local, hostname: 'h', username: 'me', password: 'p@ss:w' }],
    ['amqp://me@h', { ...local, hostname: 'h', username: 'me' }],
    ['amqp://:pw@h', { ...local, hostname: 'h', password: 'pw' }],
    ['amqp://me:@h', { ...local, hostname: 'h', username: 'me' }],
  ])('%s', (url, expected) => {
    const { maskedUrl: _masked, tls, ...node } = amqpTarget(url).nodes[0]!;
    expect(node).toEqual(expected);
    expect(tls).toBeUndefined();
  });

  test.each([
    ['http://h', "'http://h' is no AMQP URL"],
    ['h:5672', 'is no AMQP URL'],
    ['amqp://me:secret@h:port/v', "'amqp://me:**@h:port/v': 'h:port' is no host[:port]"],
    ['amqp://h;redis://me:secret@h', "'redis://me:**@h' is no AMQP URL"],
    ['amqps://h?ssl_cert_reqs=maybe', "ssl_cert_reqs must be required, optional or none, not 'maybe'"],
    ['amqps://me:secret@h?ssl_ca_certs=/no/such.pem', 'ssl_ca_certs cannot be read: /no/such.pem'],
  ])('%s is refused: %s', (url, why) => {
    expect(() => amqpTarget(url)).toThrow(ConfigError);
    expect(() => amqpTarget(url)).toThrow(why);
    expect(() => amqpTarget(url)).not.toThrow(/secret/);
  });
});

test.each([
  ['amqp://h/v', 'amqp://h/v'],
  ['amqp://me:secret@h/v', 'amqp://me:**@h/v'],
  ['amqp://me:sec@ret@h/v', 'amqp://me:**@h/v'],
  ['amqps://me:secret@h/v?ssl_cert_reqs=none', 'amqps://me:**@h/v?ssl_cert_reqs=none'],
  ['amqp://me:one@a/v;amqp://me:two@b/v', 'amqp://me:**@a/v;amqp://me:**@b/v'],
])('%s is shown as %s', (url, shown) => {
  expect(amqpTarget(url).maskedUrl).toBe(shown);
});

describe('several URLs', () => {
  test.each(['amqp://a;amqps://b:1/v', 'amqp://a; amqps://b:1/v', 'amqp://a,amqps://b:1/v'])(
    '%s are two nodes',
    (url) => {
      const { nodes } = amqpTarget(url);
      expect(nodes.map(({ hostname, port, vhost }) => [hostname, port, vhost])).toEqual([
        ['a', 5672, '/'],
        ['b', 1, 'v'],
      ]);
      expect(nodes.map(({ tls }) => tls !== undefined)).toEqual([false, true]);
    },
  );
});

describe('TLS', () => {
  test('amqps:// has a port of its own, and checks the certificate of the host it was given', () => {
    const [node] = amqpTarget('amqps://broker.example').nodes;
    expect(node).toMatchObject({ port: 5671, tls: { servername: 'broker.example', rejectUnauthorized: true } });
  });

  test.each([
    ['?ssl_cert_reqs=CERT_NONE', false],
    ['?ssl_cert_reqs=optional', true],
  ])('amqps://h%s: certificates are checked: %s', (query, rejectUnauthorized) => {
    expect(amqpTarget(`amqps://h${query}`).nodes[0]?.tls).toMatchObject({ rejectUnauthorized });
  });

  test('options of its own win over the URL, and make amqp:// speak TLS', () => {
    const ca = Buffer.from('authority');
    expect(amqpTarget('amqp://h', { tls: { ca } }).nodes[0]?.tls).toMatchObject({ ca });
    expect(
      amqpTarget('amqps://h?ssl_cert_reqs=none', { tls: { rejectUnauthorized: true } }).nodes[0]?.tls,
    ).toMatchObject({
      rejectUnauthorized: true,
    });
  });
});
