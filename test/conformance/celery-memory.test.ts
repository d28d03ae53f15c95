import { decodeEnvelope } from '../../protocols/celery/brokers/envelope.ts';
import { MemoryBroker } from '../../src/drivers/celery/brokers/memory.ts';
import type { CeleryAppOptions } from '../../src/drivers/celery/index.ts';
import { MemoryResults } from '../../src/drivers/celery/results/memory.ts';
import {
  CELERY_GAPS,
  celeryMessages,
  celeryResult,
  celerySender,
  celerySource,
  withoutMark,
  CLAIMS_UNSEEN,
} from './celery.ts';
import { conformance } from './suite.ts';

interface Store extends AsyncDisposable {
  readonly name: string;
  readonly app: CeleryAppOptions;
}

const NO_SERVER = 'memory lives as long as its process';
const NO_BYTES = 'nobody but this process writes here';
const NO_CLAIMS = "claims are each broker's own, and are given back when it closes";
let stores = 0;

conformance<Store>({
  name: 'celery-memory',
  async store() {
    const name = `conformance-${++stores}`;
    const app = { broker: `memory://${name}`, backend: `memory://${name}` };
    return { name, app, [Symbol.asyncDispose]: async () => new MemoryBroker(name).clear() };
  },
  source: ({ app }, options) => celerySource(app, options),
  client: ({ app }) => celerySender(app),
  raw({ name }) {
    const broker = new MemoryBroker(name);
    const results = new MemoryResults(name);
    return {
      ...celeryMessages,
      lasting: withoutMark,
      async put(queue, bytes) {
        const { body, contentType = '', contentEncoding = '', headers, properties } = decodeEnvelope(bytes);
        const maps = {
          headers: new Map(Object.entries(headers)),
          properties: new Map(Object.entries(properties)),
        };
        await broker.publish([
          { body, contentType, contentEncoding, ...maps, exchange: '', routingKey: queue, priority: 0 },
        ]);
      },
      /** Claimed, and given back. */
      async waiting(queue) {
        const count = broker.size(queue);
        if (count === 0) return [];
        const own = new MemoryBroker(name);
        await own.consume([{ name: queue }]);
        const claims = await own.receive(count, AbortSignal.timeout(5_000));
        for (const claim of claims.toReversed()) await own.requeue(claim, 'front');
        return claims.map(({ bytes }) => Buffer.from(bytes));
      },
      claimed: async () => 0,
      aside: async (queue) =>
        broker.quarantined
          .filter((one) => one.queue === queue)
          .map(({ bytes, reason }) => ({ bytes: Buffer.from(bytes), reason })),
      result: async (id) => celeryResult(await results.fetch(id)),
    };
  },
  without: {
    ...CELERY_GAPS,
    ...CLAIMS_UNSEEN,
    "an unknown task is claimed until the worker stops, with unknownTask: 'hold'": NO_CLAIMS,
    'bytes that are no message are set aside as they are, with the reason, and others run': NO_BYTES,
    'quiet gives back what waits for its time': NO_CLAIMS,
    'an idle worker consumes again': NO_SERVER,
    'what waits is still there, and is run once': NO_SERVER,
    'a job that runs meanwhile ends, and its result is stored': NO_SERVER,
    'a job that ends while the store is away is settled when it is back': NO_SERVER,
  },
});
