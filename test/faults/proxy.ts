import { createServer, connect, type AddressInfo, type Socket } from 'node:net';

/** A TCP proxy that can be as bad as a network. */
export interface Proxy extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** How many connections were ever accepted. */
  readonly accepted: number;
  /** Say nothing more on the connections there are, and accept new ones: what a firewall that forgot a connection does. */
  goSilent(): void;
  /** As goSilent, but new connections get no answer either. */
  goSilentForAll(): void;
  /** Cut every connection there is. */
  cut(): void;
  /** What was held back goes on. */
  comeBack(): void;
  /** Cut the connection that is about to bring an answer with these bytes, without the answer. Resolves when done. */
  dropAnswerWith(text: string): Promise<void>;
}

/** @param spoil what becomes of the answers of a connection: called for each connection, then for each chunk */
export async function startProxy(
  targetPort: number,
  spoil: () => (chunk: Buffer) => Buffer = () => (chunk) => chunk,
): Promise<Proxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  /** A silent pair is none any more once the server has given it up; its client's end is still there. */
  const open = new Set<Socket>();
  let accepted = 0;
  let silentForAll = false;
  let drop: { readonly text: string; readonly done: () => void } | undefined;
  const silent = new Set<Socket>();
  const server = createServer((client) => {
    accepted++;
    const upstream = connect(targetPort, '127.0.0.1');
    const pair = [client, upstream] as const;
    const spoilt = spoil();
    pairs.add(pair);
    for (const socket of pair) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        // A connection that went silent does not even say that it ended.
        if (silent.has(client) && socket === upstream) return;
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (chunk) => void upstream.write(chunk));
    upstream.on('data', (chunk) => {
      if (drop !== undefined && chunk.includes(drop.text)) {
        const { done } = drop;
        drop = undefined;
        client.destroy();
        done();
        return;
      }
      client.write(spoilt(chunk));
    });
    if (silentForAll) hush(pair);
  });
  const hush = ([client, upstream]: readonly [Socket, Socket]): void => {
    silent.add(client);
    client.pause();
    upstream.pause();
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `redis://127.0.0.1:${port}/0`,
    get accepted() {
      return accepted;
    },
    goSilent() {
      for (const pair of pairs) hush(pair);
    },
    goSilentForAll() {
      silentForAll = true;
      for (const pair of pairs) hush(pair);
    },
    cut() {
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
    comeBack() {
      silentForAll = false;
      silent.clear();
      for (const pair of pairs) for (const socket of pair) socket.resume();
    },
    dropAnswerWith: (text) => new Promise((done) => (drop = { text, done })),
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
