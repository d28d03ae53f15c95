import { randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { decodeEnvelope, encodeEnvelope, markRedelivered } from '../../../../protocols/celery/brokers/envelope.ts';
import * as files from '../../../../protocols/celery/brokers/filesystem.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import { ConfigError, ConnectionError, WireError } from '../../../errors.ts';
import { silent, type Logger } from '../../../log.ts';
import { every, pause, type Agent } from '../../../source.ts';
import * as fs from '../../../transports/filesystem.ts';
import type { CeleryBroker, Claim, QueueSpec } from './broker.ts';
import { virtualType } from './virtual-exchange.ts';

/** kombu's transport options for `filesystem://`, in camelCase. */
export interface FilesystemTransportOptions {
  /** The folder that messages are read from. @default the URL's path */
  readonly dataFolderIn?: string;
  /** The folder that messages are written to. @default the URL's path, else dataFolderIn */
  readonly dataFolderOut?: string;
  /** The folder of the tables of exchanges. @default `control` in dataFolderIn */
  readonly controlFolder?: string;
  /** Keep the files of finished messages. @default false */
  readonly storeProcessed?: boolean;
  /** The folder that they are kept in. @default `processed` in dataFolderIn */
  readonly processedFolder?: string;
}

export interface FilesystemBrokerOptions {
  readonly folderIn: string;
  readonly folderOut: string;
  /** @default `control` in folderIn */
  readonly controlFolder?: string;
  /** The folder for the files of finished messages. @default they are deleted */
  readonly processedFolder?: string;
  /** The types of exchanges that are published to and not consumed from. @default known by name or by their tables */
  readonly exchangeTypes?: Readonly<Record<string, files.ExchangeType>>;
  /** The poll interval for messages when the system reports no changes. @default 250 */
  readonly pollMs?: number;
  /** A file that cannot be read counts as unfinished for this long after it last grew. @default 1000 */
  readonly settleMs?: number;
  /** How often this process refreshes its claims and gives back the claims of dead processes. @default 5000 */
  readonly restoreMs?: number;
  /** The age at which a claim counts as abandoned if its process is on another host, and so cannot be checked. @default 3600000 */
  readonly visibilityTimeoutMs?: number;
}

/**
 * The options in a broker URL: `filesystem:///var/spool/jobs`, or `filesystem://?data_folder_in=in&data_folder_out=out`.
 * A parameter of the URL overrides a transport option. A transport option overrides the URL's path.
 */
export function filesystemOptions(url: string, transport: FilesystemTransportOptions = {}): FilesystemBrokerOptions {
  const match = /^filesystem:\/\/([^?#]*)(?:\?([^#]*))?$/.exec(url);
  if (match === null)
    throw new ConfigError(`celery: ${url} is not a filesystem URL. Write filesystem:///path/to/folder.`);
  const query = new URLSearchParams(match[2] ?? '');
  for (const name of query.keys()) {
    if (!PARAMETERS.includes(name)) {
      throw new ConfigError(`celery: unknown parameter '${name}' in ${url}. Known are ${PARAMETERS.join(', ')}.`);
    }
  }
  const path = localPath(match[1] as string, url);
  const folderIn = query.get('data_folder_in') ?? transport.dataFolderIn ?? path;
  const folderOut = query.get('data_folder_out') ?? transport.dataFolderOut ?? path ?? folderIn;
  if (!folderIn || !folderOut) {
    throw new ConfigError(
      `celery: ${url} names no folder. Write filesystem:///path/to/folder, or pass dataFolderIn and dataFolderOut.`,
    );
  }
  const stored = query.get('store_processed');
  const storeProcessed = stored === null ? (transport.storeProcessed ?? false) : /^(1|true|yes|on)$/i.test(stored);
  return {
    folderIn: resolve(folderIn),
    folderOut: resolve(folderOut),
    controlFolder: resolve(query.get('control_folder') ?? transport.controlFolder ?? join(folderIn, 'control')),
    ...(storeProcessed
      ? {
          processedFolder: resolve(
            query.get('processed_folder') ?? transport.processedFolder ?? join(folderIn, 'processed'),
          ),
        }
      : undefined),
  };
}

const PARAMETERS: readonly string[] = [
  'data_folder_in',
  'data_folder_out',
  'control_folder',
  'store_processed',
  'processed_folder',
];

/**
 * kombu's `filesystem://`: a folder that Python and Node processes of one machine share as a broker.
 *
 * A message is claimed by renaming its file into a folder of this process (`.jobglot-claimed/<host>-<pid>-<birth>.<nonce>/`), so
 * that it is never only in memory. The claims of a dead process are given back by any process that is alive. Nothing is synced to disk:
 * a claim survives the death of its process, but not a power failure.
 */
export class FilesystemBroker implements CeleryBroker {
  readonly kind = 'filesystem';
  readonly address: string;
  readonly agents: readonly Agent[];
  readonly #folderIn: string;
  readonly #folderOut: string;
  readonly #controlFolder: string;
  readonly #processedFolder: string | undefined;
  readonly #pollMs: number;
  readonly #settleMs: number;
  readonly #visibilityTimeoutMs: number;
  readonly #exchangeTypes: Map<string, files.ExchangeType>;
  readonly #nonce = randomBytes(6).toString('hex');

  #log: Logger = silent;
  #opened: Promise<void> | undefined;
  #owner = '';
  #own = '';
  /** In the order of their turns: a queue that delivered a message goes to the end. */
  #queues: string[] = [];
  #bindings: readonly { readonly exchange: string; readonly binding: files.Binding }[] = [];
  /** The files that were listed and not yet taken, by queue, the oldest last; undefined when it is time to list again. */
  #backlog: Map<string, files.MessageFile[]> | undefined;
  #listedAt = 0;
  /** Claimed files whose content cannot be read yet. Another process may still be writing it. */
  readonly #growing = new Map<
    string,
    { readonly file: files.MessageFile; readonly size: number; readonly since: number }
  >();
  #watching: fs.Watching | undefined;
  #changed = false;
  readonly #waiting = new Set<() => void>();
  readonly #receiving = new Set<Promise<unknown>>();
  #quiet = false;
  #closed = false;
  #clock = { ms: 0, sequence: 0 };

  constructor(options: FilesystemBrokerOptions) {
    this.#folderIn = options.folderIn;
    this.#folderOut = options.folderOut;
    this.#controlFolder = options.controlFolder ?? join(options.folderIn, 'control');
    this.#processedFolder = options.processedFolder;
    this.#pollMs = options.pollMs ?? 250;
    this.#settleMs = options.settleMs ?? 1000;
    this.#visibilityTimeoutMs = options.visibilityTimeoutMs ?? 3_600_000;
    this.#exchangeTypes = new Map(Object.entries(options.exchangeTypes ?? {}));
    this.address =
      this.#folderIn === this.#folderOut
        ? `filesystem://${this.#folderIn}`
        : `filesystem://?data_folder_in=${this.#folderIn}&data_folder_out=${this.#folderOut}`;
    this.agents = [every('filesystem-claims', options.restoreMs ?? 5000, () => this.#tend())];
  }

  open(log: Logger): Promise<void> {
    this.#log = log;
    return (this.#opened ??= this.#open().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    }));
  }

  async #open(): Promise<void> {
    await fs.ensureFolder(this.#folderIn, 'folder to read messages from');
    await fs.ensureFolder(this.#folderOut, 'folder to write messages to');
    await fs.ensureFolder(this.#controlFolder, 'control folder');
    if (this.#processedFolder !== undefined)
      await fs.ensureFolder(this.#processedFolder, 'folder of processed messages');
    const birth = (await fs.processBirth(process.pid)) ?? '0';
    this.#owner = `${HOST}-${process.pid}-${birth}.${this.#nonce}`;
    this.#own = join(this.#folderIn, CLAIMED, this.#owner);
  }

  async consume(queues: readonly QueueSpec[]): Promise<void> {
    await fs.ensureFolder(this.#own, 'folder of claimed messages');
    this.#queues = queues.map((queue) => queue.name);
    this.#bindings = queues.flatMap((queue) => {
      if (queue.exchange === undefined || queue.exchange === '') return [];
      const type = virtualType(queue);
      this.#exchangeTypes.set(queue.exchange, type);
      return [{ exchange: queue.exchange, binding: files.bindingOf(queue.name, queue.routingKey ?? '', type) }];
    });
    this.#watching = fs.watchFolder(this.#folderIn, (name) => {
      const queue = name === undefined ? undefined : files.messageFile(name)?.queue;
      if (name === undefined || (queue !== undefined && this.#queues.includes(queue))) this.#wake();
    });
    await this.#doing(`consume from ${this.#folderIn}`, this.#removeLeftovers());
    await this.#tend();
  }

  receive(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    const receiving = this.#receive(max, signal).finally(() => this.#receiving.delete(receiving));
    this.#receiving.add(receiving);
    return receiving;
  }

  /** Returns [] after a second without a message: unknown tasks go back to the queue between two calls, so that other processes can claim them. */
  async #receive(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    const idleAt = Date.now() + IDLE_MS;
    while (max > 0 && !signal.aborted && !this.#quiet) {
      const claims = await this.#reread(max);
      if (claims.length < max) claims.push(...(await this.#claim(max - claims.length)));
      if (signal.aborted || this.#quiet) {
        for (const claim of claims) await this.#putBack(claim.tag);
        return [];
      }
      if (claims.length > 0) return claims;
      if (Date.now() >= idleAt) return [];
      await this.#wait(this.#growing.size > 0 ? REREAD_MS : this.#pollMs, signal);
    }
    return [];
  }

  async publish(publications: Iterable<Publication>): Promise<void> {
    const messages: { readonly path: string; readonly content: string }[] = [];
    for (const publication of publications) {
      for (const queue of await this.#queuesOf(publication)) {
        const path = join(this.#folderOut, this.#nextName(queue));
        // Each copy gets its own delivery tag. kombu gives all copies the same tag, and confuses their acknowledgements.
        messages.push({ path, content: encodeEnvelope(publication, randomUUID()) });
      }
    }
    for (let start = 0; start < messages.length; start += WRITES_AT_ONCE) {
      const writes = messages
        .slice(start, start + WRITES_AT_ONCE)
        .map(({ path, content }) => fs.writeWhole(path, this.#temporary(this.#folderOut), content));
      await this.#doing(`write a message to ${this.#folderOut}`, Promise.all(writes));
    }
  }

  async ack(claim: Claim): Promise<void> {
    const path = join(this.#own, claim.tag);
    const done =
      this.#processedFolder === undefined ? fs.remove(path) : fs.move(path, join(this.#processedFolder, claim.tag));
    if (!(await this.#doing(`acknowledge ${path}`, done))) this.#lost(claim);
  }

  async requeue(claim: Claim, where: 'front' | 'back'): Promise<void> {
    const name = where === 'front' ? files.frontFileName(claim.tag) : this.#nextName(claim.queue);
    if (!(await this.#doing(`requeue ${claim.tag}`, this.#giveBack(claim.tag, name)))) this.#lost(claim);
  }

  async moveToBack(claim: Claim): Promise<void> {
    const name = this.#nextName(claim.queue);
    if (!(await this.#doing(`move ${claim.tag} to the back`, this.#giveBack(claim.tag, name, false))))
      this.#lost(claim);
  }

  async quarantine(
    claim: Claim,
    why: { readonly code: string; readonly reason: string; readonly id?: string },
  ): Promise<string> {
    const folder = join(this.#folderIn, QUARANTINE);
    const path = join(folder, claim.tag);
    const reason = { ...why, queue: claim.queue, at: new Date().toISOString() };
    const quarantineFile = async (): Promise<boolean> => {
      await fs.ensureFolder(folder, 'folder of quarantined messages');
      await fs.writeWhole(`${path}.reason.json`, this.#temporary(folder), `${JSON.stringify(reason, undefined, 2)}\n`);
      return fs.move(join(this.#own, claim.tag), path);
    };
    if (!(await this.#doing(`quarantine ${claim.tag}`, quarantineFile()))) this.#lost(claim);
    return `${path} (the reason is beside it; move the file to ${this.#folderIn} to try it again)`;
  }

  async quiet(): Promise<void> {
    this.#quiet = true;
    this.#wake();
    await Promise.allSettled(this.#receiving);
    for (const tag of this.#growing.keys()) await this.#putBack(tag);
  }

  async close(): Promise<void> {
    await this.quiet();
    this.#closed = true;
    this.#watching?.close();
    if (this.#own === '') return;
    // Like kombu when a channel closes: another worker shall run the messages that were not settled.
    await this.#doing(`give back the claims in ${this.#own}`, this.#restore(this.#owner));
  }

  /** Claims up to `max` messages, from one queue after another. */
  async #claim(max: number): Promise<Claim[]> {
    for (;;) {
      const fresh = this.#isStale();
      if (fresh) await this.#list();
      const taken = this.#take(max);
      const tries = await Promise.allSettled(taken.map((file) => this.#claimFile(file)));
      const won = tries.flatMap((one) => (one.status === 'fulfilled' && one.value !== undefined ? [one.value] : []));
      const failed = tries.find((one) => one.status === 'rejected');
      if (won.length === 0 && failed !== undefined) {
        await this.#doing(`claim a message in ${this.#folderIn}`, Promise.reject(failed.reason as Error));
      }
      // All listed files are gone, to other processes or since an old listing: list again.
      if (won.length > 0 || this.#quiet || (taken.length === 0 && fresh)) return won;
    }
  }

  #isStale(): boolean {
    return this.#backlog === undefined || this.#backlog.size === 0 || Date.now() - this.#listedAt > this.#pollMs;
  }

  async #list(): Promise<void> {
    this.#changed = false;
    this.#listedAt = Date.now();
    const backlog = new Map<string, files.MessageFile[]>();
    const names = await this.#doing(`list ${this.#folderIn}`, fs.list(this.#folderIn));
    if (names === undefined) throw new ConnectionError(`celery: the folder ${this.#folderIn} is gone`);
    for (const name of names) {
      const file = files.messageFile(name);
      if (file === undefined || !this.#queues.includes(file.queue)) continue;
      const waiting = backlog.get(file.queue);
      if (waiting === undefined) backlog.set(file.queue, [file]);
      else waiting.push(file);
    }
    // Newest first, so that the oldest is popped.
    for (const waiting of backlog.values()) waiting.sort((a, b) => files.byAge(b, a));
    this.#backlog = backlog;
  }

  #take(max: number): files.MessageFile[] {
    const backlog = this.#backlog ?? new Map<string, files.MessageFile[]>();
    const taken: files.MessageFile[] = [];
    while (taken.length < max && backlog.size > 0) {
      const at = this.#queues.findIndex((queue) => backlog.has(queue));
      if (at === -1) break;
      const [queue] = this.#queues.splice(at, 1) as [string];
      this.#queues.push(queue);
      const waiting = backlog.get(queue) ?? [];
      const file = waiting.pop();
      if (file !== undefined) taken.push(file);
      if (waiting.length === 0) backlog.delete(queue);
    }
    return taken;
  }

  async #claimFile(file: files.MessageFile): Promise<Claim | undefined> {
    if (!(await fs.move(join(this.#folderIn, file.name), join(this.#own, file.name)))) return undefined;
    // Kept in this map until it is read: a claim that a failing disk interrupts is tried again, and is not forgotten.
    this.#growing.set(file.name, { file, size: -1, since: Date.now() });
    const found = await fs.look(join(this.#own, file.name));
    return this.#read(file, Math.min(found?.modifiedMs ?? Infinity, Date.now()), -1);
  }

  /** kombu writes a file under its final name, with a lock that cannot be taken here. An unreadable file may be unfinished. */
  async #read(file: files.MessageFile, since: number, sizeBefore: number): Promise<Claim | undefined> {
    const bytes = await fs.read(join(this.#own, file.name));
    this.#growing.delete(file.name);
    if (bytes === undefined) return undefined;
    const claim = { queue: file.queue, tag: file.name, bytes };
    try {
      return { ...claim, message: decodeEnvelope(bytes), error: undefined };
    } catch (error) {
      const grew = sizeBefore !== -1 && bytes.length !== sizeBefore;
      const grownAt = grew ? Date.now() : since;
      if (isUnfinished(error) && Date.now() - grownAt < this.#settleMs) {
        this.#growing.set(file.name, { file, size: bytes.length, since: grownAt });
        return undefined;
      }
      return { ...claim, message: undefined, error: asWireError(error) };
    }
  }

  async #reread(max: number): Promise<Claim[]> {
    const some = [...this.#growing.values()].slice(0, max);
    const claims = await this.#doing(
      `read a message in ${this.#own}`,
      Promise.all(some.map(({ file, since, size }) => this.#read(file, since, size))),
    );
    return claims.filter((claim) => claim !== undefined);
  }

  /** Moves a file back to its place, unchanged: no handler ever had it. */
  async #putBack(tag: string): Promise<void> {
    this.#growing.delete(tag);
    this.#backlog = undefined;
    await this.#doing(`put back ${tag}`, fs.move(join(this.#own, tag), join(this.#folderIn, tag)));
  }

  /** Moves a file from this process's folder back to the queue, marked as redelivered unless `mark` is false. Resolves to false if it is not there. */
  async #giveBack(tag: string, name: string, mark = true): Promise<boolean> {
    const path = join(this.#own, tag);
    const bytes = await fs.read(path);
    if (bytes === undefined) return false;
    const marked = mark ? markRedelivered(bytes) : bytes;
    // Marked in place, then moved in one step: after a crash in between, it is still claimed, and never in two places.
    if (marked !== bytes) await fs.writeWhole(path, this.#temporary(this.#own), marked);
    this.#backlog = undefined;
    const moved = await fs.move(path, join(this.#folderIn, name));
    this.#wake();
    return moved;
  }

  async #queuesOf(publication: Publication): Promise<readonly string[]> {
    const { exchange, routingKey } = publication;
    if (exchange === '') return [routingKey];
    const type = this.#exchangeTypes.get(exchange) ?? files.knownExchangeType(exchange);
    const queues = files.route(await this.#table(exchange), routingKey, type);
    if (queues.length === 0) {
      this.#log.debug(
        { system: 'celery', exchange, routingKey },
        'dropped a message that no queue is bound for, as kombu does',
      );
    }
    return queues;
  }

  async #table(exchange: string): Promise<readonly files.Binding[]> {
    const path = join(this.#controlFolder, files.exchangeFileName(exchange));
    for (let tries = 1; ; tries += 1) {
      const text = await this.#doing(`read ${path}`, fs.read(path));
      if (text === undefined) return [];
      try {
        return files.readTable(text.toString('utf8'));
      } catch (error) {
        // kombu creates the file empty and writes it in place, so it may be unfinished.
        if (tries === TABLE_TRIES)
          throw new ConnectionError(`celery: cannot read ${path}: ${String(error)}`, { cause: error });
      }
      await pause(REREAD_MS);
    }
  }

  /** kombu rewrites a table under a lock that cannot be taken here. After a write, check again that the line is still there. */
  async #bind(exchange: string, binding: files.Binding): Promise<void> {
    const path = join(this.#controlFolder, files.exchangeFileName(exchange));
    for (let tries = 0; tries < TABLE_TRIES; tries += 1) {
      const table = files.withBinding(await this.#table(exchange), binding);
      if (table === undefined) return;
      const write = fs.writeWhole(path, this.#temporary(this.#controlFolder), files.writeTable(table));
      await this.#doing(`write ${path}`, write);
    }
  }

  /** The periodic chore: show that this process is alive, give back the claims of dead processes, write missing bindings. */
  #tend(): Promise<void> {
    return this.#closed
      ? Promise.resolve()
      : this.#doing(`look after the claims in ${this.#folderIn}`, this.#lookAfter());
  }

  async #lookAfter(): Promise<void> {
    await fs.touchFolder(this.#own, new Date());
    for (const owner of (await fs.list(join(this.#folderIn, CLAIMED))) ?? []) {
      if (owner !== this.#owner && (await this.#isAbandoned(owner))) await this.#restore(owner);
    }
    for (const { exchange, binding } of this.#bindings) await this.#bind(exchange, binding);
  }

  async #isAbandoned(owner: string): Promise<boolean> {
    const folder = await fs.look(join(this.#folderIn, CLAIMED, owner));
    if (folder === undefined) return false;
    if (Date.now() - folder.modifiedMs > this.#visibilityTimeoutMs) return true;
    return isDead(owner);
  }

  async #restore(owner: string): Promise<void> {
    const folder = join(this.#folderIn, CLAIMED, owner);
    let count = 0;
    for (const name of (await fs.list(folder)) ?? []) {
      if (files.messageFile(name) === undefined) {
        if (name.endsWith(TEMPORARY)) await fs.remove(join(folder, name));
        continue;
      }
      // Through the folder of this process: two processes that restore the same claim must not both give it back.
      if (owner !== this.#owner && !(await fs.move(join(folder, name), join(this.#own, name)))) continue;
      if (await this.#giveBack(name, files.frontFileName(name))) count += 1;
    }
    await fs.removeFolder(folder);
    if (count > 0)
      this.#log.warn({ system: 'celery', owner, count }, 'gave back messages that were claimed and not settled');
  }

  /** Temporary files of processes that died while they wrote: their messages were never published. */
  async #removeLeftovers(): Promise<void> {
    for (const folder of new Set([this.#folderOut, this.#controlFolder])) {
      for (const name of (await fs.list(folder)) ?? []) {
        const owner =
          name.startsWith(OURS) && name.endsWith(TEMPORARY) ? name.slice(OURS.length).split('~')[0] : undefined;
        if (owner !== undefined && (await isDead(owner))) await fs.remove(join(folder, name));
      }
    }
  }

  #nextName(queue: string): string {
    // CLOCK_MONOTONIC on Linux, as Python's monotonic(): names of both sort as one sequence.
    const ms = Math.round(Number(process.hrtime.bigint()) / 1e6);
    this.#clock =
      ms > this.#clock.ms ? { ms, sequence: 0 } : { ms: this.#clock.ms, sequence: this.#clock.sequence + 1 };
    return files.messageFileName(queue, this.#clock.ms, this.#clock.sequence, randomUUID());
  }

  #temporary(folder: string): string {
    return join(folder, `${OURS}${this.#owner}~${randomBytes(8).toString('hex')}${TEMPORARY}`);
  }

  #lost(claim: Claim): void {
    this.#log.warn(
      { system: 'celery', queue: claim.queue, file: claim.tag },
      'a claimed message is gone: another process assumed that this one was dead, and gave the message back',
    );
  }

  #wake(): void {
    this.#changed = true;
    for (const wake of this.#waiting) wake();
  }

  async #wait(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#changed) return;
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    this.#waiting.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await pause(ms, woken.signal);
    signal.removeEventListener('abort', wake);
    this.#waiting.delete(wake);
  }

  async #doing<T>(what: string, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof ConfigError || error instanceof ConnectionError || !(error instanceof Error)) throw error;
      throw new ConnectionError(`celery: cannot ${what}: ${error.message}`, { cause: error });
    }
  }
}

const CLAIMED = '.jobglot-claimed';
const QUARANTINE = '.jobglot-quarantine';
// kombu's listing does not match it: no ".<queue>.msg".
const OURS = '.jobglot-';
const TEMPORARY = '.tmp';
const HOST = encodeURIComponent(hostname());
const REREAD_MS = 10;
/** How long a call of `receive` waits for a message. */
const IDLE_MS = 1_000;
const TABLE_TRIES = 50;
const WRITES_AT_ONCE = 64;
const OWNER = /^(.+)-(\d+)-(\d+)\.([0-9a-f]+)$/;

/** Whether the process that owns a claim is known to be dead. Processes on other hosts cannot be checked. */
async function isDead(owner: string): Promise<boolean> {
  const match = OWNER.exec(owner);
  if (match === null || match[1] !== HOST) return false;
  const born = await fs.processBirth(Number(match[2]));
  return born === undefined || (born !== '0' && match[3] !== '0' && born !== match[3]);
}

/** True for text that ends too early, which may still become a message. False for text of the wrong shape, which cannot. */
function isUnfinished(error: unknown): boolean {
  return !(error instanceof WireError) || error.code === 'undecodable';
}

function asWireError(error: unknown): WireError {
  return error instanceof WireError ? error : new WireError('celery', 'undecodable', String(error), { cause: error });
}

function localPath(path: string, url: string): string | undefined {
  if (path === '') return undefined;
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch (error) {
    throw new ConfigError(`celery: ${url} has a '%' that is not followed by two hexadecimal digits.`, { cause: error });
  }
  const local = decoded.startsWith('localhost/') ? decoded.slice('localhost'.length) : decoded;
  return process.platform === 'win32' ? local.replace(/^\/(?=[A-Za-z]:)/, '') : local;
}
