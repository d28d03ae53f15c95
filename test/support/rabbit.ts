import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { connect, type Channel, type ChannelModel, type GetMessage, type Options } from 'amqplib';
import { makeCertificates, type Certificates } from './certificates.ts';
import { temporaryFolder } from './folder.ts';
import { freePort } from './free-port.ts';
import { hold } from './leash.mjs';
import { binary, RabbitControl } from './rabbit-control.ts';
import { findProgram, findRabbit } from './setup.mjs';

const execute = promisify(execFile);

export interface RabbitUser {
  readonly name: string;
  readonly password: string;
  /** Where it may do everything. @default all virtual hosts of the options, and `/` */
  readonly vhosts?: readonly string[];
}

export interface RabbitOptions {
  /**
   * How long a consumer may keep a message (consumer_timeout) before its channel is closed. The broker looks at a channel on
   * its tick, which is made a quarter of this, at least 100 ms. @default 30 minutes, the broker's own
   */
  readonly consumerTimeoutMs?: number;
  /** What the broker suggests, in seconds; 0 is none. @default the broker's own */
  readonly heartbeatSeconds?: number;
  /** Listen with TLS as well: `tlsUrl`. With `'mutual'` a client needs a certificate. @default false */
  readonly tls?: boolean | 'mutual';
  /** The management plugin, which makes the start slower: `managementUrl`. @default false */
  readonly management?: boolean;
  /** More plugins to enable. */
  readonly plugins?: readonly string[];
  /** Virtual hosts beside `/`; guest may do everything there. */
  readonly vhosts?: readonly string[];
  /** Users beside guest. */
  readonly users?: readonly RabbitUser[];
  /** More lines of rabbitmq.conf: `['channel_max = 5']`. */
  readonly config?: readonly string[];
}

/** As declared, with the arguments as JSON has them. */
export interface DeclaredQueue {
  readonly name: string;
  readonly type: 'classic' | 'quorum' | 'stream';
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface DeclaredExchange {
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly internal: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface Binding {
  readonly source: string;
  readonly destination: string;
  readonly destinationKind: 'queue' | 'exchange';
  readonly routingKey: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface Consumer {
  readonly queue: string;
  readonly tag: string;
  readonly ackRequired: boolean;
  /** Its prefetch; 0 is without limit. */
  readonly prefetch: number;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** How many messages of a queue wait, and how many consumers hold. */
export interface MessageCounts {
  readonly ready: number;
  readonly unacked: number;
}

/** A RabbitMQ of the test's own: free ports, own folder, own epmd, gone with the test. */
export interface RabbitServer extends AsyncDisposable {
  readonly version: string;
  readonly port: number;
  /** `amqp://guest:guest@127.0.0.1:<port>//`, as Celery writes the virtual host `/`. */
  readonly url: string;
  /** The same with TLS, `amqps:`. Throws without the option. */
  readonly tlsUrl: string;
  /** The authority that signed the broker's certificate, as Node's `ca` option has it. Throws without the option. */
  readonly ca: Buffer;
  readonly certificates: Certificates | undefined;
  /** `http://guest:guest@127.0.0.1:<port>`. Throws without the option. */
  readonly managementUrl: string;
  readonly folder: string;
  /** The Erlang machine itself. */
  readonly pid: number;
  /** The URL of another virtual host, and of another user: quoted. */
  urlOf(vhost: string, user?: Pick<RabbitUser, 'name' | 'password'>): string;
  /** One more virtual host, where guest may do everything. */
  addVhost(vhost: string): Promise<void>;

  /** A clean stop, as SIGTERM does it. The data stay, for `restart()`. */
  stop(): Promise<void>;
  /** SIGKILL, as a crash. */
  kill(): Promise<void>;
  /** Stop it if it runs, start it again on the same ports and folder, wait until it takes connections. */
  restart(): Promise<void>;
  /** SIGSTOP: the kernel accepts connections, and nobody says anything. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** Close every client's connection, as an operator does (320 CONNECTION_FORCED). */
  dropConnections(reason?: string): Promise<void>;

  /** `rabbitmqctl <args>` against it; what it printed. It takes a second or more: the methods below do not. */
  ctl(...args: readonly string[]): Promise<string>;
  /** The value of Erlang expressions inside the broker. */
  eval(source: string): Promise<unknown>;

  /** By name. */
  queues(vhost?: string): Promise<readonly DeclaredQueue[]>;
  /** By name, without those that every virtual host has (`amq.…` and the default one). */
  exchanges(vhost?: string): Promise<readonly DeclaredExchange[]>;
  /** By source, destination and routing key, without those of the default exchange. */
  bindings(vhost?: string): Promise<readonly Binding[]>;
  /** By queue and tag. */
  consumers(vhost?: string): Promise<readonly Consumer[]>;
  /** As the queue itself counts at this moment. Rejects when there is no such queue. */
  messages(queue: string, vhost?: string): Promise<MessageCounts>;
  /** The same for all queues, by name. */
  allMessages(vhost?: string): Promise<Readonly<Record<string, MessageCounts>>>;
  /** Its ready messages in order, all of them, put back afterwards: the next consumer sees them as redelivered. */
  get(queue: string, vhost?: string): Promise<readonly GetMessage[]>;
  /** Drop what is ready; how many that were. */
  purge(queue: string, vhost?: string): Promise<number>;
  /** Publish bytes as they are, and wait for the broker's confirmation. The default exchange is ''. */
  publish(exchange: string, routingKey: string, body: Buffer | string, options?: Options.Publish): Promise<void>;
  /** A connection of amqplib, closed with the server. */
  connect(vhost?: string): Promise<ChannelModel>;

  /** What it has logged, for a failure message. */
  log(): string;
}

/** Starts one, and resolves when it takes connections. */
export async function startRabbit(options: RabbitOptions = {}): Promise<RabbitServer> {
  const program = findRabbit();
  if (program === undefined)
    throw new Error('no rabbitmq-server: run `node test/support/setup.mjs rabbit`, which installs it or says how');
  const server = new OwnRabbit(program, options);
  await server.open();
  return server;
}

/** The same in every instance: they are told apart by the port of their epmd. */
const NODE = 'rabbit@localhost';
const GUEST = { name: 'guest', password: 'guest' };
const START_MS = 60_000;
const STOP_MS = 30_000;
const LOG_TAIL = 6000;

interface Ports {
  readonly amqp: number;
  readonly tls: number;
  readonly management: number;
  readonly distribution: number;
  readonly epmd: number;
}

class OwnRabbit implements RabbitServer {
  readonly folder = temporaryFolder('jobglot-rabbit-');
  version = '';
  certificates: Certificates | undefined;
  readonly #program: string;
  readonly #options: RabbitOptions;
  readonly #connections = new Set<ChannelModel>();
  #ports: Ports = { amqp: 0, tls: 0, management: 0, distribution: 0, epmd: 0 };
  #control!: RabbitControl;
  #epmd: OwnProcess | undefined;
  #broker: OwnProcess | undefined;

  constructor(program: string, options: RabbitOptions) {
    this.#program = program;
    this.#options = options;
  }

  async open(): Promise<void> {
    this.#control = await RabbitControl.listen(join(this.folder, 'control'));
    if (this.#options.tls) this.certificates = await makeCertificates(join(this.folder, 'tls'));
    // A port found free may be taken before it is bound.
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#choosePorts();
        await this.#start();
        break;
      } catch (error) {
        const again = attempt < 3 && /eaddrinuse|Address already in use|port_in_use/i.test(this.log());
        await this.#end();
        if (again) continue;
        await this[Symbol.asyncDispose]();
        throw error;
      }
    }
    await this.#grant();
  }

  get port(): number {
    return this.#ports.amqp;
  }

  get pid(): number {
    return this.#broker?.pid ?? 0;
  }

  get url(): string {
    return `${address('amqp', GUEST, this.port)}//`;
  }

  get tlsUrl(): string {
    if (!this.#options.tls) throw new Error('this broker has no TLS: startRabbit({ tls: true })');
    return `${address('amqps', GUEST, this.#ports.tls)}//`;
  }

  get ca(): Buffer {
    if (this.certificates === undefined) throw new Error('this broker has no TLS: startRabbit({ tls: true })');
    return readFileSync(this.certificates.ca);
  }

  get managementUrl(): string {
    if (this.#options.management !== true)
      throw new Error('this broker has no management plugin: startRabbit({ management: true })');
    return address('http', GUEST, this.#ports.management);
  }

  urlOf(vhost: string, user: Pick<RabbitUser, 'name' | 'password'> = GUEST): string {
    return `${address('amqp', user, this.port)}/${encodeURIComponent(vhost)}`;
  }

  async addVhost(vhost: string): Promise<void> {
    await this.eval(`ok = rabbit_vhost:add(${binary(vhost)}, ${ACTOR}), true.`);
    await this.#allow(GUEST.name, vhost);
  }

  async stop(): Promise<void> {
    await this.#broker?.end('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#broker?.end('SIGKILL');
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.#start();
  }

  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  async dropConnections(reason = 'dropped by a test'): Promise<void> {
    const text = `binary_to_list(${binary(reason)})`;
    // One may go by itself between being listed and being closed: `catch`.
    await this.eval(
      `[catch rabbit_networking:close_connection(Pid, ${text}) || Pid <- rabbit_networking:connections()], true.`,
    );
  }

  async ctl(...args: readonly string[]): Promise<string> {
    const program = join(dirname(this.#program), 'rabbitmqctl');
    try {
      const { stdout } = await execute(program, ['-q', '-n', NODE, ...args], { cwd: this.folder, env: this.#env() });
      return stdout;
    } catch (cause) {
      const { stdout, stderr } = cause as { stdout?: string; stderr?: string };
      throw new Error(`rabbitmqctl ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause });
    }
  }

  eval(source: string): Promise<unknown> {
    return this.#control.ask(source);
  }

  async queues(vhost = '/'): Promise<readonly DeclaredQueue[]> {
    const keys = ['type', 'durable', 'auto_delete', 'exclusive', 'arguments'];
    const rows = await this.#rows(`rabbit_amqqueue:info_all(${binary(vhost)}, [name, ${keys.join(', ')}])`);
    const queues = rows.map((row) => ({
      name: row['name'] as string,
      // A module's name before 4.0: rabbit_classic_queue.
      type: (row['type'] as string).replace(/^rabbit_|_queue$/g, '') as DeclaredQueue['type'],
      durable: row['durable'] as boolean,
      autoDelete: row['auto_delete'] as boolean,
      exclusive: row['exclusive'] as boolean,
      arguments: row['arguments'] as Record<string, unknown>,
    }));
    return sortBy(queues, ({ name }) => name);
  }

  async exchanges(vhost = '/'): Promise<readonly DeclaredExchange[]> {
    const keys = ['type', 'durable', 'auto_delete', 'internal', 'arguments'];
    const rows = await this.#rows(`rabbit_exchange:info_all(${binary(vhost)}, [name, ${keys.join(', ')}])`);
    const exchanges = rows.map((row) => ({
      name: row['name'] as string,
      type: row['type'] as string,
      durable: row['durable'] as boolean,
      autoDelete: row['auto_delete'] as boolean,
      internal: row['internal'] as boolean,
      arguments: row['arguments'] as Record<string, unknown>,
    }));
    const declared = exchanges.filter(({ name }) => name !== '' && !name.startsWith('amq.'));
    return sortBy(declared, ({ name }) => name);
  }

  async bindings(vhost = '/'): Promise<readonly Binding[]> {
    const keys = ['source_name', 'destination_name', 'destination_kind', 'routing_key', 'arguments'];
    const rows = await this.#rows(`rabbit_binding:info_all(${binary(vhost)}, [${keys.join(', ')}])`);
    const bindings = rows.map((row) => ({
      source: row['source_name'] as string,
      destination: row['destination_name'] as string,
      destinationKind: row['destination_kind'] as Binding['destinationKind'],
      routingKey: row['routing_key'] as string,
      arguments: row['arguments'] as Record<string, unknown>,
    }));
    const declared = bindings.filter(({ source }) => source !== '');
    return sortBy(declared, ({ source, destination, routingKey }) => JSON.stringify([source, destination, routingKey]));
  }

  async consumers(vhost = '/'): Promise<readonly Consumer[]> {
    const rows = await this.#rows(`rabbit_amqqueue:consumers_all(${binary(vhost)})`);
    const consumers = rows.map((row) => ({
      queue: row['queue_name'] as string,
      tag: row['consumer_tag'] as string,
      ackRequired: row['ack_required'] as boolean,
      prefetch: row['prefetch_count'] as number,
      arguments: row['arguments'] as Record<string, unknown>,
    }));
    return sortBy(consumers, ({ queue, tag }) => JSON.stringify([queue, tag]));
  }

  async messages(queue: string, vhost = '/'): Promise<MessageCounts> {
    const counts = (await this.allMessages(vhost))[queue];
    if (counts === undefined) throw new Error(`no queue '${queue}' in the virtual host '${vhost}'`);
    return counts;
  }

  async allMessages(vhost = '/'): Promise<Readonly<Record<string, MessageCounts>>> {
    const rows = await this.#rows(`lists:flatmap(${COUNT}, rabbit_amqqueue:list(${binary(vhost)}))`);
    const counts = rows.map((row): [string, MessageCounts] => [
      row['name'] as string,
      { ready: row['messages_ready'] as number, unacked: row['messages_unacknowledged'] as number },
    ]);
    return Object.fromEntries(sortBy(counts, ([name]) => name));
  }

  get(queue: string, vhost = '/'): Promise<readonly GetMessage[]> {
    return this.#withChannel(vhost, async (channel) => {
      const messages: GetMessage[] = [];
      // What is not acknowledged goes back to its place when the channel closes.
      for (;;) {
        const message = await channel.get(queue);
        if (message === false) return messages;
        messages.push(message);
      }
    });
  }

  async purge(queue: string, vhost = '/'): Promise<number> {
    const { messageCount } = await this.#withChannel(vhost, (channel) => channel.purgeQueue(queue));
    return messageCount;
  }

  async publish(
    exchange: string,
    routingKey: string,
    body: Buffer | string,
    options: Options.Publish = {},
  ): Promise<void> {
    const connection = await this.connect();
    try {
      const channel = await connection.createConfirmChannel();
      // A refusal closes the channel, which waitForConfirms says as well.
      channel.on('error', () => {});
      channel.publish(exchange, routingKey, Buffer.from(body), options);
      await channel.waitForConfirms();
    } finally {
      await closeQuietly(connection);
    }
  }

  async connect(vhost = '/'): Promise<ChannelModel> {
    const connection = await connect(this.urlOf(vhost), { noDelay: true });
    // The failure of an operation says it as well.
    connection.on('error', () => {});
    this.#connections.add(connection);
    connection.once('close', () => this.#connections.delete(connection));
    return connection;
  }

  log(): string {
    return `${this.#epmd?.log ?? ''}${this.#broker?.log ?? ''}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = [...this.#connections];
    await this.#end();
    await Promise.all(open.map(closeQuietly));
    this.#control.close();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  async #end(): Promise<void> {
    await this.kill();
    await this.#epmd?.end('SIGKILL');
    this.#epmd = undefined;
  }

  async #choosePorts(): Promise<void> {
    const [amqp = 0, tls = 0, management = 0, distribution = 0, epmd = 0] = await Promise.all(
      Array.from({ length: 5 }, freePort),
    );
    this.#ports = { amqp, tls, management, distribution, epmd };
    const { config = [], heartbeatSeconds, plugins = [] } = this.#options;
    const lines = [`listeners.tcp.1 = 127.0.0.1:${amqp}`, 'disk_free_limit.absolute = 1MB', 'log.console.level = info'];
    if (heartbeatSeconds !== undefined) lines.push(`heartbeat = ${heartbeatSeconds}`);
    if (this.#options.management === true)
      lines.push('management.tcp.ip = 127.0.0.1', `management.tcp.port = ${management}`);
    lines.push(...this.#tlsConfig(), ...config);
    await this.#write('rabbitmq.conf', `${lines.join('\n')}\n`);
    await this.#write('advanced.config', this.#advancedConfig());
    const enabled = [...(this.#options.management === true ? ['rabbitmq_management'] : []), ...plugins];
    await this.#write('enabled_plugins', `[${enabled.join(', ')}].\n`);
    // Not the one in /etc/rabbitmq.
    await this.#write('rabbitmq-env.conf', '');
    await mkdir(join(this.folder, 'conf.d'), { recursive: true });
  }

  #tlsConfig(): readonly string[] {
    if (this.certificates === undefined) return [];
    const { ca, serverCert, serverKey } = this.certificates;
    const mutual = this.#options.tls === 'mutual';
    return [
      `listeners.ssl.1 = 127.0.0.1:${this.#ports.tls}`,
      `ssl_options.cacertfile = ${ca}`,
      `ssl_options.certfile = ${serverCert}`,
      `ssl_options.keyfile = ${serverKey}`,
      `ssl_options.verify = ${mutual ? 'verify_peer' : 'verify_none'}`,
      `ssl_options.fail_if_no_peer_cert = ${mutual}`,
    ];
  }

  /** rabbitmq.conf has no word for the ticks. A quorum queue counts its messages on its own. */
  #advancedConfig(): string {
    const settings = ['{quorum_tick_interval, 1000}'];
    const timeoutMs = this.#options.consumerTimeoutMs;
    if (timeoutMs !== undefined) {
      const tickMs = Math.max(100, Math.floor(timeoutMs / 4));
      settings.push(`{consumer_timeout, ${timeoutMs}}`, `{channel_tick_interval, ${tickMs}}`);
    }
    return `[{rabbit, [${settings.join(', ')}]}].\n`;
  }

  #write(name: string, content: string): Promise<void> {
    return writeFile(join(this.folder, name), content);
  }

  async #start(): Promise<void> {
    // In the foreground, so that it ends with us: one started by Erlang is a daemon.
    this.#epmd ??= new OwnProcess('epmd', epmdProgram(), ['-port', String(this.#ports.epmd)], this.folder, this.#env());
    const connected = this.#control.connected();
    const broker = new OwnProcess('rabbitmq-server', this.#program, this.#control.erlangArgs, this.folder, this.#env());
    this.#broker = broker;
    await Promise.race([connected, broker.fails(START_MS)]);
    // The listeners come after `rabbit:boot`, and the state after the listeners.
    await this.#control.ask('rabbit:await_startup(), true.', START_MS);
    this.version = (await this.eval(
      '{ok, Version} = application:get_key(rabbit, vsn), list_to_binary(Version).',
    )) as string;
  }

  async #grant(): Promise<void> {
    const { vhosts = [], users = [] } = this.#options;
    for (const vhost of vhosts) await this.addVhost(vhost);
    for (const { name, password, vhosts: own = ['/', ...vhosts] } of users) {
      await this.eval(
        `ok = rabbit_auth_backend_internal:add_user(${binary(name)}, ${binary(password)}, ${ACTOR}), true.`,
      );
      for (const vhost of own) await this.#allow(name, vhost);
    }
  }

  async #allow(user: string, vhost: string): Promise<void> {
    const all = '<<".*">>';
    const what = [binary(user), binary(vhost), all, all, all, ACTOR].join(', ');
    await this.eval(`ok = rabbit_auth_backend_internal:set_permissions(${what}), true.`);
  }

  async #withChannel<T>(vhost: string, work: (channel: Channel) => Promise<T>): Promise<T> {
    const connection = await this.connect(vhost);
    try {
      const channel = await connection.createChannel();
      // A refusal closes the channel, and rejects the operation as well.
      channel.on('error', () => {});
      const result = await work(channel);
      await channel.close();
      return result;
    } finally {
      await closeQuietly(connection);
    }
  }

  /** `list` is an Erlang expression of property lists, as the info functions return them. */
  async #rows(list: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return (await this.eval(`${TO_JSON} [ToRow(Row) || Row <- ${list}].`)) as Record<string, unknown>[];
  }

  #env(): NodeJS.ProcessEnv {
    const { distribution, epmd } = this.#ports;
    const inherited = Object.entries(process.env).filter(([name]) => !/^(RABBITMQ|ERL)_/.test(name));
    const at = (name: string): string => join(this.folder, name);
    return {
      ...Object.fromEntries(inherited),
      // The Erlang cookie is here.
      HOME: this.folder,
      ERL_EPMD_ADDRESS: '127.0.0.1',
      ERL_EPMD_PORT: String(epmd),
      ERL_CRASH_DUMP_SECONDS: '0',
      RABBITMQ_NODENAME: NODE,
      RABBITMQ_DIST_PORT: String(distribution),
      RABBITMQ_CTL_DIST_PORT_MIN: '0',
      RABBITMQ_CTL_DIST_PORT_MAX: '0',
      RABBITMQ_CONF_ENV_FILE: at('rabbitmq-env.conf'),
      RABBITMQ_CONFIG_FILE: at('rabbitmq.conf'),
      RABBITMQ_CONFIG_FILES: at('conf.d'),
      RABBITMQ_ADVANCED_CONFIG_FILE: at('advanced.config'),
      RABBITMQ_GENERATED_CONFIG_DIR: at('config'),
      RABBITMQ_SCHEMA_DIR: at('schema'),
      RABBITMQ_ENABLED_PLUGINS_FILE: at('enabled_plugins'),
      RABBITMQ_MNESIA_BASE: at('data'),
      RABBITMQ_LOG_BASE: at('log'),
      RABBITMQ_LOGS: '-',
      // With this the scripts become Erlang (exec) and do not wait for it: our child's pid is the broker's. No shell, though.
      RABBITMQ_ALLOW_INPUT: 'true',
      // One scheduler that sleeps when there is nothing to do.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-noinput +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none',
    };
  }
}

const ACTOR = '<<"test">>';

/** `ToRow` makes a map of a property list: names of resources alone, arguments by their AMQP types. */
const TO_JSON = `
ToArgument = fun ToArgument({table, Table}) -> maps:from_list([{Key, ToArgument({Type, Value})} || {Key, Type, Value} <- Table]);
  ToArgument({array, Values}) -> [ToArgument(Value) || Value <- Values];
  ToArgument({void, _}) -> null;
  ToArgument({_, Value}) -> Value
end,
ToValue = fun ({arguments, Table}) -> {arguments, ToArgument({table, Table})};
  ({Key, {resource, _, _, Name}}) -> {Key, Name};
  ({Key, Value}) when is_pid(Value) -> {Key, list_to_binary(pid_to_list(Value))};
  (Pair) -> Pair
end,
ToRow = fun (Row) -> maps:from_list([ToValue(Pair) || Pair <- Row]) end,
`;

/**
 * What the broker tells of a quorum queue is as old as its last tick, five seconds: its leader is asked instead. A queue that goes
 * while it is asked is not there.
 */
const COUNT = `
fun (Queue) ->
  try
    Asked = case amqqueue:get_type(Queue) of
      rabbit_quorum_queue -> ra:leader_query(amqqueue:get_pid(Queue), fun rabbit_fifo:overview/1);
      _ -> none
    end,
    case Asked of
      {ok, {_, #{num_ready_messages := Ready, num_checked_out := Held}}, _} ->
        [[{name, amqqueue:get_name(Queue)}, {messages_ready, Ready}, {messages_unacknowledged, Held}]];
      _ -> [rabbit_amqqueue:info(Queue, [name, messages_ready, messages_unacknowledged])]
    end
  catch exit:_ -> []
  end
end`;

function address(scheme: string, user: Pick<RabbitUser, 'name' | 'password'>, port: number): string {
  return `${scheme}://${encodeURIComponent(user.name)}:${encodeURIComponent(user.password)}@127.0.0.1:${port}`;
}

function sortBy<T>(values: readonly T[], key: (value: T) => string): T[] {
  return values.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
}

async function closeQuietly(connection: ChannelModel): Promise<void> {
  // It is closed already, or the broker is gone.
  await connection.close().catch(() => {});
}

function epmdProgram(): string {
  const program = findProgram('epmd');
  if (program === undefined) throw new Error('no epmd on the PATH: it comes with Erlang, beside `erl`');
  return program;
}

/** A broker or an epmd, in a process group of its own: Erlang starts small processes for names and ports. */
class OwnProcess {
  log = '';
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;
  #isGone = false;

  constructor(name: string, program: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv) {
    this.#name = name;
    this.#child = spawn(program, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    hold(this.#child, { group: true });
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

  /** Rejects, with the log's tail, when it ends or when the time is over. */
  async fails(timeoutMs: number): Promise<never> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), timeoutMs).unref()));
    const why = await Promise.race([late, this.#gone]);
    clearTimeout(timer);
    const what = why === 'late' ? `was not ready within ${timeoutMs} ms` : 'ended at its start';
    throw new Error(`${this.#name} (${this.pid}) ${what}:\n${this.log.slice(-LOG_TAIL)}`);
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.#isGone) return;
    this.#child.kill(signal);
    // One that is paused hears SIGTERM after this.
    this.#child.kill('SIGCONT');
    const patience = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    await this.#gone;
    clearTimeout(patience);
  }
}
