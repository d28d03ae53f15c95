import { spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { temporaryFolder } from './folder.ts';
import { hold } from './leash.mjs';
import { chromiumHint, findChromium } from './setup.mjs';
import { PATIENCE_MS, until } from './until.ts';

/** A Chromium of this machine; undefined where there is none. */
export const CHROMIUM: string | undefined = findChromium();

/** The end of the name of a test that needs a browser: where there is none, why it is skipped and how to get one. */
export const BROWSER: string = CHROMIUM === undefined ? ` [skipped: ${chromiumHint}]` : '';

/** One page in a headless Chromium, which is told what to do over a pipe (the DevTools protocol). */
export interface Browser extends AsyncDisposable {
  /** Goes there, and resolves when the page has loaded. */
  open(url: string): Promise<void>;
  /** Clicks the first element of this CSS selector; resolves when the page it leads to has loaded. */
  click(selector: string): Promise<void>;
  /** What a person reads on the page. */
  text(): Promise<string>;
  /** What this JavaScript comes to in the page. */
  evaluate<T>(expression: string): Promise<T>;
  /** The status of the page's own response. */
  readonly status: number;
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

export async function startBrowser(program: string): Promise<Browser> {
  const folder = temporaryFolder('jobglot-browser-');
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe', `--user-data-dir=${folder}`];
  const child = spawn(program, [...flags, 'about:blank'], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  });
  hold(child, { group: true });
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const input = child.stdio[3] as Writable;
  input.on('error', () => {});
  const waiting = new Map<number, (message: Message) => void>();
  let lastId = 0;
  let loads = 0;
  let status = 0;
  let session: string | undefined;
  let rest = '';
  (child.stdio[4] as Readable).setEncoding('utf8').on('data', (chunk: string) => {
    const texts = (rest + chunk).split('\0');
    rest = texts.pop() ?? '';
    for (const text of texts) {
      const message = JSON.parse(text) as Message;
      if (message.id !== undefined) waiting.get(message.id)?.(message);
      else if (message.method === 'Page.loadEventFired') loads += 1;
      else if (message.method === 'Page.javascriptDialogOpening')
        void call('Page.handleJavaScriptDialog', { accept: true });
      else if (message.method === 'Network.responseReceived' && message.params?.['type'] === 'Document')
        status = (message.params['response'] as { readonly status: number }).status;
    }
  });

  async function call<T>(method: string, params: object = {}): Promise<T> {
    const id = ++lastId;
    const answer = new Promise<Message>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`Chromium did not answer ${method}`)), PATIENCE_MS);
      waiting.set(id, (message) => {
        clearTimeout(late);
        resolve(message);
      });
      void gone.then(() => {
        clearTimeout(late);
        reject(new Error(`Chromium ended before it answered ${method}`));
      });
    });
    input.write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
    const { result, error } = await answer;
    waiting.delete(id);
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result as T;
  }

  async function evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails: thrown } = await call<{
      readonly result: { readonly value: T };
      readonly exceptionDetails?: { readonly text: string };
    }>('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    if (thrown !== undefined) throw new Error(`${expression}: ${thrown.text}`);
    return result.value;
  }

  async function loaded(act: () => Promise<unknown>): Promise<void> {
    const before = loads;
    await act();
    await until('the page has loaded', () => loads > before);
  }

  const { targetId } = await call<{ readonly targetId: string }>('Target.createTarget', { url: 'about:blank' });
  const attached = await call<{ readonly sessionId: string }>('Target.attachToTarget', { targetId, flatten: true });
  session = attached.sessionId;
  await call('Page.enable');
  await call('Network.enable');

  return {
    get status() {
      return status;
    },
    open: (url) => loaded(() => call('Page.navigate', { url })),
    click: (selector) => loaded(() => evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`)),
    text: () => evaluate<string>('document.body.innerText'),
    evaluate,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}
