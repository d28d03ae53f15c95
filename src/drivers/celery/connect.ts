import { ConfigError } from '../../errors.ts';
import type { AmqpTargetOptions } from '../../transports/amqp-url.ts';
import type { CeleryBroker, ResultBackend } from './brokers/broker.ts';
import { AmqpBroker } from './brokers/amqp.ts';
import { FilesystemBroker, filesystemOptions } from './brokers/filesystem.ts';
import { MemoryBroker, memoryName } from './brokers/memory.ts';
import { RedisBroker } from './brokers/redis.ts';
import type { CeleryAppOptions } from './options.ts';
import { DisabledResults } from './results/disabled.ts';
import { FileResults, fileResultsFolder } from './results/file.ts';
import { MemoryResults } from './results/memory.ts';
import { RedisResults } from './results/redis.ts';
import { RpcResults } from './results/rpc.ts';

/** The broker of a URL. Throws ConfigError for a scheme that is not supported here. */
export function brokerFor(options: CeleryAppOptions): CeleryBroker {
  const { broker } = options;
  if (typeof broker !== 'string') return broker;
  const scheme = schemeOf(broker);
  switch (scheme) {
    case 'redis':
    case 'rediss':
    case 'redis+socket':
    case 'sentinel':
      return new RedisBroker(broker, options.brokerTransportOptions);
    case 'filesystem':
      return new FilesystemBroker(filesystemOptions(broker, options.brokerTransportOptions));
    case 'memory':
      return new MemoryBroker(memoryName(broker));
    case 'amqp':
    case 'amqps':
    case 'pyamqp':
    case 'pyamqps':
      return new AmqpBroker(broker, options.brokerTransportOptions, options);
    default:
      throw new ConfigError(
        `celery: no broker supports '${scheme}://'; known are amqp, amqps, redis, rediss, redis+socket, sentinel, filesystem and memory`,
      );
  }
}

/** The result backend of a URL. Without a URL, results are not stored. */
export function backendFor(options: CeleryAppOptions): ResultBackend {
  const { backend } = options;
  if (backend === undefined || backend === '') return new DisabledResults();
  if (typeof backend !== 'string') return backend;
  const expires = options.resultExpires === undefined ? {} : { resultExpires: options.resultExpires };
  const scheme = schemeOf(backend);
  switch (scheme) {
    case 'redis':
    case 'rediss':
    case 'redis+socket':
    case 'socket':
    case 'sentinel':
      return new RedisResults(backend, { ...options.resultBackendTransportOptions, ...expires });
    case 'file':
      return new FileResults({ folder: fileResultsFolder(backend), ...keyPrefix(options), ...expiry(options) });
    case 'memory':
      return new MemoryResults(memoryName(backend), expiry(options));
    case 'rpc':
      return new RpcResults(rpcUrl(options, backend), {
        ...amqpOptions(options),
        ...expires,
        ...(options.resultPersistent === undefined ? {} : { resultPersistent: options.resultPersistent }),
        ...(options.resultSerializer === undefined ? {} : { resultSerializer: options.resultSerializer }),
      });
    case 'disabled':
      return new DisabledResults();
    default:
      throw new ConfigError(
        `celery: no result backend supports '${/^[\w-]+$/.test(backend) ? backend : `${scheme}://`}'; known are redis, rediss, sentinel, rpc, file, memory and disabled${hint(scheme, backend)}`,
      );
  }
}

/** Advice for a backend of Celery that is not supported here. */
function hint(scheme: string, backend: string): string {
  if (/^(?:py)?amqps?$/.test(scheme)) return '. Results over RabbitMQ are rpc://';
  if (backend.startsWith('django-')) return '. Name one of them on both sides, in Django too';
  return '';
}

/** `rpc://` uses the broker's own address. `rpc://user@host` names another server. */
function rpcUrl({ broker }: CeleryAppOptions, backend: string): string {
  if (/^rpc:\/\/.+/i.test(backend)) return backend.replace(/^rpc/i, 'amqp');
  if (typeof broker === 'string' && /^(?:py)?amqps?:/i.test(broker)) return broker;
  throw new ConfigError(
    'celery: rpc:// sends results through an AMQP broker; with another broker, set a backend that stores them',
  );
}

function amqpOptions({ brokerTransportOptions: transport }: CeleryAppOptions): AmqpTargetOptions {
  const { tls, heartbeatSeconds, connectTimeoutMs, connectionName } = transport ?? {};
  return Object.fromEntries(
    Object.entries({ tls, heartbeatSeconds, connectTimeoutMs, connectionName }).filter(
      ([, value]) => value !== undefined,
    ),
  );
}

function keyPrefix({ resultBackendTransportOptions: transport }: CeleryAppOptions): { readonly keyPrefix?: string } {
  return transport?.globalKeyprefix === undefined ? {} : { keyPrefix: transport.globalKeyprefix };
}

function expiry({ resultExpires }: CeleryAppOptions): { readonly expiresMs?: number } {
  return resultExpires === undefined ? {} : { expiresMs: resultExpires * 1000 };
}

function schemeOf(url: string): string {
  return (/^([a-z][a-z0-9+]*):/i.exec(url)?.[1] ?? '').toLowerCase();
}
