/** The parts of the suite, in the order they run. Each test file is in one part. */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pythonEnvironments, root } from './support/setup.mjs';

/**
 * What a part needs beyond the dependencies, how many of its files run at once, and how often a test is tried again.
 * @typedef {{ readonly needs: readonly string[], readonly maxWorkers: number, readonly retry?: number }} Part
 */

/** @type {Readonly<Record<string, Part>>} */
export const parts = {
  golden: { needs: [], maxWorkers: 2 },
  unit: { needs: ['build'], maxWorkers: 2 },
  // Of golden and unit, what takes longest: thousands of pickles, and commands that are processes.
  pickle: { needs: [], maxWorkers: 2 },
  cli: { needs: ['build'], maxWorkers: 2 },
  conformance: { needs: ['redis', 'rabbit'], maxWorkers: 2 },
  // Most of their time they wait for each other: a Python worker, a broker, a Node worker.
  // Five processes on two cores now and then miss each other's time: such a test is run once more, and the report says so.
  interop: { needs: ['build', 'redis', 'rabbit', ...pythonEnvironments], maxWorkers: 3, retry: 1 },
  // Likewise: for what is away to be back.
  faults: { needs: ['build', 'redis', 'rabbit', 'celery-5.6', 'rq-2.10', 'rq-dashboard'], maxWorkers: 2 },
  examples: { needs: ['build', 'redis', 'celery-5.6'], maxWorkers: 1 },
};

/** The test files of a part, by their paths from the root. @param {string} part @returns {string[]} */
export function testFiles(part) {
  return all.filter((file) => partOf(file) === part);
}

/** @param {string} file */
function partOf(file) {
  if (/^test\/(golden|unit\/formats)\/pickle\.test\.ts$/.test(file)) return 'pickle';
  if (file.startsWith('test/unit/cli/')) return 'cli';
  return file.split('/')[1];
}

const all = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .map((name) => relative(root, join(root, 'test', name)))
  .filter((name) => name.endsWith('.test.ts') && !name.includes('node_modules'));
