import type { Source } from '../source.ts';
import type { Registry } from '../task.ts';
import type { ResolvedSource, TryOutNote } from './system.ts';
import { maskUrl } from './url.ts';

/** What a worker says of itself before it starts: every value as it was resolved, and who set it. */
export interface Facts {
  readonly version: string;
  readonly node: string;
  readonly pid: number;
  readonly config: string | undefined;
  readonly app: string | undefined;
  readonly shutdownTimeoutMs: number;
  readonly logLevel: string;
  readonly sources: readonly SourceFacts[];
  readonly tryOut: TryOutNote | undefined;
}

export interface SourceFacts {
  readonly system: string;
  readonly name: string | undefined;
  readonly broker: string | undefined;
  readonly brokerFrom: string | undefined;
  readonly results: string | undefined;
  readonly resultsFrom: string | undefined;
  readonly queues: readonly string[];
  readonly concurrency: number;
  readonly prefetch: number;
  readonly tasks: readonly string[];
  /** What else was set: `acks late`, `time limit 60 s`. */
  readonly options: readonly string[];
}

/** Facts of one source; brokers and stores tell their own, masked, address. */
export function factsOf(source: Source, tasks: Registry, from: ResolvedSource['origin'] = {}): SourceFacts {
  const { broker, backend, nodename } = source as {
    readonly broker?: unknown;
    readonly backend?: unknown;
    readonly nodename?: unknown;
  };
  return {
    system: source.system,
    name: typeof nodename === 'string' ? nodename : undefined,
    broker: addressOf(broker) ?? from.address,
    brokerFrom: from.broker,
    results: addressOf(backend),
    resultsFrom: from.results,
    queues: source.queues,
    concurrency: source.concurrency,
    prefetch: source.prefetch,
    tasks: tasks.names(source.system),
    options: from.options ?? [],
  };
}

export function banner(facts: Facts): string {
  const lines = ['', ` jobglot ${facts.version}  (Node ${facts.node}, pid ${facts.pid})`];
  const row = (name: string, value: string, from?: string): void => {
    lines.push(`   ${name.padEnd(12)} ${value}${from === undefined ? '' : `   (${from})`}`);
  };
  for (const source of facts.sources) {
    lines.push('', ` ${source.name ?? source.system}`);
    if (source.broker !== undefined) row('broker', source.broker, source.brokerFrom);
    if (source.results !== undefined) row('results', source.results, source.resultsFrom);
    row('queues', source.queues.join(', '));
    row('concurrency', `${source.concurrency} at once, ${source.prefetch} more in hand`);
    if (source.options.length > 0) row('options', source.options.join(', '));
    if (source.tasks.length === 0) row('tasks', 'none: pass -A FILE');
    else {
      row('tasks', source.tasks[0] as string);
      for (const task of source.tasks.slice(1, MOST_TASKS)) row('', task);
      if (source.tasks.length > MOST_TASKS) row('', `and ${source.tasks.length - MOST_TASKS} more`);
    }
  }
  lines.push('');
  if (facts.config !== undefined) row('config', facts.config);
  if (facts.app !== undefined) row('app', facts.app);
  row('shutdown', `within ${facts.shutdownTimeoutMs / 1000} s`);
  row('log level', facts.logLevel);
  if (facts.tryOut !== undefined) lines.push('', ...facts.tryOut.words);
  return `${lines.join('\n')}\n\n`;
}

const MOST_TASKS = 30;

function addressOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('address' in value) || typeof value.address !== 'string')
    return undefined;
  return value.address === 'disabled://' ? 'not stored' : maskUrl(value.address);
}
