// active-job-client.ts: ShipJob.perform_later(order, urgent: true)
import { GlobalId, SidekiqClient } from 'jobglot/sidekiq';

await using client = new SidekiqClient({ url: process.env['REDIS_URL'] ?? 'redis://localhost:6379/0' });
await client.performLater('ShipJob', { args: [new GlobalId('shop', 'Order', 42)], kwargs: { urgent: true } });
