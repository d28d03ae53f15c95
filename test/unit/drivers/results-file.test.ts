import { readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { FileResults, fileResultsFolder, type FileResultsOptions } from '../../../src/drivers/celery/results/file.ts';
import { ConfigError } from '../../../src/errors.ts';
import { silent } from '../../../src/log.ts';
import { temporaryFolder } from '../../support/folder.ts';

// A folder without events, as on a network: the system says so when it is asked to watch.
const events = vi.hoisted(() => ({ offered: true }));
vi.mock('node:fs', async (importOriginal) => {
  const fs = await importOriginal<typeof import('node:fs')>();
  const watch = (...args: Parameters<typeof fs.watch>): ReturnType<typeof fs.watch> => {
    if (!events.offered) throw new Error('ENOSPC: no space left for another watch');
    return fs.watch(...args);
  };
  return { ...fs, watch };
});

let folder: string;
let backends: FileResults[];

beforeEach(async () => {
  folder = temporaryFolder('jobglot-results-');
  backends = [];
});

afterEach(async () => {
  events.offered = true;
  for (const results of backends) await results.close();
  await rm(folder, { recursive: true, force: true });
});

describe('a result', () => {
  test('is a file named like Celery’s key, holding the meta as it is', async () => {
    const results = await opened();
    await results.store('abc', '{"status": "SUCCESS", "result": "é"}');
    await results.storeGroup('g', '{"result": []}');
    expect((await readdir(folder)).sort()).toEqual(['celery-task-meta-abc', 'celery-taskset-meta-g']);
    expect(await readFile(join(folder, 'celery-task-meta-abc'), 'utf8')).toBe('{"status": "SUCCESS", "result": "é"}');
    expect(String(await results.fetchGroup('g'))).toBe('{"result": []}');
  });

  test('that is a SUCCESS stays', async () => {
    const results = await opened();
    for (const status of ['STARTED', 'SUCCESS', 'FAILURE']) await results.store('1', JSON.stringify({ status }));
    expect(String(await results.fetch('1'))).toBe('{"status":"SUCCESS"}');
  });

  test('stored twice at once keeps the order', async () => {
    const results = await opened();
    await Promise.all(
      ['STARTED', 'RETRY', 'SUCCESS', 'FAILURE'].map((status) => results.store('1', JSON.stringify({ status }))),
    );
    expect(String(await results.fetch('1'))).toBe('{"status":"SUCCESS"}');
  });

  test('is undefined before it is stored and after it is forgotten', async () => {
    const results = await opened();
    await results.store('1', '{}');
    await results.forget('1');
    await results.forget('never');
    expect(await results.fetchMany(['1', '2'])).toEqual([undefined, undefined]);
  });

  test('being written by Python is waited for', async () => {
    const results = await opened();
    await writeFile(join(folder, 'celery-task-meta-1'), '{"status": "SUC');
    const fetching = results.fetch('1');
    await writeFile(join(folder, 'celery-task-meta-1'), '{"status": "SUCCESS"}');
    expect(String(await fetching)).toBe('{"status": "SUCCESS"}');
  });

  test('has the prefix Celery gives its keys', async () => {
    const results = await opened({ keyPrefix: 'shop' });
    await results.store('1', '{}');
    expect(await readdir(folder)).toEqual(['shop_celery-task-meta-1']);
  });

  test('with an id that is a path is refused', async () => {
    const results = await opened();
    await expect(results.store('../../x', '{}')).rejects.toThrow(/file name/);
  });
});

describe('a watch', () => {
  test.each([
    ['by events', true, 60_000],
    ['by polling', false, 5],
  ])('tells %s what is stored from now on, until it ends', async (_, offered, pollMs) => {
    events.offered = offered;
    const results = await opened({ pollMs });
    const other = await opened();
    await other.store('1', '{"status": "PENDING"}');
    const seen: string[] = [];
    const end = await results.watch('1', (meta) => seen.push(String(meta)));
    await other.store('1', '{"status": "STARTED"}');
    await expect.poll(() => seen).toEqual(['{"status": "STARTED"}']);
    await other.store('2', '{"status": "SUCCESS"}');
    await other.store('1', '{"status": "SUCCESS"}');
    await expect.poll(() => seen).toHaveLength(2);
    end();
    await other.forget('1');
    await other.store('1', '{"status": "RETRY"}');
    const last: string[] = [];
    const endLast = await results.watch('2', (meta) => last.push(String(meta)));
    await other.forget('2');
    await other.store('2', '{}');
    await expect.poll(() => last).toEqual(['{}']);
    endLast();
    expect(seen).toEqual(['{"status": "STARTED"}', '{"status": "SUCCESS"}']);
  });
});

test('a result that is written in place is told once', async () => {
  const results = await opened();
  const seen: string[] = [];
  const end = await results.watch('1', (meta) => seen.push(String(meta)));
  for (let number = 0; number < 200; number += 1) {
    await writeFile(join(folder, 'celery-task-meta-1'), `{"status": "PROGRESS", "result": ${number}}`);
  }
  await expect.poll(() => seen.at(-1)).toBe('{"status": "PROGRESS", "result": 199}');
  end();
  expect(seen).toEqual([...new Set(seen)]);
});

describe('a clean-up', () => {
  test('removes what is old, and only results', async () => {
    const results = await opened({ expiresMs: 60_000 });
    const names = ['celery-task-meta-old', 'celery-taskset-meta-old', 'chord-unlock-old', 'notes'];
    for (const name of names) {
      await writeFile(join(folder, name), '{}');
      await utimes(join(folder, name), new Date(0), new Date(0));
    }
    await results.store('new', '{}');
    await results.cleanup();
    expect((await readdir(folder)).sort()).toEqual(['celery-task-meta-new', 'notes']);
  });
});

describe('the folder', () => {
  test.each([
    ['file:///var/results', '/var/results'],
    ['file://localhost/var/results', '/var/results'],
    ['file:///a%20b', '/a%20b'],
  ])('of %s is %s', (url, path) => {
    expect(fileResultsFolder(url)).toBe(path);
  });

  test('is needed', async () => {
    expect(() => fileResultsFolder('file://')).toThrow(ConfigError);
    await writeFile(join(folder, 'file'), '');
    await expect(new FileResults({ folder: join(folder, 'file') }).open(silent)).rejects.toThrow(ConfigError);
  });
});

async function opened(options: Partial<FileResultsOptions> = {}): Promise<FileResults> {
  const results = new FileResults({ folder, ...options });
  backends.push(results);
  await results.open(silent);
  return results;
}
