// celery-node as a producer: `one N` awaits each publish, `bulk N` keeps 1,000 in flight. It has no bulk of its own.
import celeryNode from 'celery-node';

const [mode, count] = [process.argv[2], Number(process.argv[3])];
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

const run = { one, bulk }[mode];
await run(Math.max(1000, count / 10));
const [wall, cpu] = [process.hrtime.bigint(), process.cpuUsage()];
await run(count);
const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({ jobsPerSecond: count / seconds, cpuMicrosPerJob: (used.user + used.system) / count }));
process.exit(0);
