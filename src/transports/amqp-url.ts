import { isIP } from 'node:net';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { ConfigError } from '../errors.ts';
import { maskUrl, splitOnce, tlsOptions, unquote } from './url.ts';

/** One node of a RabbitMQ cluster, or the only one. */
export interface AmqpNode {
  readonly maskedUrl: string;
  readonly hostname: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
  readonly tls: TlsOptions | undefined;
}

/** The address of RabbitMQ and the credentials. `maskedUrl` is for banners and logs. */
export interface AmqpTarget {
  readonly maskedUrl: string;
  /** Tried in turn. At least one. */
  readonly nodes: readonly AmqpNode[];
  readonly heartbeatSeconds: number;
  readonly connectTimeoutMs: number;
  /** The connection's name on the management pages. */
  readonly connectionName: string | undefined;
}

export interface AmqpTargetOptions {
  /** TLS settings beyond the URL's, as node:tls takes them. */
  readonly tls?: TlsOptions;
  /** Seconds between heartbeats; a server that is silent for twice as long is given up. 0 is off. Celery's `broker_heartbeat`. @default 20 */
  readonly heartbeatSeconds?: number;
  /** @default 4 000 */
  readonly connectTimeoutMs?: number;
  readonly connectionName?: string;
}

/**
 * Reads `amqp://user:password@host:5672/vhost`, `amqps://`, `pyamqp://`, several joined by `;`, as kombu does: everything is percent-decoded,
 * no path or `/` is the virtual host `/`, `/foo` is `foo`, `//foo` is `/foo`. Throws ConfigError naming the URL (masked) and what is wrong with it.
 */
export function amqpTarget(url: string, options: AmqpTargetOptions = {}): AmqpTarget {
  const nodes = url.split(/\s*[;,]\s*(?=[a-z+]+:\/\/)/i).map((part) => parse(part.trim(), options));
  return {
    maskedUrl: nodes.map((node) => node.maskedUrl).join(';'),
    nodes,
    heartbeatSeconds: options.heartbeatSeconds ?? 20,
    connectTimeoutMs: options.connectTimeoutMs ?? 4_000,
    connectionName: options.connectionName,
  };
}

const TLS: ReadonlyMap<string, boolean> = new Map([
  ['amqp', false],
  ['pyamqp', false],
  ['amqps', true],
  ['pyamqps', true],
]);

function parse(url: string, options: AmqpTargetOptions): AmqpNode {
  const maskedUrl = maskUrl(url, endOfUser);
  const match = /^([a-z]+):\/\/(.*)$/is.exec(url);
  const secure = TLS.get(match?.[1]?.toLowerCase() ?? '');
  if (match === null || secure === undefined) {
    throw new ConfigError(
      `amqp: '${maskedUrl}' is no AMQP URL; expected amqp://[user:password@]host[:5672][/vhost] or amqps://`,
    );
  }
  const [address = '', search = ''] = splitOnce(match[2] as string, '?');
  const query = new URLSearchParams(search);
  const at = endOfUser('', address);
  const [username = '', password] = at < 0 ? [] : splitOnce(address.slice(0, at), ':');
  const [hostPort = '', path = ''] = splitOnce(address.slice(at + 1), '/');
  const host = /^(\[[^\]]+\]|[^:]*)(?::(\d+))?$/.exec(hostPort);
  if (host === null) throw new ConfigError(`amqp: '${maskedUrl}': '${hostPort}' is no host[:port]`);
  const name = (host[1] ?? '').replace(/^\[|\]$/g, '');
  return {
    maskedUrl,
    hostname: name === '' || name === 'localhost' ? '127.0.0.1' : name,
    port: host[2] === undefined ? (secure ? 5671 : 5672) : Number(host[2]),
    username: username === '' ? 'guest' : unquote(username),
    // kombu treats an empty password as no password.
    password: password === undefined || password === '' ? 'guest' : unquote(password),
    vhost: path === '' || path === '/' ? '/' : unquote(path),
    tls:
      secure || options.tls !== undefined
        ? { ...(isIP(name) === 0 ? { servername: name } : {}), ...tlsOptions('amqp', query, maskedUrl), ...options.tls }
        : undefined,
  };
}

/** The user and password end at the last `@` before the path, because people write passwords with an unescaped `@`. */
function endOfUser(_: string, address: string): number {
  const path = address.indexOf('/');
  return address.lastIndexOf('@', path < 0 ? undefined : path);
}
