import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CeleryAppOptions } from '../../src/drivers/celery/index.ts';
import { temporaryFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import { CELERY_GAPS, celeryMessages, celeryResult, celerySender, celerySource, withoutMark } from './celery.ts';
import { conformance } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly folder: string;
  readonly app: CeleryAppOptions;
}

const NO_SERVER = 'a folder is always there';
let messages = 0;

conformance<Store>({
  name: 'celery-filesystem',
  async store() {
    const folder = temporaryFolder('jobglot-conformance-');
    await mkdir(join(folder, 'results'));
    const app = { broker: `filesystem://${folder}/queue`, backend: `file://${folder}/results` };
    return { folder, app, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
  },
  source: ({ app }, options) => celerySource(app, options),
  client: ({ app }) => celerySender(app),
  raw({ folder }) {
    const queued = join(folder, 'queue');
    const names = (path: string): Promise<readonly string[]> => readdir(path).catch(() => []);
    const claimedFiles = async (): Promise<readonly string[]> => {
      const folders = join(queued, '.jobglot-claimed');
      const owners = await names(folders);
      const found = await Promise.all(
        owners.map(async (owner) => (await names(join(folders, owner))).map((name) => join(folders, owner, name))),
      );
      return found.flat().filter((path) => path.endsWith('.msg'));
    };
    return {
      ...celeryMessages,
      lasting: withoutMark,
      async put(queue, bytes) {
        // As kombu names them; renamed into place, so that nobody sees half of it.
        const ms = Math.round(Number(process.hrtime.bigint()) / 1e6) + ++messages;
        await mkdir(queued, { recursive: true });
        await writeFile(join(queued, 'half'), bytes);
        await rename(join(queued, 'half'), join(queued, `${ms}_${randomUUID()}.${queue}.msg`));
      },
      async waiting(queue) {
        const own = (await names(queued)).filter((name) => name.endsWith(`.${queue}.msg`)).sort();
        return Promise.all(own.map((name) => readFile(join(queued, name))));
      },
      claimed: async () => (await claimedFiles()).length,
      async postponed(queue) {
        // Published again, it waits until the worker claims it for its time.
        const isOwn = (path: string): boolean => path.endsWith(`.${queue}.msg`);
        const own = async (): Promise<readonly string[]> => (await claimedFiles()).filter(isOwn);
        await until('it is claimed for its time', async () => (await own()).length > 0);
        return Promise.all((await own()).map((path) => readFile(path)));
      },
      async aside(queue) {
        const path = join(queued, '.jobglot-quarantine');
        const own = (await names(path)).filter((name) => name.endsWith(`.${queue}.msg`));
        return Promise.all(
          own.map(async (name) => ({
            bytes: await readFile(join(path, name)),
            reason: await readFile(join(path, `${name}.reason.json`), 'utf8'),
          })),
        );
      },
      result: async (id) =>
        celeryResult(await readFile(join(folder, 'results', `celery-task-meta-${id}`)).catch(() => undefined)),
    };
  },
  without: {
    ...CELERY_GAPS,
    'an idle worker consumes again': NO_SERVER,
    'what waits is still there, and is run once': NO_SERVER,
    'a job that runs meanwhile ends, and its result is stored': NO_SERVER,
    'a job that ends while the store is away is settled when it is back': NO_SERVER,
  },
});
