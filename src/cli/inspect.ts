import * as json from '../../protocols/formats/json.ts';
import { pythonRepr } from '../../protocols/formats/python-repr.ts';
import { ConfigError } from '../errors.ts';
import type {
  InspectedJob,
  Inspector,
  JobFilter,
  JobPage,
  Overview,
  QueueInfo,
  ScheduleInfo,
  WorkerInfo,
} from '../inspector.ts';
import { render } from './decode.ts';
import { EXIT } from './exit.ts';
import { oneLine, seconds } from './printable.ts';
import { losslessly, type Seen, show } from './show.ts';
import type { Output } from './system.ts';

/** What `jobglot inspect SYSTEM` shows of any inspector. */
export const VIEWS: readonly ['overview', 'queues', 'jobs', 'job', 'workers', 'schedules'] = [
  'overview',
  'queues',
  'jobs',
  'job',
  'workers',
  'schedules',
];
export type View = (typeof VIEWS)[number];

/** The flags of those commands, as commander names them. */
export interface InspectorFlags {
  readonly queue?: string;
  readonly limit?: number;
  readonly cursor?: string;
  readonly task?: string;
  readonly text?: string;
  readonly json?: boolean;
}

/**
 * Prints one view of an inspector. Resolves to the exit code: 1 where `job` names a job that is not there. Rejects with ConfigError for a set that the
 * system does not have.
 */
export async function inspect(
  inspector: Inspector,
  view: View,
  name: string | undefined,
  flags: InspectorFlags,
  { out, err }: Output,
): Promise<number> {
  switch (view) {
    case 'overview':
      return show(overviewSeen(await inspector.overview(), inspector), flags.json, out);
    case 'queues':
      return show(queuesSeen(await inspector.queues()), flags.json, out);
    case 'workers':
      return show(workersSeen(await inspector.workers(), Date.now()), flags.json, out);
    case 'schedules':
      return show(schedulesSeen(await inspector.schedules()), flags.json, out);
    case 'jobs':
      return show(pageSeen(await page(inspector, name, flags), Date.now()), flags.json, out);
    case 'job': {
      if (name === undefined) throw new ConfigError('inspect: job needs an id');
      const job = await inspector.job(name);
      if (job !== undefined) return show(jobSeen(job), flags.json, out);
      err(`there is no job ${oneLine(name)}\n`);
      return EXIT.failure;
    }
  }
}

/** `--task` and `--text` as a filter; undefined where neither is given. */
export function filterOf({ task, text }: { readonly task?: string; readonly text?: string }): JobFilter | undefined {
  if (task === undefined && text === undefined) return undefined;
  return { ...(task === undefined ? {} : { task }), ...(text === undefined ? {} : { text }) };
}

/** Throws ConfigError, which names the sets there are, unless `set` is one of them. */
export function checkSet(inspector: Inspector, set: string | undefined): string {
  if (set !== undefined && inspector.sets.some((one) => one.name === set)) return set;
  const known = inspector.sets.map((one) => one.name).join(', ');
  throw new ConfigError(
    set === undefined
      ? `inspect: jobs of which set? There are ${known}`
      : `${inspector.system} has no set '${set}'; there are ${known}`,
  );
}

function page(inspector: Inspector, name: string | undefined, flags: InspectorFlags): Promise<JobPage> {
  const set = checkSet(inspector, name);
  const filter = filterOf(flags);
  return inspector.jobs(set, {
    ...(flags.queue === undefined ? {} : { queue: flags.queue }),
    ...(flags.limit === undefined ? {} : { limit: flags.limit }),
    ...(flags.cursor === undefined ? {} : { cursor: flags.cursor }),
    ...(filter === undefined ? {} : { filter }),
  });
}

function overviewSeen(overview: Overview, { sets }: Inspector): Seen {
  const { counts, workers, busy, processed, failed } = overview;
  const rows = sets.filter(({ name }) => Object.hasOwn(counts, name)).map(({ name }) => [name, String(counts[name])]);
  rows.push(['workers', `${workers}, ${busy} busy`]);
  if (processed !== undefined)
    rows.push(['processed', `${processed}${failed === undefined ? '' : `, ${failed} failed`}`]);
  return { lines: columns(rows), plain: overview };
}

function queuesSeen(queues: readonly QueueInfo[]): Seen {
  const rows = queues.map(({ name, size, latencyMs, paused, consumers }) => [
    name,
    `${size} ${size === 1 ? 'job' : 'jobs'}`,
    [
      ...(latencyMs === undefined ? [] : [`the oldest has waited ${seconds(latencyMs)}`]),
      ...(consumers === undefined ? [] : [`${consumers} ${consumers === 1 ? 'consumer' : 'consumers'}`]),
      ...(paused ? ['paused'] : []),
    ].join(', '),
  ]);
  return { lines: rows.length === 0 ? ['no queues'] : columns(rows), plain: queues };
}

function workersSeen(workers: readonly WorkerInfo[], now: number): Seen {
  const lines = workers.flatMap((worker) => {
    const { id, state, language, version, hostname, pid, queues, concurrency, seenAt, running } = worker;
    const busy =
      concurrency === undefined ? `${running.length} running` : `${running.length} of ${concurrency} running`;
    const facts = [
      state,
      busy,
      ...(language === undefined && version === undefined ? [] : [[language, version].filter(Boolean).join(', ')]),
      ...(hostname === undefined ? [] : [`${hostname}${pid === undefined ? '' : ` ${pid}`}`]),
      ...(seenAt === undefined ? [] : [`seen ${seconds(Math.max(0, now - seenAt.getTime()))} ago`]),
      `queues ${queues.join(', ')}`,
    ];
    return [
      oneLine(`${id}: ${facts.join('; ')}`),
      ...running.map(({ id: job, task, queue, startedAt }) => {
        const since = startedAt === undefined ? '' : ` for ${seconds(Math.max(0, now - startedAt.getTime()))}`;
        return oneLine(`  ${task ?? '?'} ${job ?? '?'}${queue === undefined ? '' : ` of ${queue}`}${since}`);
      }),
    ];
  });
  return { lines: lines.length === 0 ? ['no workers'] : lines, plain: workers };
}

function schedulesSeen(schedules: readonly ScheduleInfo[]): Seen {
  const rows = schedules.map(({ name, kind, task, queue, when, enabled, lastRunAt, nextRunAt }) => [
    name,
    kind,
    when,
    `${task ?? '?'}${queue === undefined ? '' : ` of ${queue}`}`,
    [
      ...(enabled ? [] : ['off']),
      ...(lastRunAt === undefined ? [] : [`last ${time(lastRunAt)}`]),
      ...(nextRunAt === undefined ? [] : [`next ${time(nextRunAt)}`]),
    ].join(', '),
  ]);
  return { lines: rows.length === 0 ? ['no schedules'] : columns(rows), plain: schedules };
}

function pageSeen({ jobs, cursor, total, cut }: JobPage, now: number): Seen {
  const lines = jobs.map((job) => oneLine(jobLine(job, now)));
  if (lines.length === 0) lines.push(cut ? 'none so far' : 'none');
  const more = cursor === undefined ? '' : ` --cursor ${cursor}`;
  if (cut) lines.push(`the search ended at its bound; go on with${more}`);
  else if (cursor !== undefined) lines.push(`more with${more}${total === undefined ? '' : `; ${total} in all`}`);
  return { lines, plain: { jobs: jobs.map(plainJob), cursor: cursor ?? null, total: total ?? null, cut } };
}

function jobLine(job: InspectedJob, now: number): string {
  const { id, task, queue, state, attempts, error } = job;
  const facts = [
    `${id} ${task ?? '(cannot be read)'}${argumentsText(job)}`,
    ...(queue === undefined ? [] : [`of ${queue}`]),
    state,
    ...(attempts === undefined || attempts < 2 ? [] : [`run ${attempts} times`]),
    ...when(job, now),
  ];
  const why = error === undefined ? '' : `; ${error.type}: ${error.message.split('\n')[0]}`;
  return `${facts.join(', ')}${why}`;
}

/** The one time that matters most for a job of this state. */
function when({ dueAt, startedAt, endedAt, enqueuedAt }: InspectedJob, now: number): readonly string[] {
  if (dueAt !== undefined) return [`due ${time(dueAt)}`];
  if (endedAt !== undefined) return [`ended ${time(endedAt)}`];
  if (startedAt !== undefined) return [`for ${seconds(Math.max(0, now - startedAt.getTime()))}`];
  return enqueuedAt === undefined ? [] : [`since ${time(enqueuedAt)}`];
}

function argumentsText({ args, kwargs }: InspectedJob): string {
  if (args === undefined) return '';
  const named = Object.entries(kwargs ?? {}).map(([name, value]) => `${name}=${pythonRepr(value, 40)}`);
  const text = [...args.map((one) => pythonRepr(one, 40)), ...named].join(', ');
  return `(${text.length > 120 ? `${text.slice(0, 120)}…` : text})`;
}

function jobSeen(job: InspectedJob): Seen {
  const { error, result, links, explanation } = job;
  const facts: (readonly [string, unknown])[] = [
    ['id', job.id],
    ['set', job.set],
    ['state', job.state],
    ['task', job.task],
    ['queue', job.queue],
    ['attempts', job.attempts],
    ['enqueued', job.enqueuedAt],
    ['due', job.dueAt],
    ['started', job.startedAt],
    ['ended', job.endedAt],
    ['worker', job.worker],
    ...Object.entries(links).map(([name, of]) => [name, Array.isArray(of) ? of.join(', ') : of] as const),
  ];
  const lines = columns(
    facts
      .filter(([, value]) => value !== undefined && value !== '')
      .map(([name, value]) => [name, value instanceof Date ? time(value) : String(value)]),
  ).slice();
  if (result !== undefined) lines.push('', `result: ${oneLine(pythonRepr(result, 10_000))}`);
  if (error !== undefined)
    lines.push('', oneLine(`${error.type}: ${error.message}`), ...(error.traceback?.trimEnd().split('\n') ?? []));
  if (explanation !== undefined) lines.push('', ...render(explanation).trimEnd().split('\n'));
  return { lines, plain: plainJob(job) };
}

/** A job for `--json`: what JSON has no form for is a text. */
function plainJob(job: InspectedJob): unknown {
  return { ...job, args: writable(job.args), kwargs: writable(job.kwargs), result: writable(job.result) };
}

/** The value itself, or its text where JSON cannot hold it: it contains itself, or has keys that are no texts. */
function writable(value: unknown): unknown {
  try {
    json.stringify(value, { replace: losslessly });
    return value;
  } catch {
    return pythonRepr(value);
  }
}

function time(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'at no time' : date.toISOString();
}

/** Cells below each other. Control characters are shown, so that no cell has lines of its own. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const shown = rows.map((row) => row.map(oneLine));
  const widths = (shown[0] ?? []).map((_, at) => Math.min(40, Math.max(...shown.map((row) => (row[at] ?? '').length))));
  return shown.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] as number))
      .join('  ')
      .trimEnd(),
  );
}
