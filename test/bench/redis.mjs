// The project's ioredis: a bare `import 'ioredis'` in this folder would find the old one that celery-node brings along.
import { createRequire } from 'node:module';

export const { Redis } = createRequire(new URL('../../package.json', import.meta.url))('ioredis');
