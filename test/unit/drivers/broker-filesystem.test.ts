import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Publication } from '../../../protocols/celery/message/message.ts';
import type { Claim, QueueSpec } from '../../../src/drivers/celery/brokers/broker.ts';
import {
  FilesystemBroker,
  filesystemOptions,
  type FilesystemBrokerOptions,
} from '../../../src/drivers/celery/brokers/filesystem.ts';
import { ConfigError, ConnectionError } from '../../../src/errors.ts';
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
let brokers: FilesystemBroker[];
const never = new AbortController().signal;

beforeEach(async () => {
  folder = temporaryFolder('jobglot-broker-');
  brokers = [];
});

afterEach(async () => {
  events.offered = true;
  for (const broker of brokers) await broker.close();
  await rm(folder, { recursive: true, force: true });
});

describe('a message', () => {
  test('is a file of kombu’s, and nothing else is left in the folder', async () => {
    const broker = await opened();
    await broker.publish([message('one'), message('two')]);
    const names = (await readdir(folder)).filter((name) => name.endsWith('.msg')).sort();
    expect(names).toHaveLength(2);
    for (const name of names) {
      expect(name).toMatch(/^\d+_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\.celery\.msg$/);
    }
    const envelope = JSON.parse(await readFile(join(folder, names[0]!), 'utf8'));
    expect(envelope).toMatchObject({
      body: Buffer.from('one').toString('base64'),
      'content-type': 'application/json',
      properties: { body_encoding: 'base64', delivery_info: { exchange: '', routing_key: 'celery' } },
    });
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('is claimed in the order it was published, and is gone when it is acknowledged', async () => {
    const broker = await consuming();
    const bodies = Array.from({ length: 30 }, (_, index) => `message ${index}`);
    await broker.publish(bodies.map((body) => message(body)));
    const claims = await drain(broker, 30);
    expect(claims.map(bodyOf)).toEqual(bodies);
    expect(await waiting()).toEqual([]);
    expect(await claimed()).toHaveLength(30);
    for (const claim of claims) await broker.ack(claim);
    expect(await claimed()).toEqual([]);
  });

  test('arrives while a receive waits', async () => {
    const broker = await consuming({ pollMs: 60_000 });
    const receiving = broker.receive(1, never);
    const other = await opened();
    await other.publish([message('late')]);
    expect((await receiving).map(bodyOf)).toEqual(['late']);
  });

  test('arrives by polling where there are no events', async () => {
    events.offered = false;
    const broker = await consuming({ pollMs: 5 });
    const receiving = broker.receive(1, never);
    await (await opened()).publish([message('polled')]);
    expect((await receiving).map(bodyOf)).toEqual(['polled']);
  });

  test('of another queue stays where it is', async () => {
    const broker = await consuming({}, ['mail']);
    await broker.publish([message('a', { routingKey: 'bulk.mail' }), message('b', { routingKey: 'mail' })]);
    expect((await broker.receive(10, never)).map(bodyOf)).toEqual(['b']);
    expect(await waiting()).toHaveLength(1);
  });

  test('comes from each queue by turns', async () => {
    const broker = await consuming({}, ['a', 'b']);
    const publications = ['a1', 'a2', 'a3', 'b1'].map((body) => message(body, { routingKey: body[0]! }));
    await broker.publish(publications);
    expect((await broker.receive(4, never)).map(bodyOf)).toEqual(['a1', 'b1', 'a2', 'a3']);
  });

  test('goes to each of two racing brokers exactly once', async () => {
    const [left, right] = [await consuming(), await consuming()];
    const bodies = Array.from({ length: 300 }, (_, index) => `${index}`);
    await left.publish(bodies.map((body) => message(body)));
    const seen: string[] = [];
    const done = new AbortController();
    const sharing = new Set<FilesystemBroker>();
    const work = async (broker: FilesystemBroker): Promise<number> => {
      let mine = 0;
      for (;;) {
        const claims = await broker.receive(7, done.signal);
        if (claims.length === 0) return mine;
        // Neither has all of them before the other has some.
        sharing.add(broker);
        await expect.poll(() => sharing.size).toBe(2);
        for (const claim of claims) {
          seen.push(bodyOf(claim));
          mine += 1;
          await broker.ack(claim);
        }
        if (seen.length >= bodies.length) done.abort();
      }
    };
    const shares = await Promise.all([work(left), work(right)]);
    expect(seen.sort()).toEqual(bodies.sort());
    expect(Math.min(...shares)).toBeGreaterThan(0);
    expect(await claimed()).toEqual([]);
  });

  test('that is finished can be kept', async () => {
    const processedFolder = join(folder, 'done');
    const broker = await consuming({ processedFolder });
    await broker.publish([message('kept')]);
    const [claim] = await broker.receive(1, never);
    await broker.ack(claim!);
    expect(await readdir(processedFolder)).toEqual([claim!.tag]);
  });

  test('for a queue whose name is a path is refused', async () => {
    const broker = await opened();
    await expect(broker.publish([message('x', { routingKey: '../escape' })])).rejects.toThrow(/file name/);
  });
});

describe('a message given back', () => {
  test('to the front runs next, marked as redelivered', async () => {
    const broker = await consuming();
    await broker.publish([message('first'), message('second'), message('third')]);
    const claims = await broker.receive(2, never);
    await broker.requeue(claims[1]!, 'front');
    await broker.requeue(claims[0]!, 'front');
    const again = await drain(broker, 3);
    expect(again.map(bodyOf)).toEqual(['first', 'second', 'third']);
    expect(again.map((claim) => claim.message?.headers['redelivered'])).toEqual([true, true, undefined]);
    expect(again[0]!.message?.properties['delivery_info']).toMatchObject({ redelivered: true });
  });

  test('to the back runs after what waits', async () => {
    const broker = await consuming();
    await broker.publish([message('first'), message('second')]);
    const [claim] = await broker.receive(1, never);
    await broker.requeue(claim!, 'back');
    expect((await drain(broker, 2)).map(bodyOf)).toEqual(['second', 'first']);
  });

  test('at close is there for the next one', async () => {
    const broker = await consuming();
    await broker.publish([message('unsettled')]);
    await broker.receive(1, never);
    await broker.close();
    expect(await readdir(join(folder, '.jobglot-claimed'))).toEqual([]);
    const [claim] = await (await consuming()).receive(1, never);
    expect(bodyOf(claim!)).toBe('unsettled');
    expect(claim!.message?.headers['redelivered']).toBe(true);
  });

  test('that another process took for abandoned is acknowledged without a trace', async () => {
    const broker = await consuming();
    await broker.publish([message('stolen')]);
    const [claim] = await broker.receive(1, never);
    const [path] = await claimed();
    await rename(path!, join(folder, claim!.tag));
    await broker.ack(claim!);
    await broker.requeue(claim!, 'front');
    expect(await waiting()).toEqual([claim!.tag]);
  });
});

describe('a claim', () => {
  test('of a dead process returns when the next worker starts', async () => {
    await abandon('orphan', await deadPid());
    const broker = await consuming();
    const [claim] = await broker.receive(1, never);
    expect(bodyOf(claim!)).toBe('orphan');
    expect(claim!.message?.headers['redelivered']).toBe(true);
    expect(await readdir(join(folder, '.jobglot-claimed'))).toHaveLength(1);
  });

  test('of a process that dies later returns to a worker that runs', async () => {
    const broker = await consuming({ restoreMs: 5 });
    const stop = new AbortController();
    const agents = broker.agents.map((agent) => agent.run(stop.signal));
    const receiving = broker.receive(1, never);
    await abandon('orphan', await deadPid());
    expect((await receiving).map(bodyOf)).toEqual(['orphan']);
    stop.abort();
    await Promise.all(agents);
  });

  test.runIf(process.platform === 'linux')('of a dead process whose pid is used again returns', async () => {
    await abandon('orphan', process.pid, '1');
    expect((await (await consuming()).receive(1, never)).map(bodyOf)).toEqual(['orphan']);
  });

  test('of a living process stays', async () => {
    const owner = await consuming();
    await owner.publish([message('mine')]);
    await owner.receive(1, never);
    await consuming();
    expect(await waiting()).toEqual([]);
    expect(await claimed()).toHaveLength(1);
  });

  test('of another host returns when it was not refreshed for the visibility timeout', async () => {
    const dead = await abandon('far', 1, '1', 'elsewhere');
    const early = await consuming();
    expect(await waiting()).toEqual([]);
    await early.close();
    const old = new Date(Date.now() - 7_200_000);
    await utimes(dead, old, old);
    expect((await (await consuming()).receive(1, never)).map(bodyOf)).toEqual(['far']);
  });

  test('leaves nothing half written behind when its owner dies', async () => {
    const owner = await ownerName(await deadPid());
    await writeFile(join(folder, `.jobglot-${owner}~00ff.tmp`), '{"bo');
    await consuming();
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('a file', () => {
  test('that is still being written is waited for', async () => {
    const broker = await consuming({ settleMs: 60_000 });
    const whole = await envelopeOf('slow');
    const file = await open(join(folder, '5_5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg'), 'w');
    const receiving = broker.receive(1, never);
    await expect.poll(() => claimed()).toHaveLength(1);
    await file.write(whole.subarray(0, 40));
    await broker.publish([message('fast')]);
    expect((await receiving).map(bodyOf)).toEqual(['fast']);
    await file.write(whole.subarray(40));
    await file.close();
    expect((await broker.receive(1, never)).map(bodyOf)).toEqual(['slow']);
  });

  test('that does not grow any more is undecodable; set aside, the next message still comes', async () => {
    const broker = await consuming({ settleMs: 20 });
    const name = '5_5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg';
    await writeFile(join(folder, name), '{"body": "half');
    const [claim] = await broker.receive(1, never);
    expect(claim).toMatchObject({ queue: 'celery', message: undefined });
    expect(claim!.error?.code).toBe('undecodable');
    const kept = await broker.quarantine(claim!, { code: 'undecodable', reason: 'not JSON' });
    expect(kept).toContain(join(folder, '.jobglot-quarantine', name));
    expect(await readFile(join(folder, '.jobglot-quarantine', name), 'utf8')).toBe('{"body": "half');
    expect(
      JSON.parse(await readFile(join(folder, '.jobglot-quarantine', `${name}.reason.json`), 'utf8')),
    ).toMatchObject({
      code: 'undecodable',
      reason: 'not JSON',
      queue: 'celery',
    });
    await broker.publish([message('next')]);
    expect((await broker.receive(1, never)).map(bodyOf)).toEqual(['next']);
  });

  test('that is old and not JSON is not waited for', async () => {
    const path = join(folder, '5_5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg');
    await writeFile(path, 'hello');
    await utimes(path, new Date(0), new Date(0));
    const broker = await consuming({ settleMs: 60_000 });
    expect((await broker.receive(1, never))[0]!.error?.code).toBe('undecodable');
  });

  test('that is JSON of the wrong shape is not waited for', async () => {
    await writeFile(join(folder, '5_5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg'), '[1, 2]');
    const broker = await consuming({ settleMs: 60_000 });
    expect((await broker.receive(1, never))[0]!.error?.code).toBe('wrong-shape');
  });

  test('that is unfinished at the end goes back as it was', async () => {
    const broker = await consuming({ settleMs: 60_000 });
    const name = '5_5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg';
    await writeFile(join(folder, name), '{');
    const receiving = broker.receive(1, never);
    await expect.poll(() => claimed()).toHaveLength(1);
    await broker.quiet();
    expect(await receiving).toEqual([]);
    expect(await waiting()).toEqual([name]);
  });
});

describe('a receive', () => {
  test('ends when its signal aborts', async () => {
    const broker = await consuming();
    const stop = new AbortController();
    const receiving = broker.receive(1, stop.signal);
    stop.abort();
    expect(await receiving).toEqual([]);
    await broker.publish([message('later')]);
    expect(await broker.receive(1, stop.signal)).toEqual([]);
  });

  test('ends when the broker is quiet, and takes nothing more', async () => {
    const broker = await consuming();
    const receiving = broker.receive(1, never);
    await broker.quiet();
    expect(await receiving).toEqual([]);
    await broker.publish([message('later')]);
    expect(await broker.receive(1, never)).toEqual([]);
    expect(await waiting()).toHaveLength(1);
  });

  test('fails when the folder is gone', async () => {
    const broker = await consuming({ pollMs: 1 });
    await rm(folder, { recursive: true });
    await expect(broker.receive(1, never)).rejects.toThrow(ConnectionError);
    await mkdir(folder);
  });
});

describe('an exchange', () => {
  test('has its table in the control folder, as kombu writes it', async () => {
    await consumingSpecs([{ name: 'celery', exchange: 'celery', routingKey: 'celery' }]);
    await consumingSpecs([{ name: 'logs', exchange: 'celery', exchangeType: 'topic', routingKey: 'log.#' }]);
    expect(await readFile(join(folder, 'control', 'celery.exchange'), 'utf8')).toBe(
      String.raw`[["log.#", "^log\\..*?$", "logs"], ["celery", "", "celery"]]`,
    );
  });

  test('carries a message to every queue that is bound, each copy with a tag of its own', async () => {
    const broker = await consumingSpecs([
      { name: 'a', exchange: 'news', exchangeType: 'fanout' },
      { name: 'b', exchange: 'news', exchangeType: 'fanout' },
    ]);
    await broker.publish([message('extra', { exchange: 'news', routingKey: '' })]);
    const claims = await drain(broker, 2);
    expect(claims.map((claim) => claim.queue).sort()).toEqual(['a', 'b']);
    expect(new Set(claims.map((claim) => claim.message?.properties['delivery_tag'])).size).toBe(2);
  });

  test('of another process is found by its table', async () => {
    await mkdir(join(folder, 'control'));
    await writeFile(
      join(folder, 'control', 'app.exchange'),
      String.raw`[["task.*", "^task\\..*?[^\\.]$", "q1"], ["exact", "", "q2"]]`,
    );
    const broker = await opened();
    await broker.publish(
      ['task.add', 'exact', 'nobody'].map((key) => message(key, { exchange: 'app', routingKey: key })),
    );
    expect((await waiting()).map((name) => name.split('.')[1]).sort()).toEqual(['q1', 'q2']);
  });

  test('whose table is being written is waited for', async () => {
    await mkdir(join(folder, 'control'));
    const path = join(folder, 'control', 'app.exchange');
    await writeFile(path, '');
    const broker = await opened();
    const publishing = broker.publish([message('x', { exchange: 'app', routingKey: 'k' })]);
    await writeFile(path, '[["k", "", "q"]]');
    await publishing;
    expect(await waiting()).toHaveLength(1);
  });
});

describe('options', () => {
  test('come from the URL’s path', () => {
    expect(filesystemOptions('filesystem:///var/spool/my%20jobs')).toEqual({
      folderIn: '/var/spool/my jobs',
      folderOut: '/var/spool/my jobs',
      controlFolder: '/var/spool/my jobs/control',
    });
  });

  test('come from its parameters, then from the transport options', () => {
    const url = 'filesystem://?data_folder_in=/in&store_processed=true';
    expect(filesystemOptions(url, { dataFolderIn: '/other', dataFolderOut: '/out', controlFolder: '/c' })).toEqual({
      folderIn: '/in',
      folderOut: '/out',
      controlFolder: '/c',
      processedFolder: '/in/processed',
    });
  });

  test.each([
    ['filesystem://', /names no folder/],
    ['filesystem:///x?data_dir=/y', /unknown parameter 'data_dir'/],
    ['filesystem:///x%zz', /'%'/],
    ['redis:///x', /not a filesystem URL/],
  ])('%s is refused', (url, words) => {
    expect(() => filesystemOptions(url)).toThrow(ConfigError);
    expect(() => filesystemOptions(url)).toThrow(words);
  });

  test('name a folder that cannot be made', async () => {
    await writeFile(join(folder, 'file'), '');
    const broker = new FilesystemBroker(filesystemOptions(`filesystem://${folder}/file/below`));
    await expect(broker.open(silent)).rejects.toThrow(ConfigError);
    await expect(broker.open(silent)).rejects.toThrow(/folder to read messages from/);
    await rm(join(folder, 'file'));
    await broker.open(silent);
    expect(broker.address).toBe(`filesystem://${folder}/file/below`);
  });
});

async function opened(options: Partial<FilesystemBrokerOptions> = {}): Promise<FilesystemBroker> {
  const broker = new FilesystemBroker({ ...filesystemOptions(`filesystem://${folder}`), ...options });
  brokers.push(broker);
  await broker.open(silent);
  return broker;
}

async function consuming(
  options: Partial<FilesystemBrokerOptions> = {},
  queues: readonly string[] = ['celery'],
): Promise<FilesystemBroker> {
  const broker = await opened(options);
  await broker.consume(queues.map((name) => ({ name })));
  return broker;
}

async function consumingSpecs(queues: readonly QueueSpec[]): Promise<FilesystemBroker> {
  const broker = await opened();
  await broker.consume(queues);
  return broker;
}

async function drain(broker: FilesystemBroker, count: number): Promise<Claim[]> {
  const claims: Claim[] = [];
  while (claims.length < count) {
    const some = await broker.receive(count - claims.length, never);
    if (some.length === 0) throw new Error(`the broker ended with ${claims.length} of ${count} messages`);
    claims.push(...some);
  }
  return claims;
}

function message(body: string, to: { readonly exchange?: string; readonly routingKey?: string } = {}): Publication {
  return {
    exchange: to.exchange ?? '',
    routingKey: to.routingKey ?? 'celery',
    body: Buffer.from(body),
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    headers: new Map(),
    priority: 0,
    properties: new Map(),
  };
}

function bodyOf(claim: Claim): string {
  return Buffer.from(claim.message!.body).toString();
}

async function waiting(): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith('.msg'));
}

async function claimed(): Promise<string[]> {
  const root = join(folder, '.jobglot-claimed');
  const names = await readdir(root, { recursive: true });
  return names.filter((name) => name.endsWith('.msg')).map((name) => join(root, name));
}

async function envelopeOf(body: string): Promise<Buffer> {
  const folderOut = join(folder, 'elsewhere');
  await (await opened({ folderOut })).publish([message(body)]);
  const [name] = await readdir(folderOut);
  const bytes = await readFile(join(folderOut, name!));
  await rm(folderOut, { recursive: true });
  return bytes;
}

/** What a worker of this pid leaves behind when it is killed with one message in its hands. */
async function abandon(body: string, pid: number, birth?: string, host?: string): Promise<string> {
  const bytes = await envelopeOf(body);
  const path = join(folder, '.jobglot-claimed', await ownerName(pid, birth, host));
  // In one step, so that nobody restores a folder that is still being filled.
  await mkdir(join(folder, 'making'));
  await writeFile(join(folder, 'making', '7_5b0c6bfe-22c2-4d4e-9a37-2f3b1f5a2c11.celery.msg'), bytes);
  await mkdir(join(folder, '.jobglot-claimed'), { recursive: true });
  await rename(join(folder, 'making'), path);
  return path;
}

async function ownerName(pid: number, birth?: string, host?: string): Promise<string> {
  const before = await readdir(join(folder, '.jobglot-claimed')).catch((): string[] => []);
  const broker = await consuming({}, []);
  const names = await readdir(join(folder, '.jobglot-claimed'));
  await broker.close();
  const own = names.find((name) => !before.includes(name));
  const [, ownHost, ownBirth] = /^(.+)-\d+-(\d+)\.[0-9a-f]+$/.exec(own!)!;
  return `${host ?? ownHost}-${pid}-${birth ?? ownBirth}.abcdef012345`;
}

async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return child.pid!;
}
