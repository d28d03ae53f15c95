import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkConfig, type Config, isTasks } from '../config.ts';
import { ConfigError } from '../errors.ts';
import type { Tasks } from '../task.ts';

const EXTENSIONS = ['.ts', '.mts', '.js', '.mjs'];

/** The configuration and the file it is from; undefined where there is none and none was asked for. */
export async function loadConfig(
  cwd: string,
  asked: string | undefined,
): Promise<{ readonly config: Config; readonly file: string } | undefined> {
  const file = asked === undefined ? findFile(join(cwd, 'jobglot.config')) : findFile(resolve(cwd, asked));
  if (file === undefined) {
    if (asked === undefined) return undefined;
    throw new ConfigError(`--config ${asked}: there is no such file`);
  }
  const exported = defaultOf(await importFile(file, cwd));
  if (exported === undefined)
    throw new ConfigError(`${file} has no default export; write export default defineConfig({ … })`);
  return { config: checkConfig(exported, file), file };
}

/** The tasks that a file exports, as `tasks` or by default. */
export async function loadTasks(cwd: string, asked: string): Promise<{ readonly tasks: Tasks; readonly file: string }> {
  const file = findFile(resolve(cwd, asked));
  if (file === undefined)
    throw new ConfigError(
      `--app ${asked}: there is no such file; pass the file that exports your tasks: -A ./tasks.ts`,
    );
  const module = await importFile(file, cwd);
  // A CommonJS module is the default of its import; one that was ESM once has its own default inside.
  const outer = module['default'];
  const inner = memberOf(outer, 'default');
  const tasks = [module['tasks'], outer, memberOf(outer, 'tasks'), inner, memberOf(inner, 'tasks')].find(isTasks);
  if (tasks === undefined) {
    throw new ConfigError(
      `${file} exports no tasks; write export const tasks = new Tasks().handle(task, handler), or export it by default`,
    );
  }
  return { tasks, file };
}

/** The file that is tried where nobody named one: `tasks.ts` (or .mts, .js, .mjs) of the folder. */
export function conventionalTasks(cwd: string): string | undefined {
  return findFile(join(cwd, 'tasks'));
}

/** The file itself, with an extension it was named without, or the index of a folder. */
function findFile(path: string): string | undefined {
  const candidates = [
    path,
    ...EXTENSIONS.map((extension) => `${path}${extension}`),
    ...EXTENSIONS.map((extension) => join(path, `index${extension}`)),
  ];
  return candidates.find((candidate) => existsSync(candidate) && statSync(candidate).isFile());
}

/** Imports a file of the user's, TypeScript too: by Node itself where it strips types, else by tsx where it is installed. */
export async function importFile(file: string, cwd: string): Promise<Readonly<Record<string, unknown>>> {
  // Before the first try: Node remembers a file it could not load.
  if (isTypeScript(file) && !readsTypeScript()) await useTsx(file, cwd);
  try {
    return (await import(pathToFileURL(file).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw explained(error, file);
  }
}

function isTypeScript(file: string): boolean {
  return ['.ts', '.mts', '.cts'].includes(extname(file));
}

/** `process.features.typescript` of Node 22.18 and newer (with a flag from 22.7); a loader that was given by a flag reads it too. */
function readsTypeScript(): boolean {
  const { typescript } = process.features as { readonly typescript?: string | false };
  const started = [...process.execArgv, process.env['NODE_OPTIONS'] ?? ''].join(' ');
  return (
    typescript === 'strip' ||
    typescript === 'transform' ||
    /--(?:import|loader|experimental-loader|require|r)\b[= ]?\S*(?:tsx|ts-node|swc|esbuild)/.test(started)
  );
}

/** What Node has to be started with to import this file itself, as a child process of a job does. Throws ConfigError. */
export function importArguments(file: string, cwd: string): readonly string[] {
  return isTypeScript(file) && !readsTypeScript() ? ['--import', findTsx(file, cwd)] : [];
}

async function useTsx(file: string, cwd: string): Promise<void> {
  await import(findTsx(file, cwd));
}

function findTsx(file: string, cwd: string): string {
  const places = [join(cwd, 'package.json'), join(dirname(file), 'package.json'), import.meta.url];
  for (const place of places) {
    let found: string;
    try {
      found = createRequire(place).resolve('tsx');
    } catch {
      continue; // Not installed there.
    }
    return pathToFileURL(found).href;
  }
  throw new ConfigError(
    `${file} is TypeScript, which Node ${process.versions.node} does not read by itself: ${REMEDY}`,
  );
}

const REMEDY =
  'install tsx (npm install --save-dev tsx), run Node 22.18 or newer, or compile the file and name the .js file';

function explained(error: unknown, file: string): unknown {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  const message = error instanceof Error ? error.message : String(error);
  switch (code) {
    case 'ERR_UNKNOWN_FILE_EXTENSION':
      return new ConfigError(
        `${file} imports TypeScript (${message}). Start with NODE_OPTIONS="--import tsx", run Node 22.18 or newer, or compile it first`,
        { cause: error },
      );
    case 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX':
      return new ConfigError(
        `${file}: ${message}; Node only strips types. Start with NODE_OPTIONS="--import tsx", or avoid that syntax`,
        { cause: error },
      );
    default:
      return new ConfigError(
        `${file} cannot be loaded: ${error instanceof Error ? `${error.name}: ${message}` : message}`,
        { cause: error },
      );
  }
}

/** The default export; of a CommonJS module that was ESM once, the default inside. */
function defaultOf(module: Readonly<Record<string, unknown>>): unknown {
  const exported = module['default'];
  return memberOf(exported, '__esModule') === true ? memberOf(exported, 'default') : exported;
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}
