import { type Dialect, dialectOf } from '../../../protocols/sidekiq/dialect.ts';
import type { Keyspace } from '../../../protocols/sidekiq/keys.ts';
import * as presence from '../../../protocols/sidekiq/presence.ts';
import type { RedisLink } from '../../client.ts';

/** The dialect that all running processes can read. This process uses the same one. */
export async function peersDialect(redis: RedisLink, keys: Keyspace): Promise<Dialect> {
  const identities = await redis.run(presence.processes(keys));
  const peers = await redis.run(presence.peers(keys, identities));
  return dialectOf(
    peers.filter((peer) => peer !== undefined && !peer.ours).map((peer) => (peer as presence.Peer).version),
  );
}
