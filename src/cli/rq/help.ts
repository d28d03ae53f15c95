export const ENQUEUE_HELP: string = `
Numbers go as they are written: :1.0 is a float for Python, and large integers stay whole.

Examples:
  jobglot enqueue rq app.tasks.add :2 :3 --wait 10 --url redis://localhost
  jobglot enqueue rq app.tasks.resize a.png width:=640 'box%=(0, 0, 10, 10)' -q images --retry-max 3 --retry-interval 60`;

export const DECODE_HELP: string = `
Examples:
  redis-cli --no-raw hgetall rq:job:3f1c… | jobglot decode rq
  redis-cli --raw hget rq:job:3f1c… data | jobglot decode rq
  redis-cli --no-raw xrevrange rq:results:3f1c… + - count 1 | jobglot decode rq`;
