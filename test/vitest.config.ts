import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** The parts of the suite, in the order they run; test/run.mjs knows what each needs set up. */
const parts: readonly { name: string; testTimeout: number; maxWorkers: number }[] = [
  { name: 'golden', testTimeout: 10_000, maxWorkers: 2 },
  { name: 'unit', testTimeout: 10_000, maxWorkers: 2 },
  { name: 'conformance', testTimeout: 30_000, maxWorkers: 2 },
  // One file at a time: a Python worker with a pool, a Redis and a Node worker are enough for two cores.
  { name: 'interop', testTimeout: 60_000, maxWorkers: 1 },
  { name: 'faults', testTimeout: 60_000, maxWorkers: 1 },
  { name: 'examples', testTimeout: 60_000, maxWorkers: 1 },
];

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    projects: parts.map(({ name, testTimeout, maxWorkers }, groupOrder) => ({
      extends: true as const,
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        pool: 'forks' as const,
        maxWorkers,
        testTimeout,
        hookTimeout: 60_000,
        teardownTimeout: 20_000,
        sequence: { groupOrder },
      },
    })),
  },
});
