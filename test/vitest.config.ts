import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { parts, testFiles } from './parts.mjs';
import { PATIENCE_MS } from './support/until.ts';

/** For a test that hangs. A test that only waits in vain says so earlier, by PATIENCE_MS. */
const LIMIT_MS = 120_000;

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    projects: Object.entries(parts).map(([name, { maxWorkers, retry = 0 }], groupOrder) => ({
      extends: true as const,
      test: {
        name,
        include: testFiles(name),
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
