import type { ClusterNode, RedisOptions as AnyRedisOptions } from 'ioredis';
import { ConfigError } from '../errors.ts';
import { maskUrl, splitOnce, tlsOptions, unquote } from './url.ts';

type RedisOptions = Omit<AnyRedisOptions, 'replyMapping'>;

/** The address of Redis and the credentials. `maskedUrl` is for banners and logs. */
export interface RedisTarget {
  readonly maskedUrl: string;
  readonly db: number;
  readonly options: RedisOptions;
  /** Nodes of a Redis Cluster; then every key must share one hash tag. */
  readonly cluster?: readonly ClusterNode[];
}

export interface RedisTargetOptions {
  /** TLS settings beyond the URL's, as node:tls takes them. */
  readonly tls?: RedisOptions['tls'];
  /** Sentinel: the name of the master. */
  readonly masterName?: string;
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
  readonly username?: string;
  readonly password?: string;
  readonly connectTimeoutMs?: number;
  /** Milliseconds without an answer after which the connection is given up and made again. @default 30 000 */
  readonly socketTimeoutMs?: number;
  /** TCP keep-alive. @default true */
  readonly socketKeepalive?: boolean;
  readonly clientName?: string;
  /** Treat the URL's hosts as nodes of a Redis Cluster. */
  readonly cluster?: boolean;
}

/**
 * Reads `redis://`, `rediss://`, `redis+socket://`, `socket://`, `unix://`, `sentinel://h1;sentinel://h2` as kombu does: user, password and
 * path are percent-decoded, the path is the database. Throws ConfigError naming the URL (masked) and what is wrong with it.
 */
export function redisTarget(url: string, options: RedisTargetOptions = {}): RedisTarget {
  const parts = url.split(/[;,](?=[a-z+]+:\/\/)/i).map((part) => parse(part.trim(), url));
  const first = parts[0] as ParsedUrl;
  const common: RedisOptions = {
    protocol: 2,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    // With null, ioredis forgets a pipeline that was under way when the connection closed: its promise never settles.
    maxRetriesPerRequest: 0,
    connectTimeout: options.connectTimeoutMs ?? 10_000,
    socketTimeout: options.socketTimeoutMs ?? 30_000,
    keepAlive: options.socketKeepalive === false ? 0 : 30_000,
    retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 6), 2_000) * (0.5 + Math.random() / 2),
    // After a failover the connection may lead to a replica: ask for the master again.
    reconnectOnError: (error) => error.message.includes('READONLY'),
    ...(options.clientName === undefined ? {} : { connectionName: options.clientName }),
  };
  const username = options.username ?? first.username;
  const password = options.password ?? first.password;
  const auth: RedisOptions = {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
  const tls = first.scheme === 'rediss' || options.tls !== undefined ? { tls: { ...first.tls, ...options.tls } } : {};
  const maskedUrl = parts.map((part) => part.masked).join(';');
  const db = first.db;
  if (first.scheme === 'sentinel') {
    const name = options.masterName ?? first.query.get('master_name') ?? undefined;
    if (name === undefined) throw new ConfigError(`redis: ${maskedUrl} names sentinels but no master; pass masterName`);
    const sentinels = parts.map(({ host, port }) => ({ host, port: port ?? 26379 }));
    const secret = options.sentinelPassword === undefined ? {} : { sentinelPassword: options.sentinelPassword };
    const user = options.sentinelUsername === undefined ? {} : { sentinelUsername: options.sentinelUsername };
    // After a failover the old master answers until the sentinels have reconfigured it, ten seconds later. The sentinels notify the failover detector
    // at once.
    const follow = { sentinels, name, failoverDetector: true };
    return { maskedUrl, db, options: { ...common, ...auth, ...secret, ...user, ...tls, ...follow, db } };
  }
  if (options.cluster === true) {
    if (db !== 0)
      throw new ConfigError(`redis: ${maskedUrl} names database ${db}; a Redis Cluster has only database 0`);
    return {
      maskedUrl,
      db,
      options: { ...common, ...auth, ...tls },
      cluster: parts.map(({ host, port }) => ({ host, port: port ?? 6379 })),
    };
  }
  if (first.socketPath !== undefined)
    return { maskedUrl, db, options: { ...common, ...auth, path: first.socketPath, db } };
  return { maskedUrl, db, options: { ...common, ...auth, ...tls, host: first.host, port: first.port ?? 6379, db } };
}

interface ParsedUrl {
  readonly scheme: string;
  readonly host: string;
  readonly port: number | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly socketPath: string | undefined;
  readonly tls: NonNullable<RedisOptions['tls']>;
  readonly query: URLSearchParams;
  readonly masked: string;
}

const SOCKETS = new Set(['redis+socket', 'socket', 'unix']);
const SCHEMES = new Set(['redis', 'rediss', 'sentinel', ...SOCKETS]);

function parse(part: string, whole: string): ParsedUrl {
  const masked = maskUrl(part, (scheme, address) => endOfUser(scheme, address));
  const match = /^([a-z][a-z0-9+]*):\/\/(.*)$/i.exec(part);
  const scheme = match?.[1]?.toLowerCase() ?? '';
  if (match === null || !SCHEMES.has(scheme)) {
    throw new ConfigError(
      `redis: '${masked}' is no Redis URL; expected redis://[user:password@]host[:6379][/db], rediss://, redis+socket:///path or sentinel://`,
    );
  }
  const [address = '', search = ''] = splitOnce(match[2] as string, '?');
  const query = new URLSearchParams(search);
  const at = endOfUser(scheme, address);
  const [rawUser, rawPassword] = at < 0 ? [] : splitOnce(address.slice(0, at), ':');
  const rest = address.slice(at + 1);
  const credentials = {
    username: rawUser === undefined || rawUser === '' ? undefined : unquote(rawUser),
    password: rawPassword === undefined || rawPassword === '' ? undefined : unquote(rawPassword),
  };
  const fixed = { scheme, query, masked, tls: tlsOptions('redis', query, masked), ...credentials };
  if (SOCKETS.has(scheme)) {
    return {
      ...fixed,
      host: '',
      port: undefined,
      db: database(query.get('virtual_host') ?? query.get('db') ?? '', masked),
      socketPath: unquote(rest),
    };
  }
  const slash = rest.indexOf('/');
  const hostPort = slash < 0 ? rest : rest.slice(0, slash);
  const path = slash < 0 ? '' : unquote(rest.slice(slash + 1));
  const host = /^(\[[^\]]+\]|[^:]*)(?::(\d+))?$/.exec(hostPort);
  if (host === null)
    throw new ConfigError(
      `redis: '${masked}': '${hostPort}' is no host[:port]${whole === part ? '' : ' (of several URLs)'}`,
    );
  const name = (host[1] ?? '').replace(/^\[|\]$/g, '');
  return {
    ...fixed,
    host: name === '' ? '127.0.0.1' : name,
    port: host[2] === undefined ? undefined : Number(host[2]),
    db: database(query.get('virtual_host') ?? query.get('db') ?? path, masked),
    socketPath: undefined,
  };
}

/**
 * The index where user and password end: at the last `@`, because people write passwords with an unescaped `@`. In the path of a socket an `@` is
 * part of the path.
 */
function endOfUser(scheme: string, address: string): number {
  const path = SOCKETS.has(scheme) ? address.indexOf('/') : -1;
  return path < 0 ? address.lastIndexOf('@') : address.lastIndexOf('@', path);
}

function database(text: string, masked: string): number {
  if (text === '' || text === '/') return 0;
  if (!/^\/?\d+$/.test(text)) throw new ConfigError(`redis: '${masked}': the database must be a number, not '${text}'`);
  return Number(text.replace('/', ''));
}
