import type { Job } from '../../../protocols/job.ts';
import { saveMeta } from '../../../protocols/rq/jobs.ts';
import type { JobHash } from '../../../protocols/rq/message.ts';
import { dumps, loads, type SerializerName } from '../../../protocols/rq/serializers.ts';
import { ConfigError } from '../../errors.ts';
import type { RedisConnection } from '../../transports/redis.ts';

/** A handler's own job in RQ's terms, to read it and to store its progress: `get_current_job()` in Python. */
export interface CurrentJob {
  /** The hash as it was when the run began. */
  readonly hash: JobHash;
  /** The job's `meta`, as it was when the run began; empty if it cannot be read. */
  readonly meta: unknown;
  /** Store another `meta`, for example progress. Returns false when the job was deleted meanwhile. */
  saveMeta(meta: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): Promise<boolean>;
}

/** The run is stored on the job object, so that it survives middleware that copies the job. */
export const CURRENT: unique symbol = Symbol('jobglot.rq.current');

/** The current job of a handler, in RQ's terms. Throws ConfigError for a job of another system. */
export function currentJob(job: Job): CurrentJob {
  const own = (job as Job & { readonly [CURRENT]?: CurrentJob })[CURRENT];
  if (own === undefined) throw new ConfigError(`currentJob: '${job.task}' is no job of an RQ worker`);
  return own;
}

export class RunningJob implements CurrentJob {
  readonly hash: JobHash;
  readonly #serializer: SerializerName;
  readonly #redis: () => RedisConnection;

  constructor(hash: JobHash, serializer: SerializerName, redis: () => RedisConnection) {
    this.hash = hash;
    this.#serializer = serializer;
    this.#redis = redis;
  }

  get meta(): unknown {
    if (this.hash.meta === undefined) return {};
    try {
      return loads(this.hash.meta);
    } catch {
      return {};
    }
  }

  saveMeta(meta: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>): Promise<boolean> {
    return this.#redis().run(saveMeta(this.hash.id, dumps(this.#serializer, meta, 'meta')));
  }
}
