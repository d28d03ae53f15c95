import { watch as watchPath } from 'node:fs';
import {
  constants,
  access,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  rmdir,
  stat,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { ConfigError } from '../errors.ts';

/** Creates a folder and its parents, unless it exists. Throws ConfigError when it cannot be used for reading and writing. */
export async function ensureFolder(path: string, what: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new ConfigError(
      `celery: cannot use ${path} as the ${what} (${codeOf(error) ?? 'unknown error'}). ` +
        'Make a folder there that this process may read and write, or name another one.',
      { cause: error },
    );
  }
}

/** The names in a folder; undefined when the folder does not exist. */
export function list(folder: string): Promise<readonly string[] | undefined> {
  return orAbsent(readdir(folder));
}

/** A file's content; undefined when the file does not exist. */
export function read(path: string): Promise<Buffer | undefined> {
  return orAbsent(readFile(path));
}

/** Data that differs between two states of a file; undefined when the file does not exist. */
export async function look(
  path: string,
): Promise<{ readonly size: number; readonly modifiedMs: number; readonly version: string } | undefined> {
  const found = await orAbsent(stat(path, { bigint: true }));
  if (found === undefined) return undefined;
  return {
    size: Number(found.size),
    modifiedMs: Number(found.mtimeMs),
    version: `${found.ino} ${found.mtimeNs} ${found.size}`,
  };
}

/** Writes `temporary`, which must be in the same file system, and renames it to `path`. So no process ever reads half of the file. */
export async function writeWhole(path: string, temporary: string, content: string | Uint8Array): Promise<void> {
  try {
    await writeFile(temporary, content);
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** Renames a file. False when it does not exist, or no longer: another process was faster. */
export async function move(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (isTaken(error)) return false;
    if (codeOf(error) !== 'EXDEV') throw error;
  }
  await copyFile(from, to);
  return remove(from);
}

/** False when there was nothing to remove. */
export async function remove(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (isTaken(error)) return false;
    throw error;
  }
}

/** Removes a folder if it is empty. */
export async function removeFolder(path: string): Promise<void> {
  await rmdir(path).catch(() => undefined);
}

/** Sets a path's time of modification to `now`; creates the folder if it is gone. */
export async function touchFolder(path: string, now: Date): Promise<void> {
  await mkdir(path, { recursive: true });
  await utimes(path, now, now);
}

/** A watch on a folder. `live` is false where the operating system offers no events, or has stopped: then poll. */
export interface Watching {
  readonly live: boolean;
  close(): void;
}

/** Calls `onChange` with the name of each file that appears, changes or is removed; with undefined when the name is not known. */
export function watchFolder(folder: string, onChange: (name: string | undefined) => void): Watching {
  let live = true;
  const close = (): void => {
    live = false;
    watcher?.close();
  };
  let watcher: ReturnType<typeof watchPath> | undefined;
  try {
    watcher = watchPath(folder, { persistent: false }, (_event, name) => onChange(name ?? undefined));
    // Too many watches (ENOSPC, EMFILE), or the folder is gone: the caller then polls.
    watcher.on('error', close);
  } catch {
    live = false;
  }
  return {
    get live() {
      return live;
    },
    close,
  };
}

/**
 * When a process of this host started, in the operating system's own units, so that a reused pid is not taken for the old process. '0' where the
 * operating system does not report it; undefined when no such process lives.
 */
export async function processBirth(pid: number): Promise<string | undefined> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (codeOf(error) === 'ESRCH') return undefined;
  }
  if (process.platform !== 'linux') return '0';
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (status === undefined) return '0';
  // The state is field 3 and the start time is field 22. Field 2, the program's name in parentheses, may itself contain spaces.
  const fields = status.slice(status.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : (fields[19] ?? '0');
}

async function orAbsent<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isTaken(error)) return undefined;
    throw error;
  }
}

/** On Windows a file that another process has open cannot be moved. It counts as taken. */
function isTaken(error: unknown): boolean {
  const code = codeOf(error);
  return (
    code === 'ENOENT' || (process.platform === 'win32' && (code === 'EPERM' || code === 'EBUSY' || code === 'EACCES'))
  );
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
