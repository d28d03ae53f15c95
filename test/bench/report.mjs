// Medians over rounds, and the same document for people and for machines.

/** The middle value; of two middle ones their mean. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** The value below which a share `p` of the samples lies (nearest rank). */
export function percentile(samples, p) {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * p) - 1))];
}

/** Every number a row has in all its rounds, as the median over the rounds. */
export function medians(rounds) {
  const row = {};
  for (const key of Object.keys(rounds[0])) {
    const values = rounds.map((round) => round[key]);
    if (values.every((value) => typeof value === 'number')) row[key] = short(median(values));
  }
  return row;
}

/** The medians of a row's rounds; latencies are pooled, since a p99 of one short round says little. */
export function summary({ system, variant }, rounds) {
  const good = rounds.filter((round) => round.error === undefined);
  const errors = rounds.filter((round) => round.error !== undefined).map((round) => round.error);
  const row = { system, variant, ...(errors.length > 0 ? { errors } : {}) };
  if (good.length === 0) return row;
  if (good[0].samples) {
    const samples = good.flatMap((round) => round.samples);
    const at = (p) => Number(percentile(samples, p).toFixed(3));
    return { ...row, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), samples: samples.length };
  }
  const rates = good.map((round) => round.jobsPerSecond);
  return {
    ...row,
    ...medians(good),
    spread: [Math.round(Math.min(...rates)), Math.round(Math.max(...rates))],
    ...(good[0].commands ? { commands: good[0].commands } : {}),
    ...(good[0].memory ? { memory: good[0].memory.map(rounded) } : {}),
  };
}

/** One run in a few words, for progress. */
export function brief({ error, jobsPerSecond, cpuMicrosPerJob, samples }) {
  if (error !== undefined) return `FAILED: ${error}`;
  if (samples) return `p50 ${percentile(samples, 0.5).toFixed(2)} ms, p99 ${percentile(samples, 0.99).toFixed(2)} ms`;
  return `${Math.round(jobsPerSecond)} jobs/s, ${cpuMicrosPerJob.toFixed(1)} us CPU a job`;
}

/** One number against its target, if it has one. `atMost` turns the comparison round. */
export function against(value, target, { atMost = false, unit = 'x' } = {}) {
  if (value === undefined || Number.isNaN(value)) return { value: null, target, atMost, unit, met: null };
  return {
    value: short(value),
    target,
    atMost,
    unit,
    met: target === null ? null : atMost ? value <= target : value >= target,
  };
}

/** The document as text: one table of rows, one of ratios. */
export function asText({ bench, machine, rows, ratios }) {
  const head = Object.entries(machine).map(([key, value]) => `${key} ${value}`);
  const columns = [
    ['system', (row) => row.system],
    ['variant', (row) => row.variant],
    ['jobs/s', (row) => thousands(row.jobsPerSecond)],
    ['rounds', (row) => (row.spread ? `${thousands(row.spread[0])}-${thousands(row.spread[1])}` : '')],
    ['CPU us/job', (row) => row.cpuMicrosPerJob ?? ''],
    ['broker us/job', (row) => row.brokerCpuMicrosPerJob ?? ''],
    ['commands/job', (row) => row.commandsPerJob ?? ''],
    ['p50 ms', (row) => row.p50Ms ?? ''],
    ['p95 ms', (row) => row.p95Ms ?? ''],
    ['p99 ms', (row) => row.p99Ms ?? ''],
    ['PSS MiB', (row) => row.pssMiB ?? ''],
    ['RSS MiB', (row) => row.rssMiB ?? ''],
  ];
  const shown = columns.filter(([, cell]) => rows.some((row) => cell(row) !== ''));
  const wanted = Object.entries(ratios).map(([name, { value, target, atMost, unit, met }]) => [
    name,
    value === null ? '-' : `${value} ${unit}`,
    target === null ? 'none' : `${atMost ? '<=' : '>='} ${target}`,
    met === null ? '' : met ? 'yes' : 'NO',
  ]);
  return [
    `${bench}: ${head.join(', ')}`,
    table(
      shown.map(([title]) => title),
      rows.map((row) => shown.map(([, cell]) => String(cell(row)))),
    ),
    table(['ours against', 'measured', 'target', 'met'], wanted),
  ].join('\n\n');
}

function table(titles, lines) {
  const widths = titles.map((title, at) => Math.max(title.length, ...lines.map((line) => line[at].length)));
  const numeric = titles.map((_, at) => lines.every((line) => line[at] === '' || /^[\d,.-]/.test(line[at])));
  const draw = (line) =>
    `| ${line.map((cell, at) => (numeric[at] ? cell.padStart(widths[at]) : cell.padEnd(widths[at]))).join(' | ')} |`;
  const rule = `|${widths.map((width, at) => (numeric[at] ? `${'-'.repeat(width + 1)}:` : '-'.repeat(width + 2))).join('|')}|`;
  return [draw(titles), rule, ...lines.map(draw)].join('\n');
}

function thousands(value) {
  return value === undefined ? '' : Math.round(value).toLocaleString('en-US');
}

/** Three digits are all a noisy machine can tell. */
function short(value) {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

function rounded({ jobs, pssMiB, rssMiB }) {
  return { jobs, pssMiB: Math.round(pssMiB), rssMiB: Math.round(rssMiB) };
}
