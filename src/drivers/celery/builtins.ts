import type { Publication } from '../../../protocols/celery/message.ts';
import type { CeleryPolicy } from '../../../protocols/celery/lifecycle.ts';
import type { Publisher } from '../../../protocols/celery/signature.ts';
import type { Registration, Registry } from '../../task.ts';
import { defineTask, Tasks } from '../../task.ts';
import type { ResultBackend } from './broker.ts';

/** What the tasks that Celery itself brings need of their worker. */
export interface BuiltinHost {
  readonly backend: ResultBackend;
  publish(publications: readonly Publication[]): Promise<void>;
  find(task: string): Registration | undefined;
  publisher(): Publisher;
  policy(): CeleryPolicy;
}

/** The tasks that may arrive on any queue. Source: celery/app/builtins.py (5.6). */
export function builtins(host: BuiltinHost): Registry {
  return new Tasks()
    .handle(defineTask('celery.backend_cleanup'), () => host.backend.cleanup())
    .handle(defineTask<(...args: unknown[]) => unknown, { index?: number | null }>('celery.accumulate'), ({ args, kwargs: { index } }) =>
      index === undefined || index === null ? args : args[index],
    );
}
