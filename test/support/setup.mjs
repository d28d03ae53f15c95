/**
 * Makes a bare clone ready: dependencies, build, Python environments, a Redis and a RabbitMQ server program, a Ruby with Sidekiq, a Chromium. Needs
 * nothing but Node itself, because it runs before `npm ci` did. Every step is skipped when it is already done, says what it does in one line, and
 * may be asked for by several processes at once.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Everything the set-up makes, apart from node_modules and dist, is in here. */
export const cache = join(root, '.cache');

/** The Python environments the tests use, each with a requirements file of its name. */
export const pythonEnvironments = /** @type {const} */ ([
  'celery-5.2',
  'celery-5.4',
  'celery-5.6',
  'celery-redbeat',
  'celery-flower',
  'rq-1.10',
  'rq-1.16',
  'rq-2.0',
  'rq-2.10',
  'rq-2.12',
  'rq-dashboard',
]);

/** What cannot be made ready here, and what a person can do about it. */
export class SetupError extends Error {
  name = 'SetupError';
}

/** `npm ci`, when what is installed is not what package-lock.json says. */
export async function ensureDependencies() {
  await once('dependencies', dependenciesAreCurrent, () =>
    step('install dependencies (npm ci)', () => run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund'])),
  );
}

/** `npm run build`, when a source changed since the last one. */
export async function ensureBuild() {
  const stamp = join(cache, 'build.stamp');
  const current = () => existsSync(join(root, 'dist/src/index.js')) && text(stamp) === sourcesHash();
  await once('build', current, async () => {
    const hash = sourcesHash();
    await step('build (npm run build)', () => run('npm', ['run', '--silent', 'build']));
    await writeFile(stamp, hash);
  });
}

/** Where the Python of one environment is, made or not: `venvPython('celery-5.6')`. @param {string} name */
export function venvPython(name) {
  return join(cache, 'venvs', name, 'bin', 'python');
}

/**
 * A Python environment made from the pinned requirements of its name; the path of its interpreter. `ensureVenv('rq-2.10')`
 * @param {string} name
 */
export async function ensureVenv(name) {
  const requirements = join(root, 'test/support/requirements', `${name}.txt`);
  if (!existsSync(requirements)) throw new SetupError(`no such Python environment: ${requirements} is missing`);
  const folder = join(cache, 'venvs', name);
  const stamp = join(folder, 'jobglot.stamp');
  const shim = join(root, 'test/support/requirements', `${name}.pth`);
  const wanted = hashOf(readFileSync(requirements), text(shim) ?? '');
  const current = () => existsSync(venvPython(name)) && text(stamp) === wanted;
  await once(`venv-${name}`, current, () =>
    step(`create the Python environment ${name}`, async () => {
      const python = await findPython(pythons[name]);
      await rm(folder, { recursive: true, force: true });
      await mkdir(dirname(folder), { recursive: true });
      await run(python, ['-m', 'venv', folder]);
      await run(
        venvPython(name),
        ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-input', '-r', requirements],
        `pip needs to reach PyPI (or the index it is configured with) to install what ${name} is made of`,
      );
      if (existsSync(shim)) {
        const { output } = await capture(venvPython(name), [
          '-c',
          'import sysconfig; print(sysconfig.get_path("purelib"))',
        ]);
        await copyFile(shim, join(output.trim(), 'jobglot.pth'));
      }
      // Last: an environment without its stamp is half made, and made again.
      await writeFile(stamp, wanted);
    }),
  );
  return venvPython(name);
}

/** The path of a redis-server; installs one where this process may. */
export async function ensureRedis() {
  const found = findRedis();
  if (found !== undefined) return found;
  if (findProgram('apt-get') === undefined || process.getuid?.() !== 0) throw new SetupError(redisHint());
  await once(
    'redis',
    () => findRedis() !== undefined,
    () =>
      step('install redis-server (apt-get)', async () => {
        // RUNLEVEL=1: install the program, do not start the service.
        const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
        await run('apt-get', ['update', '-qq'], redisHint(), env);
        await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'redis-server'], redisHint(), env);
      }),
  );
  const installed = findRedis();
  if (installed === undefined) throw new SetupError(redisHint());
  return installed;
}

/** The path of the redis-server to use, if there is one: `JOBGLOT_REDIS_SERVER`, else the one on the PATH. */
export function findRedis() {
  return process.env['JOBGLOT_REDIS_SERVER'] || findProgram('redis-server');
}

function redisHint() {
  return (
    'redis-server is not installed. Install it: `apt-get install redis-server` (Debian, Ubuntu), ' +
    '`dnf install redis` (Fedora), `apk add redis` (Alpine), `brew install redis` (macOS); ' +
    'or set JOBGLOT_REDIS_SERVER to the path of one.'
  );
}

/** The path of a rabbitmq-server; installs one where this process may. */
export async function ensureRabbit() {
  const found = findRabbit();
  if (found !== undefined) return found;
  if (findProgram('apt-get') === undefined || process.getuid?.() !== 0) throw new SetupError(rabbitHint());
  await once(
    'rabbit',
    () => findRabbit() !== undefined,
    () =>
      step('install rabbitmq-server (apt-get)', async () => {
        // RUNLEVEL=1: install the program, do not start the service.
        const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
        await run('apt-get', ['update', '-qq'], rabbitHint(), env);
        await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'rabbitmq-server'], rabbitHint(), env);
      }),
  );
  const installed = findRabbit();
  if (installed === undefined) throw new SetupError(rabbitHint());
  return installed;
}

/** The path of the rabbitmq-server to use, if there is one: `JOBGLOT_RABBITMQ_SERVER`, else the one on the PATH. */
export function findRabbit() {
  const found = process.env['JOBGLOT_RABBITMQ_SERVER'] || findProgram('rabbitmq-server');
  // The packages of Debian and Fedora put a wrapper into /usr/sbin that becomes the user rabbitmq, and refuses any but root,
  // who alone has that folder on the PATH. The script it wraps runs as anybody, with the folders it is given.
  const isWrapper = found === undefined || /^\/(usr\/)?sbin\//.test(found);
  return isWrapper && existsSync(packagedRabbit) ? packagedRabbit : found;
}

const packagedRabbit = '/usr/lib/rabbitmq/bin/rabbitmq-server';

function rabbitHint() {
  return (
    'rabbitmq-server is not installed. Install it: `apt-get install rabbitmq-server` (Debian, Ubuntu), ' +
    '`dnf install rabbitmq-server` (Fedora), `apk add rabbitmq-server` (Alpine), `brew install rabbitmq` (macOS); ' +
    'or set JOBGLOT_RABBITMQ_SERVER to the path of one, 3.8 or newer.'
  );
}

/** The path of a Ruby that has Sidekiq, Active Job and redis; installs one where this process may. */
export async function ensureRuby() {
  const found = findRuby();
  if (found !== undefined) return found;
  if (findProgram('apt-get') === undefined || process.getuid?.() !== 0) throw new SetupError(rubyHint());
  await once(
    'ruby',
    () => findRuby() !== undefined,
    () =>
      step('install Ruby with Sidekiq and Active Job (apt-get)', async () => {
        const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
        await run('apt-get', ['update', '-qq'], rubyHint(), env);
        await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...rubyPackages], rubyHint(), env);
      }),
  );
  const installed = findRuby();
  if (installed === undefined) throw new SetupError(rubyHint());
  return installed;
}

/** The path of the Ruby to use, if it has what the tests ask of it: `JOBGLOT_RUBY`, else the one on the PATH. */
export function findRuby() {
  const ruby = process.env['JOBGLOT_RUBY'] || findProgram('ruby');
  if (ruby === undefined) return undefined;
  const needed = ['sidekiq', 'sidekiq/api', 'active_job', 'redis', 'redis-namespace', 'rack', 'webrick'];
  const { status } = spawnSync(ruby, needed.map((library) => `-r${library}`).concat('-e', '0'), { stdio: 'ignore' });
  return status === 0 ? ruby : undefined;
}

const rubyPackages = ['ruby', 'ruby-sidekiq', 'ruby-activejob', 'ruby-redis', 'ruby-redis-namespace', 'ruby-webrick'];

function rubyHint() {
  return (
    'Ruby with Sidekiq and Active Job is not installed. Install it: ' +
    `\`apt-get install ${rubyPackages.join(' ')}\` (Debian, Ubuntu), elsewhere Ruby and ` +
    '`gem install "sidekiq:~>6.4.0" "activejob:~>6.1.0" "redis:~>4.8" redis-namespace webrick`; or set JOBGLOT_RUBY to the path of a Ruby that has them.'
  );
}

/** The path of a Chromium; installs Debian's where this process may. Undefined where it may not: tests with a browser are then skipped, and say why. */
export async function ensureChromium() {
  const found = findChromium();
  if (found !== undefined) return found;
  if (findProgram('apt-get') === undefined || process.getuid?.() !== 0) {
    print(chromiumHint);
    return undefined;
  }
  try {
    await once(
      'chromium',
      () => findChromium() !== undefined,
      () =>
        step('install chromium (apt-get)', async () => {
          const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
          await run('apt-get', ['update', '-qq'], chromiumHint, env);
          await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], chromiumHint, env);
        }),
    );
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    print(error.message);
  }
  return findChromium();
}

/** The path of the Chromium to use, if there is one: `JOBGLOT_CHROMIUM`, else the one on the PATH. */
export function findChromium() {
  if (process.env['JOBGLOT_CHROMIUM']) return process.env['JOBGLOT_CHROMIUM'];
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    const found = findProgram(name);
    // Ubuntu's package is a script that only says: install the snap.
    if (found !== undefined && spawnSync(found, ['--version'], { stdio: 'ignore' }).status === 0) return found;
  }
  return undefined;
}

/** How to get one. */
export const chromiumHint =
  'no Chromium here: `apt-get install chromium` (Debian), `dnf install chromium` (Fedora), `brew install chromium` (macOS), or set ' +
  'JOBGLOT_CHROMIUM to the path of Chromium or Chrome';

/**
 * Celery 5.2 was made for Python up to 3.11. Where there is none, celery-5.2.pth gives a newer one what was taken away since.
 * @type {Record<string, string[]>}
 */
const pythons = { 'celery-5.2': ['python3.11', 'python3.10'] };

/** @param {string[]} [preferred] */
async function findPython(preferred = []) {
  const own = process.env['JOBGLOT_PYTHON'];
  if (!own)
    for (const name of preferred)
      if (await isUsable(findProgram(name))) return /** @type {string} */ (findProgram(name));
  const python = own || findProgram('python3');
  if (python === undefined) {
    throw new SetupError(
      'python3 is not installed. Install it: `apt-get install python3 python3-venv` (Debian, Ubuntu), ' +
        '`brew install python` (macOS); or set JOBGLOT_PYTHON to the path of one.',
    );
  }
  const { code, output } = await capture(python, probe);
  if (code === 3)
    throw new SetupError(`${python} is too old: Python 3.10 or newer is needed. Set JOBGLOT_PYTHON to another.`);
  if (code !== 0) {
    throw new SetupError(
      `${python} has no working venv module. Install it: \`apt-get install python3 python3-venv\` (Debian, Ubuntu).\n${output}`,
    );
  }
  return python;
}

const probe = ['-c', 'import sys, venv, ensurepip; sys.exit(0 if sys.version_info >= (3, 10) else 3)'];

/** @param {string | undefined} python */
async function isUsable(python) {
  return python !== undefined && (await capture(python, probe)).code === 0;
}

function dependenciesAreCurrent() {
  const wanted = packagesOf(join(root, 'package-lock.json'));
  const installed = packagesOf(join(root, 'node_modules/.package-lock.json'));
  if (wanted === undefined || installed === undefined) return false;
  for (const [path, entry] of Object.entries(wanted)) {
    // Optional packages are for other platforms as often as not.
    if (path === '' || (installed[path] === undefined && entry.optional === true)) continue;
    if (installed[path]?.version !== entry.version || installed[path]?.integrity !== entry.integrity) return false;
  }
  return Object.keys(installed).every((path) => wanted[path] !== undefined);
}

/** @param {string} lockfile @returns {Record<string, { version?: string, integrity?: string, optional?: boolean }> | undefined} */
function packagesOf(lockfile) {
  const content = text(lockfile);
  return content === undefined ? undefined : JSON.parse(content).packages;
}

function sourcesHash() {
  const files = ['src', 'protocols'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  files.push(join(root, 'tsconfig.json'), join(root, 'package-lock.json'));
  return hashOf(...files.sort().flatMap((file) => [relative(root, file), readFileSync(file)]));
}

/** @param {...(string | Buffer)} parts */
function hashOf(...parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex');
}

/** @param {string} file */
function text(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** @param {string} name */
export function findProgram(name) {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/**
 * Do `work` unless it is done, in one process at a time.
 * @param {string} name @param {() => boolean} done @param {() => Promise<void>} work
 */
async function once(name, done, work) {
  if (done()) return;
  const release = await lock(name);
  try {
    if (!done()) await work();
  } finally {
    await release();
  }
}

/**
 * A lock is a folder that holds its owner's pid; the lock of a dead owner is taken over.
 * @param {string} name @returns {Promise<() => Promise<void>>}
 */
async function lock(name) {
  const folder = join(cache, 'locks', name);
  await mkdir(dirname(folder), { recursive: true });
  for (let told = false; ;) {
    try {
      await mkdir(folder);
      await writeFile(join(folder, 'pid'), String(process.pid));
      return () => rm(folder, { recursive: true, force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const owner = ownerOf(folder);
    if (owner !== undefined && !isAlive(owner)) {
      // One at a time may take over, and looks again: the folder may have a new and living owner by now.
      const takeover = `${folder}.takeover`;
      const mine = await mkdir(takeover).then(
        () => true,
        () => false,
      );
      if (mine) {
        const now = ownerOf(folder);
        if (now !== undefined && !isAlive(now)) await rm(folder, { recursive: true, force: true });
        await rm(takeover, { recursive: true, force: true });
      }
    } else if (!told && owner !== undefined) {
      told = true;
      print(`waiting for process ${owner}, which is at the same step (${name})`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The pid in a lock, if it has one yet. @param {string} folder */
function ownerOf(folder) {
  const pid = Number(text(join(folder, 'pid')));
  return pid > 0 ? pid : undefined;
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** One line when a step starts, one when it is done. @param {string} what @param {() => Promise<void>} work */
async function step(what, work) {
  const started = performance.now();
  print(`${what} ...`);
  await work();
  print(`${what}: done in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** @param {string} line */
function print(line) {
  process.stderr.write(`[setup] ${line}\n`);
}

/**
 * Runs to the end; the output is shown only when it fails.
 * @param {string} program @param {string[]} args @param {string} [hint] @param {NodeJS.ProcessEnv} [env]
 */
async function run(program, args, hint, env) {
  const { code, output } = await capture(program, args, env);
  if (code === 0) return;
  const shown = output.length > 8000 ? `…${output.slice(-8000)}` : output;
  throw new SetupError(`\`${[program, ...args].join(' ')}\` failed (${code})${hint ? `: ${hint}` : ''}\n${shown}`);
}

/**
 * @param {string} program @param {string[]} args @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<{ code: number | string, output: string }>}
 */
function capture(program, args, env = process.env) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.once('error', (error) => resolve({ code: error.message, output }));
    child.once('close', (code, signal) => resolve({ code: code ?? signal ?? 'unknown', output }));
  });
}

// `node test/support/setup.mjs [celery-5.6 ...] [redis] [rabbit] [ruby] [chromium]` makes ready by hand what the tests would.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const wanted =
      process.argv.length > 2
        ? process.argv.slice(2)
        : ['dependencies', 'build', 'redis', 'rabbit', 'ruby', 'chromium', ...pythonEnvironments];
    for (const one of wanted) {
      if (one === 'dependencies') await ensureDependencies();
      else if (one === 'build') await ensureBuild();
      else if (one === 'redis') print(await ensureRedis());
      else if (one === 'rabbit') print(await ensureRabbit());
      else if (one === 'ruby') print(await ensureRuby());
      else if (one === 'chromium') print((await ensureChromium()) ?? 'tests with a browser will be skipped');
      else print(await ensureVenv(one));
    }
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
