import { PythonProcess, pythonOf } from '../../support/python-process.ts';

const HEADER = `
import json, os, sys
from datetime import datetime, timedelta, timezone
from redis import Redis
connection = Redis.from_url(os.environ['URL'])
def show(value):
    print(json.dumps(value, default=str))
`;

/** Runs some Python with RQ of an environment, a \`connection\` to Redis, and \`show\`; what it has shown. Rejects with what it wrote when it fails. */
export async function rqPython(environment: string, url: string, code: string): Promise<unknown> {
  const own = new PythonProcess(pythonOf(environment), ['-c', HEADER + code], { URL: url });
  let shown = '';
  own.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
  await own.gone;
  if (own.code !== 0) throw new Error(`Python ended ${own.code}:\n${own.log}\n${shown}`);
  const lines = shown.trim().split('\n');
  return lines[0] === '' ? undefined : (JSON.parse(lines.at(-1) as string) as unknown);
}

/** Runs all there is in these queues, in the process of the worker, and ends. */
export async function rqBurst(
  environment: string,
  url: string,
  queues: readonly string[],
  options = '',
): Promise<void> {
  await rqPython(
    environment,
    url,
    `
from rq import Queue, SimpleWorker
SimpleWorker([Queue(name, connection=connection) for name in ${JSON.stringify(queues)}], connection=connection).work(burst=True, logging_level='ERROR'${options})
`,
  );
}
