import { execFile } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { builtIn } from '../../src/systems.ts';
import { temporaryFolder } from '../support/folder.ts';
import { root } from '../support/setup.mjs';

/** Packages that are imported in one file or room only. */
const PACKAGES = ['ioredis', 'amqplib', 'commander', 'msgpackr', 'yaml'];
const SYSTEMS: readonly string[] = builtIn.map(({ name }) => name);

/** A rule of `.oxlintrc.json`: which rooms it holds for, what those may not contain, and what the linter then says. */
interface Rule {
  readonly rooms: (room: string) => boolean;
  /** Packages, or files of this project by their path from its root. */
  readonly imports?: readonly string[];
  /** Code that is no import. */
  readonly code?: readonly string[];
  readonly message: string;
}

const DATA = 'protocols/ is data only: no socket, file, clock or random number.';
const FACE = 'import the file itself, not the index.ts above it: that is how cycles begin.';

/** `src/a` and every room in it. */
function under(...folders: readonly string[]): Rule['rooms'] {
  return (room) => folders.some((folder) => room === folder || room.startsWith(`${folder}/`));
}

function only(...folders: readonly string[]): Rule['rooms'] {
  return (room) => folders.includes(room);
}

function drivers(systems: readonly string[]): readonly string[] {
  return systems.flatMap((system) => [
    `src/drivers/${system}/index.ts`,
    `src/drivers/${system}/client.ts`,
    `protocols/${system}/index.ts`,
    `protocols/${system}/explain.ts`,
  ]);
}

const rules: Readonly<Record<string, Rule>> = {
  'protocols import no input or output': {
    rooms: under('protocols'),
    imports: ['src/errors.ts', 'src/transports/redis.ts', ...PACKAGES, 'node:fs', 'node:fs/promises', 'fs', 'node:net'],
    message: DATA,
  },
  'protocols import no randomness and no timers': {
    rooms: under('protocols'),
    imports: ['node:crypto', 'node:timers/promises', 'node:process', 'node:os', 'node:worker_threads'],
    message: DATA,
  },
  'protocols read no clock': { rooms: under('protocols'), code: ['Date.now()'], message: 'the time is an argument.' },
  'protocols take no random number': {
    rooms: under('protocols'),
    code: ['Math.random()'],
    message: 'a random number is an argument.',
  },
  'protocols use no global of the process': {
    rooms: under('protocols'),
    code: ['setTimeout(() => {}, 1)', 'process.pid', "void fetch('http://localhost')", 'performance.now()'],
    message: '',
  },
  'what protocols share knows no system': {
    rooms: (room) => room === 'protocols' || under('protocols/formats')(room),
    imports: drivers(SYSTEMS).filter((path) => path.startsWith('protocols')),
    message: 'what protocols share knows no system.',
  },
  ...Object.fromEntries(
    SYSTEMS.flatMap((system): [string, Rule][] => {
      const others = SYSTEMS.filter((one) => one !== system);
      return [
        [
          `the protocol of ${system} knows no other system`,
          {
            rooms: under(`protocols/${system}`),
            imports: drivers(others).filter((path) => path.startsWith('protocols')),
            message: 'a protocol knows no other system.',
          },
        ],
        [
          `the protocol of ${system} does not import its own face`,
          { rooms: under(`protocols/${system}`), imports: [`protocols/${system}/index.ts`], message: FACE },
        ],
        [
          `the driver of ${system} knows no other system, no worker and no command line`,
          {
            rooms: under(`src/drivers/${system}`),
            imports: [...drivers(others), 'src/worker/worker.ts', 'src/cli/exit.ts', 'src/testing/index.ts'],
            message: 'a driver stands on source, client, task and transports, and knows no other system.',
          },
        ],
        [
          `the driver of ${system} does not import its own face`,
          {
            rooms: under(`src/drivers/${system}`),
            imports: [`src/drivers/${system}/index.ts`, 'src/index.ts'],
            message: FACE,
          },
        ],
        [
          `the driver of ${system} imports no package`,
          {
            rooms: under(`src/drivers/${system}`),
            imports: PACKAGES,
            message: 'a driver reaches servers through transports.',
          },
        ],
        [
          `the commands of ${system} know no other system`,
          {
            rooms: under(`src/cli/${system}`),
            imports: [...drivers(others), ...others.map((one) => `src/cli/${one}/system.ts`)],
            message: 'the commands of one system know no other system.',
          },
        ],
      ];
    }),
  ),
  'the ground floor of src knows no system, no server and no command line': {
    rooms: only('src'),
    imports: [...drivers(SYSTEMS), 'src/transports/redis.ts', 'src/cli/exit.ts', 'src/testing/index.ts', ...PACKAGES],
    message: 'the ground floor of src knows no system, no server and no command line.',
  },
  'the worker knows no system': {
    rooms: under('src/worker'),
    imports: [...drivers(SYSTEMS), 'src/transports/redis.ts', 'src/cli/exit.ts', 'src/testing/index.ts', ...PACKAGES],
    message: 'the worker does not know which systems exist.',
  },
  'transports know no system and no worker': {
    rooms: under('src/transports'),
    imports: [...drivers(SYSTEMS), 'src/worker/worker.ts', 'src/cli/exit.ts', 'src/testing/index.ts'],
    message: 'a transport carries data: it knows no system and no worker.',
  },
  'a transport imports no package but its own': {
    rooms: under('src/transports'),
    imports: PACKAGES,
    message: 'a package is imported in one file only: see the overrides in .oxlintrc.json.',
  },
  'nothing imports the face of the package': {
    rooms: under('src/worker', 'src/transports'),
    imports: ['src/index.ts'],
    message: FACE,
  },
  'what users test with opens no connection': {
    rooms: under('src/testing'),
    imports: ['src/transports/redis.ts', 'src/cli/exit.ts', ...PACKAGES],
    message: 'tests of users open no connection.',
  },
  'the command line calls no server': {
    rooms: under('src/cli'),
    imports: PACKAGES.filter((name) => name !== 'commander'),
    message: 'the command line calls drivers, not servers.',
  },
  'what commands share knows no system': {
    rooms: only('src/cli'),
    imports: [...drivers(SYSTEMS), ...SYSTEMS.map((one) => `src/cli/${one}/system.ts`), 'src/transports/redis.ts'],
    message: 'what commands share knows no system: systems.ts lists them.',
  },
};

interface Finding {
  readonly file: string;
  readonly rule: string;
  readonly said: string;
}

/** Rooms of the house: folders with sources. */
const rooms = ['src', 'protocols'].flatMap((top) => [
  top,
  ...readdirSync(join(root, top), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((folder) => readdirSync(join(root, folder)).some((name) => name.endsWith('.ts'))),
]);

/** What is planted, by the file it is planted in. */
const planted = new Map<string, { readonly name: string; readonly room: string; readonly text: string }>();
for (const [name, { rooms: holds, imports = [], code = [] }] of Object.entries(rules)) {
  for (const room of rooms.filter(holds)) {
    const lines = [...imports.map((target) => `import '${specifier(room, target)}';`), ...code.map((one) => `${one};`)];
    for (const text of lines) planted.set(`${room}/planted-${planted.size}.ts`, { name, room, text });
  }
}

/** How a file in this room names a package or a file. */
function specifier(room: string, target: string): string {
  if (!target.includes('/') || target.startsWith('node:')) return target;
  const path = relative(room, target);
  return path.startsWith('.') ? path : `./${path}`;
}

describe('the linter', () => {
  let findings: readonly Finding[];

  beforeAll(async () => {
    const copy = temporaryFolder('jobglot-lint-');
    cpSync(join(root, '.oxlintrc.json'), join(copy, '.oxlintrc.json'));
    for (const top of ['src', 'protocols']) cpSync(join(root, top), join(copy, top), { recursive: true });
    for (const [file, { text }] of planted) writeFileSync(join(copy, file), `${text}\n`);
    for (const room of rooms) {
      writeFileSync(join(copy, room, 'circle-a.ts'), "import type { B } from './circle-b.ts';\nexport type A = B;\n");
      writeFileSync(join(copy, room, 'circle-b.ts'), "import type { A } from './circle-a.ts';\nexport type B = A[];\n");
    }
    // The linter does not look at dynamic imports: each stands in the copy as a static one, too.
    for (const file of sources()) {
      const text = readFileSync(join(root, file), 'utf8');
      const dynamic = [...text.matchAll(/\bimport\('([^']+)'\)/g)].map((match) => `import '${match[1] as string}';\n`);
      if (dynamic.length > 0) writeFileSync(join(copy, file), `${text}\n${dynamic.join('')}`);
    }
    findings = await lint(copy);
  });

  it.each(Object.keys(rules))('%s', (name) => {
    const files = [...planted].filter(([, one]) => one.name === name);
    expect(files.length).toBeGreaterThan(0);
    const passed = files
      .filter(([file]) => !findings.some((one) => one.file === file && one.said.includes(rules[name]!.message)))
      .map(([file, { text }]) => `${dirname(file)}: ${text}`);
    expect(passed).toEqual([]);
  });

  it.each(rooms)('refuses a circle of types in %s', (room) => {
    expect(findings).toContainEqual(expect.objectContaining({ file: `${room}/circle-a.ts`, rule: 'import(no-cycle)' }));
  });

  it('refuses no import of the house, static or dynamic', () => {
    const refused = findings.filter(
      ({ file, rule }) => rule === 'eslint(no-restricted-imports)' && !/\/planted-\d+\.ts$/.test(file),
    );
    expect(refused).toEqual([]);
  });

  it('has a rule for every room', () => {
    const free = rooms.filter((room) => !Object.values(rules).some((rule) => rule.rooms(room)));
    expect(free).toEqual([]);
  });
});

function sources(): readonly string[] {
  return rooms.flatMap((room) =>
    readdirSync(join(root, room))
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(room, name)),
  );
}

function lint(folder: string): Promise<readonly Finding[]> {
  return new Promise((resolve, reject) => {
    const program = join(root, 'node_modules/oxlint/bin/oxlint');
    execFile(process.execPath, [program, '-f', 'json', '.'], { cwd: folder, maxBuffer: 2 ** 28 }, (error, out, err) => {
      // It fails, since it finds something; without a report it did not run.
      if (!out.startsWith('{')) return reject(error ?? new Error(err));
      const { diagnostics } = JSON.parse(out) as {
        readonly diagnostics: readonly {
          readonly filename: string;
          readonly code: string;
          readonly message: string;
          readonly help?: string;
        }[];
      };
      resolve(
        diagnostics.map(({ filename, code, message, help = '' }) => ({
          file: filename.replace(/^\.\//, ''),
          rule: code,
          said: `${message} ${help}`,
        })),
      );
    });
  });
}
