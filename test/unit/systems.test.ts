import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { program } from '../../src/cli/program.ts';
import { systems } from '../../src/cli/systems.ts';
import { defineConfig } from '../../src/config.ts';
import { registeredSystems, registerSystem } from '../../src/system.ts';
import { builtIn } from '../../src/systems.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { root } from '../support/setup.mjs';

const names: readonly string[] = builtIn.map(({ name }) => name);
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

describe('a system', () => {
  it.each(names)('%s has a protocol, a driver, commands, and tables of what is supported', (name) => {
    const wanted = ['index.ts', 'explain.ts', 'README.md', 'SUPPORT.md'].map((file) => `protocols/${name}/${file}`);
    wanted.push(`src/drivers/${name}/index.ts`, `src/drivers/${name}/system.ts`, `src/cli/${name}/system.ts`);
    expect(wanted.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  it.each(names)('%s is a sub-path of the package, as a driver and as a protocol', (name) => {
    const { exports } = JSON.parse(read('package.json')) as { readonly exports: Readonly<Record<string, unknown>> };
    expect(exports[`./${name}`]).toEqual({
      types: `./dist/src/drivers/${name}/index.d.ts`,
      default: `./dist/src/drivers/${name}/index.js`,
    });
    expect(exports[`./protocols/${name}`]).toEqual({
      types: `./dist/protocols/${name}/index.d.ts`,
      default: `./dist/protocols/${name}/index.js`,
    });
  });

  it.each(names)('%s has rules of its own in the linter, for protocol, driver and commands', (name) => {
    const { overrides } = JSON.parse(read('.oxlintrc.json')) as { overrides: { files: string[] }[] };
    const files = overrides.flatMap((one) => one.files);
    const wanted = [`protocols/${name}/**/*.ts`, `src/drivers/${name}/**/*.ts`, `src/cli/${name}/**/*.ts`];
    expect(wanted.filter((pattern) => !files.includes(pattern))).toEqual([]);
  });

  it.each(names)('%s is a section of a config file', (name) => {
    expect(defineConfig({ [name]: {} })).toEqual({ [name]: {} });
    expect(() => defineConfig({ [name]: 'redis://localhost' })).toThrow(`${name} must be an object of options`);
  });

  it.each(names)('%s has commands', (name) => {
    const root = program({ env: {}, cwd: '/', out: () => {}, err: () => {}, done: () => {} });
    const verbs = root.commands.filter((verb) => verb.commands.some((command) => command.name() === name));
    expect(verbs.map((verb) => verb.name())).toEqual(expect.arrayContaining(['enqueue', 'inspect', 'decode']));
  });

  it('that has a folder is on the list', () => {
    const folders = ['protocols', 'src/drivers', 'src/cli'].map((path) =>
      readdirSync(join(root, path), { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && entry.name !== 'formats')
        .map((entry) => entry.name),
    );
    for (const folder of folders) expect(folder.sort()).toEqual([...names].sort());
  });

  it('has the same name and the same place in every list', () => {
    expect(registeredSystems().map(({ name }) => name)).toEqual(names);
    expect(systems().map(({ section }) => section)).toEqual(names);
    expect(systems().map(({ name }) => name)).toEqual(builtIn.map(({ title }) => title));
  });

  it('is registered once', () => {
    expect(() => registerSystem(builtIn[0])).toThrow("there is a system 'celery' already");
  });

  it.each(['src/task.ts', 'src/config.ts', 'src/source.ts', 'src/client.ts'])(
    'is not named by the code of %s',
    (path) => {
      const code = read(path).replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
      expect(names.filter((name) => new RegExp(`\\b${name}\\b`, 'i').test(code))).toEqual([]);
    },
  );

  it.each(['src/task.ts', 'src/config.ts'])('is not named by the comments of %s', (path) => {
    expect(names.filter((name) => new RegExp(`\\b${name}\\b`, 'i').test(read(path)))).toEqual([]);
  });
});

describe('the options of one task', () => {
  const add = defineTask<(x: number) => number>('add');
  const handling = (options: object) => () => new Tasks().handle(add, () => 1, options);

  it('are those that every system has, and those of each system', () => {
    const celery = { acksLate: true, ignoreResult: true, rateLimit: '10/m', errback: true };
    expect(handling({ timeoutMs: 1, retry: { max: 2 }, ...celery, retryIn: () => 1 })).not.toThrow();
  });

  it('are checked when the handler is registered', () => {
    expect(handling({ acksLater: true })).toThrow(
      "tasks.handle: 'add': unknown option 'acksLater'; did you mean 'acksLate'?",
    );
    expect(handling({ acksLate: 'yes' })).toThrow('tasks.handle: \'add\': acksLate must be true or false, not "yes"');
    expect(handling({ timeoutMs: '5' })).toThrow("tasks.handle: 'add': timeoutMs must be a number of milliseconds");
    expect(handling({ retriesExhausted: true })).toThrow('retriesExhausted must be a function');
  });
});
