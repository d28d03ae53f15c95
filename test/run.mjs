/**
 * `npm test`: makes everything ready, then runs all parts of the suite.
 *
 *     npm test                              everything
 *     npm test -- unit golden               some parts: golden, unit, pickle, cli, conformance, interop, faults, examples
 *     npm test -- test/unit/retry.test.ts   some files, by a part of their path
 *     npm test -- unit -t 'empty queue'     flags are vitest's
 *
 * Only what the parts at hand need is set up. The last line is `N passed, N failed[, N skipped]`. Fails when a test failed,
 * when there was none, when a process was left behind, and, with CI=true, when a test was skipped without a reason in its
 * name: `[skipped: Redis 8 only]`.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { saveFacts } from './interop/support/facts.mjs';
import { parts, testFiles } from './parts.mjs';
import { hold } from './support/leash.mjs';
import {
  cache,
  ensureBuild,
  ensureChromium,
  ensureDependencies,
  ensureRabbit,
  ensureRedis,
  ensureRuby,
  ensureVenv,
  pythonEnvironments,
  root,
  SetupError,
} from './support/setup.mjs';

/** The files that need a real Ruby. */
const RUBY = /^test\/(interop|faults|examples)\/(ruby|sidekiq|resque|active-job)[^/]*\.test\.ts$/;

/** The files that need a browser. They run without one, and skip what needs it. */
const BROWSER = /^test\/interop\/(flower|rq-dashboard|sidekiq-web)\.test\.ts$/;

const args = process.argv.slice(2);
const named = args.filter((arg) => arg in parts);
const others = args.filter((arg) => !(arg in parts));

try {
  await setUp(named.length > 0 ? named : partsOf(others));
  process.exitCode = await runVitest();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`\n${error.message}\n\n`);
  process.stdout.write('0 passed, 1 failed\n');
  process.exitCode = 1;
}

/** @param {readonly string[]} chosen */
async function setUp(chosen) {
  const needs = new Set(chosen.flatMap((part) => parts[part].needs));
  await ensureDependencies();
  if (needs.has('build')) await ensureBuild();
  if (needs.has('redis')) process.env['JOBGLOT_REDIS_SERVER'] = await ensureRedis();
  if (needs.has('rabbit')) process.env['JOBGLOT_RABBITMQ_SERVER'] = await ensureRabbit();
  if (isNeededBy(RUBY)) process.env['JOBGLOT_RUBY'] = await ensureRuby();
  if (isNeededBy(BROWSER)) process.env['JOBGLOT_CHROMIUM'] = (await ensureChromium()) ?? '';
  for (const name of pythonEnvironments) if (needs.has(name)) await ensureVenv(name);
}

/** Ruby and the browser are set up where a file that will run needs them: its name says so. @param {RegExp} names */
function isNeededBy(names) {
  const filters = others.filter((arg) => !arg.startsWith('-')).map((path) => path.replace(/^\.\//, ''));
  const files = (named.length > 0 ? named : Object.keys(parts)).flatMap(testFiles);
  const matching = files.filter((file) => filters.some((path) => file.includes(path)));
  return (matching.length > 0 ? matching : files).some((file) => names.test(file));
}

/** The parts that have files for these filters; all of them without filters. @param {readonly string[]} filters */
function partsOf(filters) {
  const paths = filters.filter((arg) => !arg.startsWith('-')).map((path) => path.replace(/^\.\//, ''));
  const matching = Object.keys(parts).filter((part) =>
    testFiles(part).some((file) => paths.some((path) => file.includes(path))),
  );
  return matching.length > 0 ? matching : Object.keys(parts);
}

async function runVitest() {
  const report = join(cache, `test-report-${process.pid}.json`);
  const mark = `JOBGLOT_TEST_RUN=${randomUUID()}`;
  await mkdir(cache, { recursive: true });
  const vitest = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--config', join(root, 'test/vitest.config.ts')];
  const reporting = ['--passWithNoTests', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const chosen = [...named.flatMap((part) => ['--project', part]), ...others];
  const child = spawn(process.execPath, [...vitest, ...reporting, ...chosen], {
    cwd: root,
    stdio: 'inherit',
    detached: true,
    // The mark is how a process left behind is known to be ours.
    env: { ...process.env, [mark.split('=')[0]]: mark.split('=')[1] },
  });
  // A group of its own: when this process dies, vitest and its workers do, and what the workers started with them.
  hold(child, { group: true });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  const code = await new Promise((resolve) => child.once('close', (status, signal) => resolve(status ?? signal)));
  const left = await leftBehind(mark);
  const counts = read(report);
  await rm(report, { force: true });

  const problems = [];
  if (counts === undefined) problems.push(`vitest ended (${code}) without a report`);
  else if (code !== 0 && counts.failed === 0) problems.push(`vitest ended with ${code}: see the errors above`);
  for (const process of left) problems.push(`a process was left behind, and killed: ${process}`);
  const { passed, failed, skipped, undeclared } = counts ?? { passed: 0, failed: 0, skipped: 0, undeclared: [] };
  if (counts !== undefined && passed + failed === 0) problems.push('no test ran');
  if (process.env['CI'] === 'true') {
    for (const name of undeclared) problems.push(`skipped without a reason in its name: ${name}`);
  }
  for (const problem of problems) process.stdout.write(`✗ ${problem}\n`);
  // A problem beside the tests is a failure, and counts as one.
  const bad = failed + problems.length;
  process.stdout.write(`${passed} passed, ${bad} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
  return bad === 0 ? 0 : 1;
}

/** @param {string} report */
function read(report) {
  if (!existsSync(report)) return undefined;
  const whole = JSON.parse(readFileSync(report, 'utf8'));
  saveFacts(whole);
  const { testResults } = whole;
  const counts = { passed: 0, failed: 0, skipped: 0, undeclared: /** @type {string[]} */ ([]) };
  for (const file of testResults) {
    const before = counts.failed;
    for (const { status, fullName } of file.assertionResults) {
      if (status === 'passed') counts.passed++;
      else if (status === 'failed') counts.failed++;
      else {
        counts.skipped++;
        if (!/\[skipped: .+\]/.test(fullName)) counts.undeclared.push(`${relative(root, file.name)}: ${fullName}`);
      }
    }
    // A file that could not be loaded, or whose hooks failed, has no failed test to show for it.
    if (file.status === 'failed' && counts.failed === before) counts.failed++;
  }
  return counts;
}

/** Processes that carry our mark after all is over: killed, and named. Linux only; elsewhere nobody looks. @param {string} mark */
async function leftBehind(mark) {
  const find = () => {
    if (!existsSync('/proc/self/environ')) return [];
    return readdirSync('/proc').filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark);
      } catch {
        return false;
      }
    });
  };
  // What was told to stop may need a moment.
  for (const deadline = Date.now() + 3000; find().length > 0 && Date.now() < deadline;) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return find().map((pid) => {
    let command = pid;
    try {
      command = `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim()}`;
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself just now.
    }
    return command;
  });
}
