import { afterAll, beforeAll, describe, expect } from 'vitest';
import { celery, CeleryControl, type CeleryOptions } from '../../src/drivers/celery/index.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type CeleryVersion, type PythonWorker, startPythonWorker } from '../support/python.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { PATIENCE_MS, until } from '../support/until.ts';
import { interopTasks } from './apps/tasks.ts';
import { facts, type Lacks } from './support/table.ts';

/** The same configuration, in the words of both. */
interface Configuration {
  readonly what: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly prelude?: string;
  readonly queues?: readonly string[];
  readonly node: Partial<CeleryOptions>;
  readonly lacks?: Lacks;
}

const NO_QUORUM: Lacks = { '5.2': 'Celery before 5.5 knows no quorum queues' };

const KINDS_IN_PYTHON = `
from kombu import Exchange, Queue, binding
app.conf.task_queues = (
    Queue('plain', Exchange('plain'), routing_key='plain'),
    Queue('bills', Exchange('shop', 'direct'), routing_key='bill'),
    Queue('orders', Exchange('orders', 'topic'), routing_key='order.*.new'),
    Queue('wide', Exchange('wide', 'fanout'), routing_key='wide'),
    Queue('invoices', Exchange('by-kind', 'headers'), routing_key='k', binding_arguments={'x-match': 'all', 'kind': 'invoice', 'n': 2}),
    Queue('several', bindings=[binding(Exchange('orders', 'topic'), routing_key='#.eu'), binding(Exchange('shop', 'direct'), routing_key='eu')]),
    Queue('brief', Exchange('brief', durable=False, auto_delete=True), routing_key='b', durable=False, expires=60, message_ttl=1.5,
          max_length=10, max_length_bytes=1000, max_priority=5),
    Queue('dead', Exchange('dead', 'fanout'), routing_key='dead'),
    Queue('mortal', Exchange('mortal'), routing_key='mortal',
          queue_arguments={'x-dead-letter-exchange': 'dead', 'x-dead-letter-routing-key': 'mortal', 'x-overflow': 'reject-publish'}),
)
`;

const KINDS_IN_NODE = [
  { name: 'plain', exchange: 'plain', routingKey: 'plain' },
  { name: 'bills', exchange: 'shop', routingKey: 'bill' },
  { name: 'orders', exchange: 'orders', exchangeType: 'topic', routingKey: 'order.*.new' },
  { name: 'wide', exchange: 'wide', exchangeType: 'fanout', routingKey: 'wide' },
  {
    name: 'invoices',
    exchange: 'by-kind',
    exchangeType: 'headers',
    routingKey: 'k',
    bindingArguments: { 'x-match': 'all', kind: 'invoice', n: 2 },
  },
  {
    name: 'several',
    bindings: [
      { exchange: 'orders', exchangeType: 'topic', routingKey: '#.eu' },
      { exchange: 'shop', routingKey: 'eu' },
    ],
  },
  {
    name: 'brief',
    exchange: 'brief',
    exchangeDurable: false,
    exchangeAutoDelete: true,
    routingKey: 'b',
    durable: false,
    expires: 60,
    messageTtl: 1.5,
    maxLength: 10,
    maxLengthBytes: 1000,
    maxPriority: 5,
  },
  { name: 'dead', exchange: 'dead', exchangeType: 'fanout', routingKey: 'dead' },
  {
    name: 'mortal',
    exchange: 'mortal',
    routingKey: 'mortal',
    deadLetterExchange: 'dead',
    deadLetterRoutingKey: 'mortal',
    queueArguments: { 'x-overflow': 'reject-publish' },
  },
] as const satisfies CeleryOptions['queues'];

/** What is not said of a queue comes from the settings. */
const TERSE_IN_PYTHON = `
from kombu import Exchange, Queue, binding
app.conf.task_queues = (
    Queue('bare'),
    Queue('urgent', max_priority=5),
    Queue('keyed', routing_key='key'),
    Queue('own', Exchange('shop', 'topic')),
    Queue('all', Exchange('wide', 'fanout')),
    Queue('bound', bindings=[binding(Exchange('shop', 'topic'), routing_key='#.eu')]),
)
`;

const TERSE_IN_NODE: Partial<CeleryOptions> = {
  taskQueues: [
    { name: 'bare' },
    { name: 'urgent', maxPriority: 5 },
    { name: 'keyed', routingKey: 'key' },
    { name: 'own', exchange: 'shop', exchangeType: 'topic' },
    { name: 'all', exchange: 'wide', exchangeType: 'fanout' },
    { name: 'bound', bindings: [{ exchange: 'shop', exchangeType: 'topic', routingKey: '#.eu' }] },
  ],
  queues: ['bare', 'urgent', 'keyed', 'own', 'all', 'bound'],
};

const CONFIGURATIONS: readonly Configuration[] = [
  { what: 'nothing configured', node: {} },
  { what: 'queues that are only names', queues: ['one', 'two'], node: { queues: ['one', 'two'] } },
  {
    what: 'other names for the default',
    config: {
      task_default_queue: 'work',
      task_default_exchange: 'factory',
      task_default_exchange_type: 'topic',
      task_default_routing_key: 'work.default',
    },
    node: {
      queues: ['work'],
      taskDefaultQueue: 'work',
      taskDefaultExchange: 'factory',
      taskDefaultExchangeType: 'topic',
      taskDefaultRoutingKey: 'work.default',
    },
  },
  { what: 'task_queue_max_priority', config: { task_queue_max_priority: 9 }, node: { taskQueueMaxPriority: 9 } },
  { what: 'task_queues of every kind', prelude: KINDS_IN_PYTHON, node: { queues: KINDS_IN_NODE } },
  { what: 'task_queues that are hardly more than names', prelude: TERSE_IN_PYTHON, node: TERSE_IN_NODE },
  {
    what: 'task_queues that are hardly more than names, and a default exchange',
    config: { task_default_exchange: 'factory', task_default_exchange_type: 'topic', task_queue_max_priority: 3 },
    prelude: TERSE_IN_PYTHON,
    node: {
      ...TERSE_IN_NODE,
      taskDefaultExchange: 'factory',
      taskDefaultExchangeType: 'topic',
      taskQueueMaxPriority: 3,
    },
  },
  {
    what: 'task_queues that are hardly more than names, and a default queue and key',
    config: { task_default_queue: 'bare', task_default_routing_key: 'work.default' },
    prelude: TERSE_IN_PYTHON,
    node: { ...TERSE_IN_NODE, taskDefaultQueue: 'bare', taskDefaultRoutingKey: 'work.default' },
  },
  {
    what: 'worker_direct',
    config: { worker_direct: true },
    node: { workerDirect: true },
  },
  {
    what: 'a quorum queue by default, delays in quorum queues',
    config: { task_default_queue_type: 'quorum', task_default_exchange_type: 'topic' },
    node: { taskDefaultQueueType: 'quorum', taskDefaultExchangeType: 'topic' },
    lacks: NO_QUORUM,
  },
  {
    what: 'a quorum queue on a direct exchange, delays in classic queues',
    config: { task_default_queue_type: 'quorum', broker_native_delayed_delivery_queue_type: 'classic' },
    node: { taskDefaultQueueType: 'quorum', brokerNativeDelayedDeliveryQueueType: 'classic' },
    lacks: NO_QUORUM,
  },
];

describe.each<CeleryVersion>(['5.2', '5.6'])('what a worker of Celery %s declares, and what one of Node', (version) => {
  const fact = facts('amqp-topology', { version, broker: 'amqp' }, 'both');
  let rabbit: RabbitServer;
  let count = 0;

  beforeAll(async () => {
    rabbit = await startRabbit();
  });
  afterAll(() => rabbit[Symbol.asyncDispose]());

  async function vhost(): Promise<string> {
    const name = `topology-${version}-${++count}`;
    await rabbit.addVhost(name);
    return name;
  }

  function python(where: string, { config, prelude, queues }: Configuration): Promise<PythonWorker> {
    return startPythonWorker(version, {
      broker: rabbit.urlOf(where),
      hostname: 'them@test',
      // Its neighbours' answers would be waited for, a second; so would ours.
      args: ['--without-mingle'],
      ...(config === undefined ? {} : { config }),
      ...(prelude === undefined ? {} : { prelude }),
      ...(queues === undefined ? {} : { queues }),
    });
  }

  async function node(where: string, { node: options }: Configuration): Promise<AsyncDisposable> {
    const source = celery({
      broker: rabbit.urlOf(where),
      nodename: 'us@test',
      gossip: true,
      mingle: false,
      ...options,
    });
    const worker = new Worker({ tasks: interopTasks(), sources: [source], abortGraceMs: 200 });
    await worker.start();
    return { [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 1_000 }) };
  }

  /** All that lasts, a line each, with the worker's name left open, and what is made up for each process. */
  async function listing(where: string): Promise<string> {
    const all = [
      ...(await rabbit.queues(where)).map((queue) => `queue ${JSON.stringify(queue)}`),
      ...(await rabbit.exchanges(where)).map((exchange) => `exchange ${JSON.stringify(exchange)}`),
      ...(await rabbit.bindings(where)).map((binding) => `binding ${JSON.stringify(binding)}`),
    ];
    return all
      .filter((line) => !line.includes(REPLIES))
      .map((line) => line.replaceAll(/\b(?:them|us)@test\b/g, '<worker>'))
      .map((line) => line.replaceAll(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<uuid>'))
      .sort()
      .join('\n');
  }

  /** What both say of their queues when they are asked, but for those with several bindings: Python names an exchange they have not. */
  async function told(where: string): Promise<readonly unknown[]> {
    await using control = new CeleryControl({ broker: rabbit.urlOf(where) });
    const replies = await control.call('active_queues', {}, { limit: 2, timeoutMs: PATIENCE_MS });
    return ['them@test', 'us@test'].map((worker) =>
      (replies.get(worker) as readonly QueueTold[])
        .filter(({ name }) => !['several', 'bound'].includes(name))
        .map(({ name, exchange, routing_key: key }) => [name, exchange.name, exchange.type, key])
        .map((told) => told.map((text) => text?.replace(worker, '<worker>')))
        .toSorted(),
    );
  }

  /** Its mailbox and its ear for the events of others are bound: these come last. */
  function isWhole(text: string): boolean {
    return ['<worker>.celery.pidbox', 'celeryev.<uuid>'].every((to) =>
      text.includes(`binding {"source":"${to.startsWith('<') ? 'celery.pidbox' : 'celeryev'}","destination":"${to}"`),
    );
  }

  for (const configuration of CONFIGURATIONS) {
    const { what, lacks } = configuration;
    const feature = what.includes('quorum') ? 'quorum queues' : 'queues, exchanges and bindings as declared';
    fact(
      feature,
      `${what}: the same queues, exchanges and bindings, with the same arguments; each starts on the other's`,
      async () => {
        const [theirs, ours] = [await vhost(), await vhost()];
        let declared: string;
        {
          await using _python = await python(theirs, configuration);
          await until('all is declared', async () => isWhole(await listing(theirs)));
          declared = await listing(theirs);
          await using _node = await node(theirs, configuration);
          const [them, us] = await told(theirs);
          expect(us).toEqual(them);
        }
        {
          await using _node = await node(ours, configuration);
          await until('all is declared', async () => isWhole(await listing(ours)));
          expect(await listing(ours)).toBe(declared);
          await using worker = await python(ours, configuration);
          const queue = (await rabbit.consumers(ours)).find(({ ackRequired }) => ackRequired)?.queue ?? '';
          const consumers = (await rabbit.consumers(ours)).filter((consumer) => consumer.queue === queue);
          expect(consumers.length, worker.log()).toBe(2);
        }
        expect(rabbit.log()).not.toMatch(/precondition_failed/i);
      },
      lacks,
    );
  }
});

interface QueueTold {
  readonly name: string;
  readonly exchange: { readonly name: string; readonly type: string };
  readonly routing_key: string;
}

/** Where answers to remote control come: only while somebody waits. */
const REPLIES = 'reply.celery.pidbox';
