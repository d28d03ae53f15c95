import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import type { Redis } from 'ioredis';

/** How often something was asked of a key. */
export interface Tally extends AsyncDisposable {
  readonly count: number;
}

/**
 * Counts what anybody, scripts included, asks of a key from now on: for what is there too briefly to be seen by looking.
 * `tally(client, /^[LR]PUSH$/i, 'celery')`; the key is the first argument. For a server without a password.
 *
 * Over a socket of its own: `client.monitor()` fails where the first line comes together with the answer to MONITOR.
 */
export async function tally(client: Redis, command: RegExp, key: string): Promise<Tally> {
  const { host = '127.0.0.1', port = 6379 } = client.options;
  const socket = connect(port, host);
  await once(socket, 'connect');
  // The server may end before its test does; then there is nothing left to count.
  socket.on('error', () => undefined);
  // As MONITOR writes it: +1795269682.529684 [0 127.0.0.1:38966] "LPUSH" "celery"
  const shown = key.replace(/[\x00-\x1f]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
  let count = 0;
  const lines = createInterface(socket);
  lines.on('line', (line) => {
    const [, name = '', first] = /^\+[\d.]+ \[[^\]]*\] "([^"]*)"(?: "((?:[^"\\]|\\.)*)")?/.exec(line) ?? [];
    if (command.test(name) && first === shown) count++;
  });
  socket.write('MONITOR\r\n');
  const [answer] = (await once(lines, 'line')) as [string];
  if (answer !== '+OK') throw new Error(`MONITOR was answered with ${answer}`);
  return {
    get count() {
      return count;
    },
    async [Symbol.asyncDispose]() {
      lines.close();
      socket.destroy();
    },
  };
}
