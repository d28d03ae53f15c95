/** What the fields of a message and of a result mean, in words: for `explain`. */

export const HEADERS: Readonly<Record<string, string>> = {
  lang: 'the language of the sender; no worker acts on it',
  task: 'the name of the task; its presence makes this protocol 2',
  id: "the task's id; its result is stored under it",
  shadow: 'the name that logs and events show instead',
  eta: 'do not run before this time',
  expires: 'do not run after this time',
  group: 'the group it is a member of',
  group_index: 'its place in the group, by which results of a chord are ordered',
  retries: 'how often it was retried so far',
  timelimit: '[hard, soft] limits in seconds, in this order',
  root_id: 'the task that all of this began with',
  parent_id: 'the task that sent this one',
  argsrepr: 'the arguments as logs and events show them; not used to call the task',
  kwargsrepr: 'the keyword arguments as logs and events show them',
  origin: 'the process that sent it: gen<pid>@<host>',
  ignore_result: 'true: no result is stored',
  replaced_task_nesting: 'how often a task replaced itself on the way here',
  stamped_headers: 'the names of the stamps',
  stamps: 'the values of the stamps',
  compression: 'how the body is compressed',
  redelivered: 'it was delivered before, and came back',
};

export const PROPERTIES: Readonly<Record<string, string>> = {
  correlation_id: 'the task id once more; results by rpc:// are matched by it',
  reply_to: 'where results by rpc:// go; empty for none',
  delivery_mode: '2: kept on disk where the broker keeps messages; 1: not',
  delivery_info: 'how it was routed',
  priority: '0 to 9; 0 runs first on Redis, last on RabbitMQ',
  body_encoding: 'how the body is written inside this envelope',
  delivery_tag: "the sender's id for this delivery; workers claim it under this name",
  expiration: 'milliseconds until RabbitMQ drops it; Redis ignores it',
};

export const DELIVERY_INFO: Readonly<Record<string, string>> = {
  exchange: "the exchange; empty for the default one, where the routing key is the queue's name",
  routing_key: 'the routing key',
  redelivered: 'it came back from a worker',
  priority: 'the priority it was consumed at',
};

export const EMBED: Readonly<Record<string, string>> = {
  callbacks: 'links: called with the result when it succeeds',
  errbacks: 'error links: called when it fails',
  chain: 'the steps after it, in reverse: the next one is the last',
  chord: 'the body of the chord it is a header member of',
};

export const PROTOCOL_1: Readonly<Record<string, string>> = {
  task: 'the name of the task',
  args: 'the positional arguments',
  kwargs: 'the keyword arguments',
  utc: 'whether eta and expires without an offset are UTC',
  callbacks: 'links: called with the result when it succeeds',
  errbacks: 'error links: called when it fails',
  taskset: 'the group it is a member of, by its old name',
  chord: 'the body of the chord it is a header member of',
};

export const META: Readonly<Record<string, string>> = {
  status: 'the state of the task',
  result: 'the return value, or the exception',
  traceback: "the traceback's text",
  children: 'the tasks it sent, as [[id, parent], children of a group]',
  date_done: 'when it ended',
  group_id: 'the group it is a member of',
  parent_id: 'the task that sent it',
  task_id: "the task's id",
  name: 'the name of the task (result_extended)',
  args: 'the positional arguments (result_extended)',
  kwargs: 'the keyword arguments (result_extended)',
  worker: 'the worker that ran it (result_extended)',
  retries: 'how often it was retried (result_extended)',
  queue: 'the queue it came from (result_extended)',
  stamped_headers: 'the names of the stamps',
};
