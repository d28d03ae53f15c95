import { describe, expect, test } from 'vitest';
import { celery } from '../../../src/drivers/celery/index.ts';
import { ConfigError } from '../../../src/errors.ts';
import { redisTarget, type RedisTargetOptions } from '../../../src/transports/redis-url.ts';

const read = (url: string, options?: RedisTargetOptions): object => {
  const { db, options: all } = redisTarget(url, options);
  const { host, port, path, username, password } = all as Record<string, unknown>;
  return JSON.parse(JSON.stringify({ host, port, path, username, password, db })) as object;
};
const local = { host: '127.0.0.1', port: 6379, db: 0 };

describe('a Redis URL is read as kombu reads it', () => {
  test.each([
    ['redis://', local],
    ['redis:///3', { ...local, db: 3 }],
    ['redis://localhost', { ...local, host: 'localhost' }],
    ['redis://h:7000/12', { host: 'h', port: 7000, db: 12 }],
    ['redis://[::1]:7000/', { host: '::1', port: 7000, db: 0 }],
    ['redis://h/?virtual_host=4', { host: 'h', port: 6379, db: 4 }],
    ['redis://:p%40ss%2F@h/2', { host: 'h', port: 6379, password: 'p@ss/', db: 2 }],
    ['redis://user:pw@h', { host: 'h', port: 6379, username: 'user', password: 'pw', db: 0 }],
    ['redis://secret@h', { host: 'h', port: 6379, username: 'secret', db: 0 }],
    ['redis://:p@ss@h', { host: 'h', port: 6379, password: 'p@ss', db: 0 }],
    ['redis://:100%@h', { host: 'h', port: 6379, password: '100%', db: 0 }],
    ['redis://:%ff%zz@h', { host: 'h', port: 6379, password: '%ff%zz', db: 0 }],
    ['redis+socket:///run/redis.sock', { path: '/run/redis.sock', db: 0 }],
    ['redis+socket:///run/a@b.sock?virtual_host=5', { path: '/run/a@b.sock', db: 5 }],
    ['redis+socket://:pw@/run/redis.sock', { path: '/run/redis.sock', password: 'pw', db: 0 }],
    ['unix:///run/my%20redis.sock?db=1', { path: '/run/my redis.sock', db: 1 }],
  ])('%s', (url, expected) => {
    expect(read(url)).toEqual(expected);
  });

  test('options win over the URL', () => {
    expect(read('redis://user:pw@h', { username: 'other', password: 'own' })).toMatchObject({
      username: 'other',
      password: 'own',
    });
  });

  test.each([
    ['http://h', "'http://h' is no Redis URL"],
    ['redis://h/jobs', 'the database must be a number'],
    ['redis://:secret@h/jobs', "'redis://:**@h/jobs'"],
    ['redis://h:port', "'h:port' is no host[:port]"],
    ['rediss://h?ssl_cert_reqs=maybe', "ssl_cert_reqs must be required, optional or none, not 'maybe'"],
    ['rediss://h?ssl_ca_certs=/no/such.pem', 'ssl_ca_certs cannot be read: /no/such.pem'],
    ['sentinel://h', 'names sentinels but no master'],
  ])('%s is refused: %s', (url, why) => {
    expect(() => redisTarget(url)).toThrow(ConfigError);
    expect(() => redisTarget(url)).toThrow(why);
  });
});

test.each([
  ['redis://h/0', 'redis://h/0'],
  ['redis://:secret@h/0', 'redis://:**@h/0'],
  ['redis://user:secret@h/0', 'redis://user:**@h/0'],
  ['redis://secret@h/0', 'redis://**@h/0'],
  ['redis://:sec/ret@h/0', 'redis://:**@h/0'],
  ['redis://:sec@ret@h/0', 'redis://:**@h/0'],
  ['redis+socket://:secret@/run/a@b.sock', 'redis+socket://:**@/run/a@b.sock'],
  ['rediss://:secret@h/0?ssl_cert_reqs=none', 'rediss://:**@h/0?ssl_cert_reqs=none'],
])('%s is shown as %s', (url, shown) => {
  expect(redisTarget(url).maskedUrl).toBe(shown);
});

test('every sentinel of a list is asked, and each is shown without its password', () => {
  const target = redisTarget('sentinel://:one@a:1/2;sentinel://:two@b', { masterName: 'm' });
  expect(target.maskedUrl).toBe('sentinel://:**@a:1/2;sentinel://:**@b');
  expect(target.options).toMatchObject({
    sentinels: [
      { host: 'a', port: 1 },
      { host: 'b', port: 26379 },
    ],
    name: 'm',
    db: 2,
  });
});

describe('TLS', () => {
  test.each([
    ['', true],
    ['?ssl_cert_reqs=required', true],
    ['?ssl_cert_reqs=CERT_REQUIRED', true],
    // To a client, Python's CERT_OPTIONAL means CERT_REQUIRED.
    ['?ssl_cert_reqs=optional', true],
    ['?ssl_cert_reqs=none', false],
    ['?ssl_cert_reqs=CERT_NONE', false],
  ])('rediss://h%s: certificates are checked: %s', (query, rejectUnauthorized) => {
    expect(redisTarget(`rediss://h${query}`).options.tls).toMatchObject({ rejectUnauthorized });
  });

  test('a plain URL has none', () => {
    expect(redisTarget('redis://h').options.tls).toBeUndefined();
  });
});

test('TCP keep-alive is on unless it is turned off', () => {
  expect(redisTarget('redis://h').options.keepAlive).toBeGreaterThan(0);
  expect(redisTarget('redis://h', { socketKeepalive: false }).options.keepAlive).toBe(0);
});

test.each([
  ['broker', { brokerTransportOptions: { cluster: true } }],
  ['backend', { resultBackendTransportOptions: { cluster: true } }],
])('the %s in a cluster needs a hash tag as its prefix', (_, options) => {
  const urls = { broker: 'redis://h', backend: 'redis://h' };
  expect(() => celery({ ...urls, ...options })).toThrow(ConfigError);
  expect(() => celery({ ...urls, ...options })).toThrow('set globalKeyprefix');
});

test('a cluster has database 0 only', () => {
  expect(() => redisTarget('redis://h/1', { cluster: true })).toThrow('a Redis Cluster has only database 0');
});
