// celery-node as a producer: `one N` awaits each publish, `bulk N` keeps 1,000 in flight. It has no bulk of its own.
import celeryNode from 'celery-node';
import { timed } from '../timed.mjs';

const client = celeryNode.createClient(process.env.BENCH_BROKER, process.env.BENCH_REDIS);
await client.isReady();
const task = client.createTask('bench.add');

// delay() returns before the message is sent and drops that promise; catch it where it is made.
let sent = () => {};
const publish = client.broker.publish.bind(client.broker);
client.broker.publish = (...args) => {
  const reply = publish(...args);
  void reply.then(sent);
  return reply;
};

async function one(jobs) {
  for (let i = 0; i < jobs; i++) {
    await new Promise((resolve) => {
      sent = resolve;
      task.delay(i, i + 1);
    });
  }
}

async function bulk(jobs) {
  for (let i = 0; i < jobs;) {
    const end = Math.min(jobs, i + 1000);
    let left = end - i;
    await new Promise((resolve) => {
      sent = () => --left === 0 && resolve();
      for (; i < end; i++) task.delay(i, i + 1);
    });
  }
}

await timed({ one, bulk });
process.exit(0);
