/** The examples that the README shows word for word, and those it links to. All of them are run by readme.test.ts. */
export const shown = [
  'tasks',
  'worker',
  'client',
  'rq-worker',
  'rq-client',
  'sidekiq-worker',
  'sidekiq-client',
  'resque-worker',
  'resque-client',
  'active-job-worker',
  'active-job-client',
  'move',
];

export const linked = ['workflow', 'frappe-worker', 'sidekiq-iterable', 'resque-scheduler', 'testing'];
