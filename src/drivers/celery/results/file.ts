import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import * as files from '../../../../protocols/celery/brokers/filesystem.ts';
import { ConfigError, ConnectionError } from '../../../errors.ts';
import { silent, type Logger } from '../../../log.ts';
import { pause } from '../../../source.ts';
import * as fs from '../../../transports/filesystem.ts';
import type { ResultBackend } from '../brokers/broker.ts';

export interface FileResultsOptions {
  readonly folder: string;
  /** `global_keyprefix` of Celery's result_backend_transport_options. @default '' */
  readonly keyPrefix?: string;
  /** `cleanup` removes results that are older than this. 0 keeps all. @default 86400000, one day */
  readonly expiresMs?: number;
  /** The poll interval for watched results when the system reports no changes. @default 250 */
  readonly pollMs?: number;
}

/** The folder in Celery's `file:///path` or `file://localhost/path`: used unchanged and not percent-decoded, as in Celery. */
export function fileResultsFolder(url: string): string {
  const path = /^file:\/\/(?:localhost(?=\/))?(.+)$/s.exec(url)?.[1];
  if (path === undefined)
    throw new ConfigError(`celery: ${url} names no folder for results. Write file:///path/to/folder.`);
  return resolve(process.platform === 'win32' ? path.replace(/^\/(?=[A-Za-z]:)/, '') : path);
}

/**
 * Celery's `file://` results: one file per task, shared by the Python and Node processes of one machine.
 *
 * A file is replaced in one step, and a SUCCESS is not overwritten. If two processes store the same id at the same moment, a file system
 * without locks cannot fully guarantee this.
 */
export class FileResults implements ResultBackend {
  readonly kind = 'file';
  readonly address: string;
  readonly #folder: string;
  readonly #keyPrefix: string;
  readonly #expiresMs: number;
  readonly #pollMs: number;
  readonly #watches = new Map<string, Watch>();
  /** The last store of each id that is under way. Two stores of one process must not overtake each other. */
  readonly #storing = new Map<string, Promise<void>>();
  #log: Logger = silent;
  #watching: fs.Watching | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(options: FileResultsOptions) {
    const prefix = options.keyPrefix ?? '';
    this.#folder = options.folder;
    // Celery adds an underscore to a prefix that does not end in a separator.
    this.#keyPrefix = prefix === '' || /[:_.-]$/.test(prefix) ? prefix : `${prefix}_`;
    this.#expiresMs = options.expiresMs ?? 86_400_000;
    this.#pollMs = options.pollMs ?? 250;
    this.address = `file://${options.folder}`;
  }

  async open(log: Logger): Promise<void> {
    this.#log = log;
    await fs.ensureFolder(this.#folder, 'folder of results');
  }

  async store(id: string, meta: Uint8Array | string): Promise<void> {
    const name = files.resultFileName(id, this.#keyPrefix);
    const before = this.#storing.get(name);
    const storing = (before ?? Promise.resolve()).catch(() => undefined).then(() => this.#replace(name, meta));
    this.#storing.set(name, storing);
    try {
      await storing;
    } finally {
      if (this.#storing.get(name) === storing) this.#storing.delete(name);
    }
  }

  fetch(id: string): Promise<Buffer | undefined> {
    return this.#read(files.resultFileName(id, this.#keyPrefix));
  }

  fetchMany(ids: readonly string[]): Promise<readonly (Buffer | undefined)[]> {
    return Promise.all(ids.map((id) => this.fetch(id)));
  }

  async watch(id: string, listener: (meta: Buffer) => void): Promise<() => void> {
    const name = files.resultFileName(id, this.#keyPrefix);
    this.#startWatching();
    let watch = this.#watches.get(name);
    if (watch === undefined) {
      watch = { listeners: new Set(), seen: this.#version(name), check: undefined, again: false };
      this.#watches.set(name, watch);
    }
    // One entry per call, also if the same function is passed twice.
    const entry = (meta: Buffer): void => listener(meta);
    watch.listeners.add(entry);
    const end = (): void => {
      watch.listeners.delete(entry);
      if (watch.listeners.size === 0 && this.#watches.get(name) === watch) this.#watches.delete(name);
      if (this.#watches.size === 0) this.#stopWatching();
    };
    try {
      await watch.seen;
    } catch (error) {
      end();
      throw this.#failed(`watch ${name}`, error);
    }
    return end;
  }

  async forget(id: string): Promise<void> {
    const name = files.resultFileName(id, this.#keyPrefix);
    await this.#doing(`remove ${name}`, fs.remove(join(this.#folder, name)));
  }

  storeGroup(groupId: string, meta: string): Promise<void> {
    return this.#write(files.groupFileName(groupId, this.#keyPrefix), meta);
  }

  fetchGroup(groupId: string): Promise<Buffer | undefined> {
    return this.#read(files.groupFileName(groupId, this.#keyPrefix));
  }

  async cleanup(): Promise<void> {
    if (this.#expiresMs <= 0) return;
    const oldest = Date.now() - this.#expiresMs;
    for (const name of (await this.#doing('list results', fs.list(this.#folder))) ?? []) {
      // A temporary file this old was left by a process that died while it wrote.
      if (!files.isResultFile(name, this.#keyPrefix) && !(name.startsWith(OURS) && name.endsWith(TEMPORARY))) continue;
      const path = join(this.#folder, name);
      const found = await this.#doing(`look at ${name}`, fs.look(path));
      if (found !== undefined && found.modifiedMs < oldest) await this.#doing(`remove ${name}`, fs.remove(path));
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#storing.values());
    this.#watches.clear();
    this.#stopWatching();
  }

  async #replace(name: string, meta: Uint8Array | string): Promise<void> {
    const stored = await this.#read(name);
    if (stored === undefined || !files.outlasts(stored, meta)) await this.#write(name, meta);
  }

  #write(name: string, content: Uint8Array | string): Promise<void> {
    const temporary = join(this.#folder, `${OURS}${randomBytes(8).toString('hex')}${TEMPORARY}`);
    return this.#doing(`write ${name}`, fs.writeWhole(join(this.#folder, name), temporary, content));
  }

  /** Python truncates a file and then writes it. A file that looks unfinished is read again, a few times. */
  async #read(name: string): Promise<Buffer | undefined> {
    for (let tries = 1; ; tries += 1) {
      const meta = await this.#doing(`read ${name}`, fs.read(join(this.#folder, name)));
      if (meta === undefined || files.looksWhole(meta)) return meta;
      if (tries === READ_TRIES) return meta.length === 0 ? undefined : meta;
      await pause(REREAD_MS);
    }
  }

  async #version(name: string): Promise<string | undefined> {
    return (await fs.look(join(this.#folder, name)))?.version;
  }

  #startWatching(): void {
    if (this.#watching !== undefined) return;
    this.#watching = fs.watchFolder(this.#folder, (name) => this.#checkAll(name));
    let polls = 0;
    this.#poll = setInterval(() => {
      polls += 1;
      // Change events may be lost, and network folders never send them.
      if (this.#watching?.live !== true || polls % POLLS_BESIDE_EVENTS === 0) this.#checkAll(undefined);
    }, this.#pollMs);
  }

  #stopWatching(): void {
    this.#watching?.close();
    this.#watching = undefined;
    clearInterval(this.#poll);
  }

  #checkAll(changed: string | undefined): void {
    for (const [name, watch] of this.#watches) if (changed === undefined || changed === name) this.#check(name, watch);
  }

  /** Runs one check of a file at a time, and one more if the file changed meanwhile. */
  #check(name: string, watch: Watch): void {
    if (watch.check !== undefined) {
      watch.again = true;
      return;
    }
    watch.again = false;
    watch.check = this.#tell(name, watch)
      .catch((error: unknown) => this.#log.warn({ system: 'celery', err: error }, `could not check the result ${name}`))
      .then(() => {
        watch.check = undefined;
        if (watch.again) this.#check(name, watch);
      });
  }

  async #tell(name: string, watch: Watch): Promise<void> {
    for (;;) {
      const version = await this.#version(name);
      if (version === (await watch.seen)) return;
      const meta = version === undefined ? undefined : await fs.read(join(this.#folder, name));
      // Reported only when it is complete: a half-written file changes again, or the next poll finds it.
      if (meta !== undefined && !files.looksWhole(meta)) return;
      // It was written while it was read. Reported with this version, it would be reported again with the next.
      if (version !== (await this.#version(name))) continue;
      watch.seen = Promise.resolve(version);
      if (meta !== undefined) for (const listener of watch.listeners) listener(meta);
      return;
    }
  }

  async #doing<T>(what: string, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw this.#failed(what, error);
    }
  }

  #failed(what: string, error: unknown): ConnectionError {
    const why = error instanceof Error ? error.message : String(error);
    return new ConnectionError(`celery: cannot ${what} in ${this.#folder}: ${why}`, { cause: error });
  }
}

interface Watch {
  readonly listeners: Set<(meta: Buffer) => void>;
  /** The version of the file that the listeners know. */
  seen: Promise<string | undefined>;
  check: Promise<void> | undefined;
  again: boolean;
}

const OURS = '.jobglot-';
const TEMPORARY = '.tmp';
const REREAD_MS = 10;
const READ_TRIES = 10;
const POLLS_BESIDE_EVENTS = 8;
