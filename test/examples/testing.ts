// testing.ts: tests of your own without a broker; arguments and results are encoded and decoded as the system's are
import assert from 'node:assert/strict';
import { Tasks } from 'jobglot';
import { inline, recorder } from 'jobglot/testing';
import { add } from './tasks.ts';

// What your code would send: hand it the recorder in place of a client.
const tape = recorder();
await tape.enqueue(add, { args: [2, 3], queue: 'node', countdown: 60 });
assert.deepEqual(tape.enqueued(add), [{ args: [2, 3], kwargs: {}, queue: 'node', countdown: 60 }]);

// What your handlers make of it: each runs as it is enqueued, with its retries and links.
const now = inline(new Tasks().handle(add, ({ args: [x, y] }) => x + y));
const sum = await now.enqueue(add, { args: [2, 3] });
assert.equal(await sum.get(), 5);

// The same for the other systems: each recorder has the calls, the options, the receipts and the errors of its client.
const sidekiqTape = recorder('sidekiq');
await sidekiqTape.enqueue(add, { args: [2, 3], in: 60 });
await assert.rejects(sidekiqTape.enqueue('Add', { args: [new Date()] }), { name: 'WireError' });
assert.deepEqual(sidekiqTape.enqueued(add), [{ args: [2, 3], kwargs: {}, queue: 'default', in: 60 }]);
console.log('all of it holds');
