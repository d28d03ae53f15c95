import { setTimeout as sleep } from 'node:timers/promises';
import { defineTask, Discard, Retry, Tasks } from '../../../src/index.ts';

/** For children of the tests: each job in a process of its own. */
export const tasks = new Tasks()
  .handle(defineTask('PidJob'), () => process.pid)
  .handle(defineTask('TitleJob'), () => process.title)
  .handle(defineTask('FailJob'), () => {
    throw new RangeError('in the child');
  })
  .handle(defineTask('KillJob'), () => process.kill(process.pid, 'SIGKILL'))
  .handle(defineTask('NullJob'), () => {
    process.send?.(null);
    return 'sent';
  })
  .handle(defineTask('ExitJob'), () => process.exit(3))
  .handle(defineTask('DiscardJob'), () => {
    throw new Discard('not wanted');
  })
  .handle(defineTask('RetryJob'), ({ attempt }) => {
    if (attempt === 1) throw new Retry({ delayMs: 0 });
    return attempt;
  })
  .handle(
    defineTask('SpinJob'),
    () => {
      for (;;);
    },
    { timeoutMs: 1_000 },
  )
  .handle(defineTask('HangJob'), (_job, { signal }) => sleep(60_000, undefined, { signal }));
