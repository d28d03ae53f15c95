import { spawn, type ChildProcess } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis, type RedisOptions } from 'ioredis';
import { makeCertificates, readTls, type Certificates } from './certificates.ts';
import { temporaryFolder } from './folder.ts';
import { freePort } from './free-port.ts';
import { hold } from './leash.mjs';
import { findRedis } from './setup.mjs';
import { until } from './until.ts';

export { until };

/** ioredis types its replies by `replyMapping`; a test takes them as they come. */
export type ClientOptions = Omit<RedisOptions, 'replyMapping'>;

export interface RedisServerOptions {
  /** Keep the data over `kill()` and `restart()`: an append-only file, synced at every write. @default false */
  readonly persistence?: boolean;
  /** Listen with TLS; `url` is `rediss:`. With `'mutual'` a client needs a certificate too. @default false */
  readonly tls?: boolean | 'mutual';
  /** Listen on a Unix socket as well: `socketPath`. @default false */
  readonly unixSocket?: boolean;
  readonly password?: string;
  /** More arguments for redis-server: `['--maxmemory', '1mb']`. */
  readonly args?: readonly string[];
}

/** A Redis server of the test's own: free port, own folder, gone with the test. */
export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** `redis://127.0.0.1:<port>`, with the password when there is one; database 0. */
  readonly url: string;
  /** Where its data and certificates are. */
  readonly folder: string;
  readonly pid: number;
  readonly socketPath: string | undefined;
  readonly certificates: Certificates | undefined;
  /** The URL of another database. */
  urlOf(database: number): string;
  /** A connection to it, closed with the server. It does not try to reconnect for ever: one failed command is an error. */
  client(options?: ClientOptions): Redis;
  /** SIGTERM. The folder stays, for `restart()`. */
  stop(): Promise<void>;
  /** SIGKILL, as a crash. */
  kill(): Promise<void>;
  /** Stop it if it runs, start it again on the same port and folder, wait until it answers. */
  restart(): Promise<void>;
  /** SIGSTOP: it accepts connections and says nothing. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** What it has logged, for a failure message. */
  log(): string;
}

/** Starts one, and resolves when it answers and is known to be the one started. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const program = findRedis();
  if (program === undefined)
    throw new Error('no redis-server: run `node test/support/setup.mjs redis`, which installs it or says how');
  const server = new OwnRedis(program, options);
  await server.open();
  return server;
}

/** Redis keeps TCP addresses to itself: what was started is a folder and a pid, and both are compared. */
class OwnRedis implements RedisServer {
  readonly folder = temporaryFolder('jobglot-redis-');
  readonly socketPath: string | undefined;
  certificates: Certificates | undefined;
  port = 0;
  readonly #program: string;
  readonly #options: RedisServerOptions;
  readonly #clients = new Set<Redis>();
  #process: OwnProcess | undefined;

  constructor(program: string, options: RedisServerOptions) {
    this.#program = program;
    this.#options = options;
    this.socketPath = options.unixSocket === true ? join(this.folder, 'redis.sock') : undefined;
  }

  async open(): Promise<void> {
    if (this.#options.tls) this.certificates = await makeCertificates(join(this.folder, 'tls'));
    // A port found free may be taken before redis-server binds it.
    for (let attempt = 1; ; attempt++) {
      this.port = await freePort();
      try {
        return await this.#start();
      } catch (error) {
        await this.kill();
        if (attempt === 5) throw error;
      }
    }
  }

  get url(): string {
    return this.urlOf(0);
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  urlOf(database: number): string {
    const { password, tls } = this.#options;
    const user = password === undefined ? '' : `:${encodeURIComponent(password)}@`;
    return `${tls ? 'rediss' : 'redis'}://${user}127.0.0.1:${this.port}/${database}`;
  }

  client(options: ClientOptions = {}): Redis {
    const client = this.#connect(options);
    this.#clients.add(client);
    client.once('end', () => this.#clients.delete(client));
    return client;
  }

  async stop(): Promise<void> {
    await this.#process?.end('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#process?.end('SIGKILL');
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.#start();
  }

  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  log(): string {
    return this.#process?.log ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    this.#process = new OwnProcess(this.#program, this.#args());
    await this.#process.ready(async () => {
      const probe = this.#connect({ connectTimeout: 2000, commandTimeout: 2000, retryStrategy: () => 10 });
      try {
        const folder = await probe.config('GET', 'dir');
        const pid = /process_id:(\d+)/.exec(await probe.info('server'))?.[1];
        return Number(pid) === this.pid && (folder as string[])[1] === this.folder;
      } finally {
        probe.disconnect();
      }
    });
  }

  #connect(options: ClientOptions): Redis {
    const { password, tls } = this.#options;
    const own: ClientOptions = { host: '127.0.0.1', port: this.port, maxRetriesPerRequest: 1 };
    if (password !== undefined) own.password = password;
    if (tls && this.certificates !== undefined) own.tls = readTls(this.certificates);
    Object.assign(own, options);
    const client = new Redis(own);
    // The failure of a command says it as well.
    client.on('error', () => {});
    return client;
  }

  #args(): string[] {
    const { persistence, password, tls, args = [] } = this.#options;
    const all = ['--bind', '127.0.0.1', '--dir', this.folder, '--save', ''];
    if (tls && this.certificates !== undefined) {
      const { ca, serverCert, serverKey } = this.certificates;
      all.push('--port', '0', '--tls-port', String(this.port), '--tls-auth-clients', tls === 'mutual' ? 'yes' : 'no');
      all.push('--tls-ca-cert-file', ca, '--tls-cert-file', serverCert, '--tls-key-file', serverKey);
    } else all.push('--port', String(this.port));
    if (persistence === true) all.push('--appendonly', 'yes', '--appendfsync', 'always');
    if (password !== undefined) all.push('--requirepass', password);
    if (this.socketPath !== undefined) all.push('--unixsocket', this.socketPath);
    return [...all, ...args];
  }
}

export interface SentinelOptions {
  /** How many replicas the master has. @default 1 */
  readonly replicas?: number;
  /** The name the sentinel knows the master by. @default 'jobglot' */
  readonly name?: string;
}

/** A master, its replicas and one sentinel that watches them. */
export interface SentinelServer extends AsyncDisposable {
  readonly name: string;
  readonly port: number;
  /** `sentinel://127.0.0.1:<port>/0`, as Celery writes it. */
  readonly url: string;
  readonly pid: number;
  readonly master: RedisServer;
  readonly replicas: readonly RedisServer[];
  /** Make a replica the master, and wait until the sentinel names it. The port of the new master. */
  failover(): Promise<number>;
}

/** Starts all of them, and resolves when the sentinel knows the replicas. */
export async function startSentinel(options: SentinelOptions = {}): Promise<SentinelServer> {
  const name = options.name ?? 'jobglot';
  await using started = new Owned();
  const master = started.use(await startRedis());
  const replicas: RedisServer[] = [];
  for (let number = 0; number < (options.replicas ?? 1); number++) {
    const args = ['--replicaof', '127.0.0.1', String(master.port), '--repl-diskless-sync-delay', '0'];
    replicas.push(started.use(await startRedis({ args })));
  }
  const folder = temporaryFolder('jobglot-sentinel-');
  const port = await freePort();
  // A sentinel writes to its own configuration file.
  const config = join(folder, 'sentinel.conf');
  await writeFile(
    config,
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      `sentinel monitor ${name} 127.0.0.1 ${master.port} 1`,
      `sentinel down-after-milliseconds ${name} 1000`,
      `sentinel failover-timeout ${name} 3000`,
      '',
    ].join('\n'),
  );
  const sentinel = started.use(new OwnProcess(findRedis() ?? 'redis-server', [config, '--sentinel']));
  const ask = async <T>(question: (client: Redis) => Promise<T>): Promise<T> => {
    const client = new Redis({ host: '127.0.0.1', port, maxRetriesPerRequest: 1, commandTimeout: 5000 });
    client.on('error', () => {});
    try {
      return await question(client);
    } finally {
      client.disconnect();
    }
  };
  const masterPort = (): Promise<number> =>
    ask(async (client) => Number(((await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)) as string[])[1]));
  await sentinel.ready(async () => {
    const known = await ask(async (client) => {
      const pid = /process_id:(\d+)/.exec(await client.info('server'))?.[1];
      if (Number(pid) !== sentinel.pid) return -1;
      return ((await client.call('SENTINEL', 'REPLICAS', name)) as unknown[]).length;
    });
    return known === replicas.length;
  });
  const owned = started.move();
  return {
    name,
    port,
    url: `sentinel://127.0.0.1:${port}/0`,
    pid: sentinel.pid,
    master,
    replicas,
    async failover() {
      const before = await masterPort();
      await until('the sentinel has named another master', async () => {
        // Refused (NOGOODSLAVE, INPROG) until it has seen the replica long enough.
        await ask((client) => client.call('SENTINEL', 'FAILOVER', name)).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 500));
        return (await masterPort()) !== before;
      });
      return masterPort();
    },
    async [Symbol.asyncDispose]() {
      await owned[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A redis-server, of either kind. */
class OwnProcess implements AsyncDisposable {
  log = '';
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;
  #isGone = false;

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    hold(this.#child);
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    this.#gone = new Promise((resolve) => {
      const gone = (): void => {
        this.#isGone = true;
        resolve();
      };
      this.#child.once('exit', gone);
      this.#child.once('error', (error) => {
        this.log += error.message;
        gone();
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when `isOurs` says so; rejects when the process ends before that. */
  async ready(isOurs: () => Promise<boolean>): Promise<void> {
    await until(`redis-server (${this.pid}) is ready`, async () => {
      if (this.#isGone) throw new Error(`redis-server ended at its start:\n${this.log}`);
      return isOurs().catch(() => false);
    });
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.#isGone) return;
    this.#child.kill(signal);
    // A frozen server does not hear SIGTERM.
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.#gone;
    clearTimeout(patience);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end('SIGKILL');
  }
}

/** What Node 24's AsyncDisposableStack is, as far as it is needed here: Node 20 has none. */
class Owned implements AsyncDisposable {
  #held: AsyncDisposable[] = [];
  use<T extends AsyncDisposable>(one: T): T {
    this.#held.push(one);
    return one;
  }
  move(): Owned {
    const moved = new Owned();
    moved.#held = this.#held;
    this.#held = [];
    return moved;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#held.toReversed()) await one[Symbol.asyncDispose]();
  }
}
