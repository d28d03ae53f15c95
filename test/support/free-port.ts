import { createServer, type AddressInfo } from 'node:net';

/** A TCP port nobody listens on right now. Somebody may a moment later: check that the server reached is your own. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
