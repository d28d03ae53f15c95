import { rqConformance } from './rq.ts';

const GAPS = {
  'a value that cannot be written fails the job': 'RQ stores the words "Unserializable return value" as the value',
  'a handler that lets its soft limit pass through fails by that limit': 'an RQ job has one limit only',
  "a state of the handler's own is stored while it runs, and the result after it": 'RQ keeps no states of a handler',
  'an expired job is not run, and its result says so': 'Redis forgets an RQ job whose ttl has passed',
  'a job that expires while it waits for its time is not run': 'Redis forgets an RQ job whose ttl has passed',
  'quiet gives back what waits for its time': 'what waits for its time is in the schedule, and claimed by nobody',
  'a job acknowledged at its start that is stopped ends as one whose worker was lost':
    'RQ has no early acknowledgement',
  'bytes that are no message are set aside as they are, with the reason, and others run':
    'an id without a job is a job that has expired',
  'a time with an offset, by a clock of another zone, is the same time': 'RQ schedules by seconds since the epoch',
};

rqConformance('pickle', { ...GAPS, 'bytes come back as bytes': 'read by Python, in test/interop' });
rqConformance('json', { ...GAPS, 'bytes come back as bytes': 'the JSON serializer has no bytes' });
