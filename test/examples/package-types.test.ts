import { execFile } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/folder.ts';
import { root } from '../support/setup.mjs';

/** A program of a user who imports `jobglot` alone: options of every system are known, and no others. */
const USER = `
import { defineConfig, defineTask, Tasks, type SystemName, type TaskOptions } from 'jobglot';
const add = defineTask<(a: number) => number>('add', { names: { sidekiq: 'Add' } });
const tasks = new Tasks().handle(add, () => 1, { acksLate: true, rateLimit: '10/m', retryIn: (count) => count * 2 });
export default defineConfig({ tasks, celery: { broker: 'redis://localhost' }, rq: { cron: [] }, sidekiq: {}, resque: {} });
export const options: TaskOptions = { ignoreResult: true };
export const name: SystemName = 'celery';
// @ts-expect-error
export const wrong: TaskOptions = { acksLater: true };
// @ts-expect-error
defineConfig({ celry: {} });
`;

/** And of one who adds a system. */
const FIFTH = `
import { defineConfig, defineTask, Tasks } from 'jobglot';
declare module 'jobglot' {
  interface Systems { readonly toy: { readonly url: string } }
  interface TaskOptions { readonly colour?: string }
  interface Config { readonly toy?: { readonly url: string } }
}
new Tasks().handle(defineTask('x', { names: { toy: 'X' } }), () => 1, { colour: 'red', acksLate: true });
defineConfig({ toy: { url: 'toy://shelf' } });
`;

describe('the types of the built package', () => {
  const folder = temporaryFolder('jobglot-types-');

  beforeAll(() => {
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(root, join(folder, 'node_modules/jobglot'));
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(folder, 'user.ts'), USER);
    writeFileSync(join(folder, 'fifth.ts'), FIFTH);
  });

  it.each([
    ['node16', 'node16'],
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ])('have the options of every system with module %s and moduleResolution %s', async (module, resolution) => {
    const flags = ['--noEmit', '--strict', '--target', 'es2023', '--module', module, '--moduleResolution', resolution];
    const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
    expect(await tsc([...flags, ...types, 'user.ts', 'fifth.ts'])).toBe('');
  });

  function tsc(args: readonly string[]): Promise<string> {
    return new Promise((resolve) => {
      const program = join(root, 'node_modules/typescript/bin/tsc');
      execFile(process.execPath, [program, ...args], { cwd: folder }, (_error, out, err) => resolve(out + err));
    });
  }
});
