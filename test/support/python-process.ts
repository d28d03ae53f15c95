import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from './child.ts';
import { Dialogue } from './dialogue.ts';
import { root, venvPython } from './setup.mjs';
import { fromTagged, toTagged } from './tagged.ts';

const apps = join(root, 'test/interop/apps');

/** The Python of an environment of the set-up: the one in `JOBGLOT_PYTHON_RQ_2_10`, else the one that was made. */
export function pythonOf(environment: string): string {
  const own = process.env[`JOBGLOT_PYTHON_${environment.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`];
  const python = own ?? venvPython(environment);
  if (!existsSync(python)) {
    throw new Error(
      `no Python environment ${environment}: run \`node test/support/setup.mjs ${environment}\` (npm test does it by itself)`,
    );
  }
  return python;
}

/** A Python whose working folder is test/interop/apps. */
export class PythonProcess extends Child {
  constructor(python: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const own = { PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1', PYTHONPATH: apps };
    super('Python', python, args, apps, { ...process.env, ...own, ...env });
  }
}

/** The other end of test/interop/apps/pipe.py: operations by their names, one at a time. */
export class PythonDriver<Versions> implements AsyncDisposable {
  readonly versions: Versions;
  readonly #dialogue: Dialogue;

  private constructor(versions: Versions, dialogue: Dialogue) {
    this.versions = versions;
    this.#dialogue = dialogue;
  }

  /** Resolves when it has said which versions it is made of. */
  static async start<Versions>(own: PythonProcess): Promise<PythonDriver<Versions>> {
    const dialogue = new Dialogue(own, (raised) => new PythonError(raised as Raised));
    return new PythonDriver(fromTagged(await dialogue.hello) as Versions, dialogue);
  }

  /** Any operation of the driver, by its name. Rejects with PythonError when Python raises. */
  async call(op: string, params: object = {}): Promise<unknown> {
    return fromTagged(await this.#dialogue.ask({ op, params: toTagged(params) }));
  }

  /** What it wrote to its standard error, for a failure message. */
  log(): string {
    return this.#dialogue.log();
  }

  stop(): Promise<void> {
    return this.#dialogue[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

interface Raised {
  readonly type: string;
  readonly message: string;
  readonly traceback: string;
}

/** What Python raised in an operation. */
export class PythonError extends Error {
  override readonly name = 'PythonError';
  readonly type: string;
  readonly traceback: string;
  constructor(error: Raised) {
    super(`${error.type}: ${error.message}`);
    this.type = error.type;
    this.traceback = error.traceback;
  }
}
