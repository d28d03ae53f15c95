/**
 * How versions of Sidekiq differ on the wire, as data. Which dialect a process speaks is what the others in its fleet can read:
 * `dialectOf(['7.3.10', '8.1.7'])` is that of the oldest.
 *
 * | from | what changes |
 * |---|---|
 * | 6.4 | `:workers`, beat every 5 s, seconds as floats, base64 with newlines |
 * | 6.5 | `:work`; `process_cleanup` |
 * | 7.0 | capsules, metrics; beat every 10 s; no namespace; counters that are zero are not written |
 * | 7.1 | `enqueued_at` is absent while a job is scheduled; `retry_for` |
 * | 7.2 | strict base64 |
 * | 8.0 | milliseconds; metrics by other keys; another jitter; `Sidekiq::ActiveJob::Wrapper` |
 * | 8.1 | `concurrency` is a field of the process; `retry_for` replaces the count |
 */
export interface Dialect {
  /** What `info.version` of our processes says: `8.1.0`. */
  readonly version: string;
  /** Times in job hashes: seconds as a float, or milliseconds as an integer. Floats are read by every version. */
  readonly timestamps: 'seconds' | 'milliseconds';
  /** Under which names running work is written. */
  readonly work: readonly ('work' | 'workers')[];
  readonly metrics: readonly ('7' | '8')[];
  /** `narrow`: rand(10)·(count+1). `wide`: rand(10·(count+1)). */
  readonly jitter: 'narrow' | 'wide';
  /** Whether `retry_for` is unknown, counts beside the number of retries, or instead of it. */
  readonly retryFor: 'ignored' | 'both' | 'instead';
  readonly base64: 'mime' | 'strict';
  /** Seconds between two beats. */
  readonly beatSeconds: number;
  /** Counters are written with every beat, zeros too, together with the work (up to 6.5). */
  readonly countsZeros: boolean;
  /** The wrapper class of Active Job that every process of the fleet can run. */
  readonly activeJobWrapper: string;
  /** From ten processes on, each polls at a random time of the interval, or of twice the interval (8.0.10). */
  readonly pollSpread: 1 | 2;
}

/** The class under which Rails enqueues for Sidekiq; newer Sidekiqs know both. */
export const SIDEKIQ_ADAPTER_WRAPPER = 'ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper';

/** The class under which Sidekiq's own adapter for Active Job enqueues. */
export const SIDEKIQ_WRAPPER = 'Sidekiq::ActiveJob::Wrapper';

/** Dialects that can be set by hand; any version text is understood too. */
export type DialectName = '6.4' | '6.5' | '7.0' | '7.3' | '8.0' | '8.1' | (string & {});

/** The dialect of one version: `'7.3'`, `'8.1.7'`. */
export function dialect(version: DialectName): Dialect {
  const v = number(version);
  const eight = v >= at(8, 0);
  return {
    version: /^\d+\.\d+$/.test(version) ? `${version}.0` : version,
    timestamps: eight ? 'milliseconds' : 'seconds',
    work: v >= at(6, 5) ? ['work'] : ['workers'],
    metrics: eight ? ['8'] : v >= at(7, 0) ? ['7'] : [],
    jitter: eight ? 'wide' : 'narrow',
    retryFor: v >= at(8, 1) ? 'instead' : v >= at(7, 1, 3) ? 'both' : 'ignored',
    base64: v >= at(7, 2, 3) ? 'strict' : 'mime',
    beatSeconds: v >= at(7, 0) ? 10 : 5,
    countsZeros: v < at(7, 0),
    activeJobWrapper: eight ? SIDEKIQ_WRAPPER : SIDEKIQ_ADAPTER_WRAPPER,
    pollSpread: v >= at(8, 0, 10) ? 2 : 1,
  };
}

/** Where no Ruby process is seen: what every version reads, and the rules of today's Sidekiq. */
export const NEUTRAL: Dialect = {
  ...dialect('8.1'),
  timestamps: 'seconds',
  work: ['work', 'workers'],
  activeJobWrapper: SIDEKIQ_ADAPTER_WRAPPER,
};

/** The dialect of a fleet: that of its oldest member. A process up to 6.x tells no version: pass undefined for it. */
export function dialectOf(versions: readonly (string | undefined)[]): Dialect {
  let oldest: string | undefined;
  let newest = 0;
  for (const version of versions) {
    const one = version !== undefined && /^\d+\.\d+/.test(version) ? version : '6.4';
    if (oldest === undefined || number(one) < number(oldest)) oldest = one;
    newest = Math.max(newest, number(one));
  }
  if (oldest === undefined) return NEUTRAL;
  const spoken = dialect(oldest);
  // 6.4 and 6.5 cannot be told apart from outside, and a fleet may be between two versions: each page finds its own.
  return {
    ...spoken,
    work: number(oldest) < at(7, 0) ? ['work', 'workers'] : spoken.work,
    metrics: newest >= at(8, 0) ? [...new Set([...spoken.metrics, '8' as const])] : spoken.metrics,
  };
}

function number(version: string): number {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map((part) => Number.parseInt(part, 10) || 0);
  return at(major, minor, patch);
}

function at(major: number, minor: number, patch = 0): number {
  return major * 1_000_000 + minor * 1_000 + patch;
}
