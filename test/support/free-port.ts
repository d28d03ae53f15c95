import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below what systems give to outgoing connections (32768 and up on Linux, 49152 elsewhere). A port from there may be taken by
 * anybody's connection while its server is restarted, and a client that tries to reach it meanwhile may reach itself.
 */
const [FIRST, LAST] = [20_000, 32_000];

/** A TCP port nobody listens on right now. Somebody may a moment later: check that the server reached is your own. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST, LAST);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false);
      else reject(error);
    });
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
