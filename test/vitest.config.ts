import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { PATIENCE_MS } from './support/until.ts';

/** The parts of the suite, in the order they run; test/run.mjs knows what each needs set up. */
const parts: readonly { name: string; maxWorkers: number; retry?: number }[] = [
  { name: 'golden', maxWorkers: 2 },
  { name: 'unit', maxWorkers: 2 },
  { name: 'conformance', maxWorkers: 2 },
  // Most of their time they wait for each other: a Python worker, a broker, a Node worker.
  // Five processes on two cores now and then miss each other's time: such a test is run once more, and the report says so.
  { name: 'interop', maxWorkers: 3, retry: 1 },
  // Likewise: for what is away to be back.
  { name: 'faults', maxWorkers: 2 },
  { name: 'examples', maxWorkers: 1 },
];

/** For a test that hangs. A test that only waits in vain says so earlier, by PATIENCE_MS. */
const LIMIT_MS = 120_000;

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    projects: parts.map(({ name, maxWorkers, retry = 0 }, groupOrder) => ({
      extends: true as const,
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        pool: 'forks' as const,
        maxWorkers,
        retry,
        testTimeout: LIMIT_MS,
        hookTimeout: LIMIT_MS,
        expect: { poll: { timeout: PATIENCE_MS } },
        teardownTimeout: 20_000,
        sequence: { groupOrder },
      },
    })),
  },
});
