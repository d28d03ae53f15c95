import { text } from '../../src/check.ts';
import { addInspectorActions, addInspectorViews } from '../../src/cli/inspector-commands.ts';
import type { System as Commands } from '../../src/cli/system.ts';
import { registerCommands } from '../../src/cli/systems.ts';
import { ConfigError } from '../../src/errors.ts';
import type { Inspector } from '../../src/inspector.ts';
import { registerSystem, type System } from '../../src/system.ts';
import { toy, type ToyOptions } from './driver.ts';
import { explain, ToyInspector } from './inspector.ts';

declare module '../../src/task.ts' {
  interface Systems {
    readonly toy: ToyOptions;
  }
  interface TaskOptions {
    /** Toy: which colour the job has. */
    readonly colour?: string;
  }
}

declare module '../../src/config.ts' {
  interface Config {
    readonly toy?: ToyOptions;
  }
}

/** A fifth system: what a driver declares. */
export const toySystem: System<'toy'> = {
  name: 'toy',
  title: 'Toy',
  example: "{ url: 'toy://shelf' }",
  taskOptions: { colour: text },
};

interface Flags {
  readonly url?: string;
}

const open = ({ url }: Flags): Promise<Inspector> => {
  if (url === undefined) throw new ConfigError('toy: name the store with --url');
  return Promise.resolve(new ToyInspector({ url }));
};

/** Its flags and commands. */
export const toyCommands: Commands = {
  name: 'Toy',
  where: '--url',
  section: 'toy',
  workerFlags: { toy: '--toy' },
  chosenBy: ['toy'],
  addWorkerFlags: (worker) => void worker.optionsGroup('Toy:').option('--toy <url>', 'work the queues of a toy store'),
  resolveSource: (flags, _env, config) => {
    const url = (flags as { readonly toy?: string }).toy ?? config.toy?.url;
    if (url === undefined) throw new ConfigError('toy: name the store with --toy');
    return Promise.resolve({ source: toy({ ...config.toy, url }), origin: { address: url } });
  },
  addCommands(verb, _root, context) {
    const command = (name: 'inspect' | 'control') =>
      verb(name).command('toy').description('a toy store').option('-u, --url <url>', 'which one');
    addInspectorViews<Flags>(command('inspect'), context, open);
    addInspectorActions<Flags>(command('control'), context, open);
  },
  explain: (bytes) => Promise.resolve(explain(bytes)),
  decodeHelp: '',
};

/** Nothing else makes a system known. */
export function addToySystem(): void {
  registerSystem(toySystem);
  registerCommands(toyCommands);
}
