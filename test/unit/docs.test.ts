import { readdirSync, readFileSync, existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { program } from '../../src/cli/program.ts';
import { builtIn } from '../../src/systems.ts';
import { linked, shown } from '../examples/shown.mjs';
import { root } from '../support/setup.mjs';

const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const readme = read('README.md');
const SYSTEMS = builtIn.map(({ name }) => name);

function files(folder: string, ending: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

/** GitHub's name for a heading. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-');
}

describe('the README', () => {
  it('shows no TypeScript that is not an example that runs', () => {
    const snippets = [...readme.matchAll(/^```ts\n\/\/ (\S+)\.ts/gm)].map((match) => match[1]);
    expect(snippets).toEqual(shown);
    expect(readme.match(/^```(?:ts|js)/gm)).toHaveLength(shown.length);
  });

  it('shows or links to every example', () => {
    const examples = readdirSync(join(root, 'test/examples')).filter((name) =>
      /^(?!.*\.(?:test|d)\.).*\.ts$/.test(name),
    );
    expect(examples.sort()).toEqual([...shown, ...linked].map((name) => `${name}.ts`).sort());
  });

  const commands = [...readme.matchAll(/^```sh\n([\s\S]*?)^```/gm), ...readme.matchAll(/`(npx jobglot [^`]+)`/g)]
    .flatMap((match) => (match[1] ?? '').replaceAll(/\s*\n(?=\.)/g, ' ').split('\n'))
    .map((line) => /(?:^|\| |^npx )jobglot ([^#]*)/.exec(line)?.[1]?.trim())
    .filter((line) => line !== undefined);

  it.each(commands)('has a command line that is understood: jobglot %s', (line) => {
    const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '');
    let command: Command = program({ env: {}, cwd: root, out: () => {}, err: () => {}, done: () => {} });
    for (let next = find(command, words[0]); next !== undefined; next = find(command, words[0])) {
      command = next;
      words.shift();
    }
    const { operands, unknown } = command.parseOptions(words);
    // A command with arguments of its own may have further commands beside them.
    if (command.registeredArguments.length === 0)
      expect(command.commands, `'${line}' does not say what`).toHaveLength(0);
    expect(unknown).toEqual([]);
    const { registeredArguments: known } = command;
    expect(operands.length).toBeGreaterThanOrEqual(known.filter(({ required }) => required).length);
    if (known.at(-1)?.variadic !== true) expect(operands.length).toBeLessThanOrEqual(known.length);
  });

  function find(command: Command, name: string | undefined): Command | undefined {
    return command.commands.find((one) => one.name() === name);
  }
});

describe('links', () => {
  const documents = [
    ...readdirSync(root).filter((name) => name.endsWith('.md')),
    ...['src', 'protocols', 'test/bench'].flatMap((folder) => files(folder, '.md')),
  ].filter((name) => !name.includes('node_modules'));

  it.each(documents)('of %s lead somewhere', (document) => {
    const broken = [...read(document).matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1] as string)
      .filter((target) => !/^https?:/.test(target))
      .filter((target) => {
        const [path = '', heading] = target.split('#');
        const file = path === '' ? document : relative(root, join(root, dirname(document), path));
        if (!existsSync(join(root, file))) return true;
        return (
          heading !== undefined &&
          ![...read(file).matchAll(/^#+ (.*)$/gm)].some(([, text = '']) => anchor(text) === heading)
        );
      });
    expect(broken).toEqual([]);
  });

  it.each(SYSTEMS)('at the top of %s on the wire name every section', (system) => {
    const text = read(`protocols/${system}/README.md`);
    const sections = [...text.matchAll(/^## (\d+\. .*)$/gm)].map(([, heading = '']) => `(#${anchor(heading)})`);
    expect(sections.filter((section) => !text.includes(section))).toEqual([]);
  });
});

describe('the map of the house', () => {
  const sources = files('src', '.ts').map((path) => relative('src', path));
  const rows = [...read('src/README.md').matchAll(/^\| (`[^|]*`) \|/gm)].map((match) => match[1] as string);
  const rooms = rows.flatMap((row) => {
    let folder = '';
    return [...row.matchAll(/`([^`]+)`/g)]
      .flatMap((match) => expand((match[1] as string).replace('<system>', `{${SYSTEMS.join(',')}}`)))
      .map((name) => {
        // A name without a folder is in that of the name before it.
        if (name.includes('/')) folder = dirname(name.endsWith('/') ? `${name}.` : name);
        return name.includes('/') || folder === '.' ? name : join(folder, name);
      })
      .filter((name) => /\.ts$|\/$/.test(name));
  });
  const fits = (room: string, file: string): boolean =>
    room.endsWith('/')
      ? file.startsWith(room)
      : new RegExp(`^${room.replaceAll('.', '\\.').replace('*', '.*')}$`).test(file);

  it('shows no room that is not there', () => {
    expect(rooms.length).toBeGreaterThan(40);
    expect(rooms.filter((room) => !sources.some((file) => fits(room, file)))).toEqual([]);
  });

  it('shows every file', () => {
    expect(sources.filter((file) => !rooms.some((room) => fits(room, file)))).toEqual([]);
  });

  it('begins with the ten words of the house', () => {
    const text = read('src/README.md');
    const glossary = text.slice(text.indexOf('## Ten words'), text.indexOf('## The rooms'));
    const words = [...glossary.matchAll(/^\| ([a-z]+)(?:, ([a-z]+))? \|/gm)].flatMap(([, one, two]) =>
      [one, two ?? []].flat(),
    );
    expect(words.filter((word) => word !== 'word')).toEqual([
      'job',
      'task',
      'claim',
      'delivery',
      'source',
      'lane',
      'outcome',
      'disposition',
      'settle',
      'release',
      'agent',
    ]);
  });

  it('and that of protocols shows every folder and every file that systems share', () => {
    const text = read('protocols/README.md');
    const shared = readdirSync(join(root, 'protocols')).filter((name) => name.endsWith('.ts'));
    expect(shared.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});

/** Braces as a shell reads them: `{a,b}.ts` is `a.ts` and `b.ts`. */
function expand(text: string): readonly string[] {
  const match = /^(.*?)\{([^}]*)\}(.*)$/.exec(text);
  if (match === null) return [text];
  const [, before = '', names = '', after = ''] = match;
  return names.split(',').flatMap((name) => expand(`${before}${name}${after}`));
}
