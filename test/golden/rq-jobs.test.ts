import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import * as json from '../../protocols/formats/json.ts';
import {
  inflate,
  type JobHash,
  loads,
  readCall,
  readJob,
  readResult,
  readReturnValue,
  sniff,
  writeCall,
  writeJob,
  writeResult,
} from '../../protocols/rq/index.ts';
import { flatOf, jobsOf, loadRq, RQ_VERSIONS, savesOf } from './rq-support.ts';
import { shown } from './shown.ts';

/** What RQ writes is read as it is meant, and written again as it was. */

const EXACT = { exact: true } as const;
const TYPES = ['successful', 'failed', 'stopped', 'retried', 'max_retries_exceeded'];

/** A list in place of the tuple of arguments is read, and not told apart: what is in `data` is never written again. */
const A_LIST = /args=\[/;

for (const version of RQ_VERSIONS) {
  const fixtures = loadRq(version, '').filter(({ after, wire }) => jobsOf(after).size + savesOf(wire).length > 0);
  describe.each(fixtures.map((fixture) => [fixture.name, fixture] as const))(
    `RQ ${version}: %s`,
    (_, { about, after, means, wire }) => {
      const jobs = jobsOf(after);

      if (jobs.size > 0) {
        it(`${about.split('\n').at(-1)} is read as it is meant`, () => {
          for (const [id, flat] of jobs) {
            const read = readJob(id, flat);
            if (read === undefined) throw new Error('no job');
            expect(read.broken).toEqual([]);
            expect(read.job.unknown).toBeUndefined();
            const { call, meta, result, ...fields } = means.jobs[id] as Record<string, unknown>;
            expect(inWordsOfTheFixture(read.job)).toEqual(fields);
            if (call !== null) expect(callOf(read.job.data)).toEqual(call);
            else expect(() => readCall(read.job.data)).toThrow(expect.objectContaining({ code: 'undecodable' }));
            expect(read.job.meta && shown(loads(read.job.meta, EXACT))).toEqual(meta);
            expect(read.job.result && shown(loads(read.job.result, EXACT))).toEqual(result);
          }
        });
      }

      const saves = savesOf(wire);
      if (saves.length > 0) {
        it('is written as it was: the same fields, in the same order', () => {
          for (const { id, flat } of saves) {
            const written = writeJob(jobOf(id, flat)).map((word) => Buffer.from(word));
            // Older versions have fewer fields, and say it is empty what they leave out later.
            if (version === '2.10' || version === '2.12') expect(texts(written)).toEqual(texts(flat));
            else
              expect(pairs(written)).toEqual(expect.arrayContaining(pairs(flat).filter(([, value]) => value !== '')));
          }
        });

        it('has a call of the same bytes', () => {
          for (const { id, flat } of saves) {
            const { data } = jobOf(id, flat);
            if (means.jobs[id]?.call == null || A_LIST.test(about)) continue;
            const theirs = inflate(data);
            const ours = inflate(writeCall(sniff(theirs), readCall(data, EXACT)));
            // Python writes the newest protocol it has, we the oldest that has all we need; these differ in their number alone.
            if (sniff(theirs) === 'pickle') theirs[1] = 4;
            expect(ours.toString('latin1')).toBe(theirs.toString('latin1'));
          }
        });
      }

      const streams = Object.entries(after).filter(([key]) => key.startsWith('rq:results:'));
      if (streams.length > 0) {
        it('has results that are read as they are meant, and written as they were', () => {
          for (const [key, stream] of streams) {
            if (stream.type !== 'stream') throw new Error(`${key} is a ${stream.type}`);
            const entries = stream.value.map(flatOf);
            const read = entries.map((flat) => readResult('1795219285636-0', flat));
            expect(
              read.map((entry) => ({
                type: TYPES.indexOf(entry.type) + 1,
                ...(entry.workerName === '' ? {} : { workerName: entry.workerName }),
                ...(entry.executionId === undefined ? {} : { executionId: entry.executionId }),
                ...(entry.startedAt === undefined ? {} : { startedAt: entry.startedAt / 1000 }),
                ...(entry.endedAt === undefined ? {} : { endedAt: entry.endedAt / 1000 }),
                ...(entry.returnValue === undefined ? {} : { returnValue: shown(readReturnValue(entry, EXACT)) }),
                ...(entry.excString === undefined ? {} : { excString: entry.excString }),
              })),
            ).toEqual(means.results?.[key.slice('rq:results:'.length)]);
            const written = read.map((entry) => writeResult(entry).map((word) => Buffer.from(word)));
            // RQ before 2.5 does not say which worker it was.
            const named = (flat: readonly Buffer[]): unknown =>
              pairs(flat)
                .filter(([name, value]) => name !== 'worker_name' || value !== '')
                .map(([name, value]) => [name, name === 'exc_string' ? inflated(value) : value]);
            expect(written.map(named)).toEqual(entries.map(named));
          }
        });
      }
    },
  );
}

function jobOf(id: string, flat: readonly Buffer[]): JobHash {
  const read = readJob(id, flat);
  if (read === undefined) throw new Error(`${id} is no job`);
  return read.job;
}

function callOf(data: Uint8Array): unknown {
  const call = readCall(data, EXACT);
  return {
    serializer: sniff(inflate(data)),
    function: call.funcName,
    instance: shown(call.instance),
    args: shown(call.args),
    kwargs: shown(new Map(Object.entries(call.kwargs))),
  };
}

/** The hash as fixtures/capture/rq/meaning.py tells it. */
function inWordsOfTheFixture(job: JobHash): Record<string, unknown> {
  const { id: _id, data: _data, meta: _meta, result: _result, excInfo, webhooks, ...fields } = job;
  const names: Readonly<Record<string, string>> = {
    successCallbackName: 'successCallback',
    failureCallbackName: 'failureCallback',
    stoppedCallbackName: 'stoppedCallback',
  };
  const plain = Object.entries(fields).map(([name, value]) => [
    names[name] ?? name,
    value instanceof Date ? (value as Date & { iso: string }).iso : value,
  ]);
  return {
    ...(Object.fromEntries(plain) as Record<string, unknown>),
    ...(excInfo === undefined ? {} : { excInfo: inflate(excInfo).toString() }),
    ...(webhooks === undefined ? {} : { webhooks: json.parse(webhooks) }),
  };
}

function inflated(base64: string): string {
  return inflate(Buffer.from(base64, 'base64')).toString();
}

/** Deflated bytes are compared inflated: how a deflate is made is left to who makes it. */
function texts(flat: readonly Buffer[]): readonly string[] {
  return flat.map((bytes, at) => {
    const name = at % 2 === 1 ? flat[at - 1]?.toString() : '';
    return (name === 'data' || name === 'exc_info' ? inflate(bytes) : bytes).toString('latin1');
  });
}

function pairs(flat: readonly Buffer[]): readonly (readonly [string, string])[] {
  const all = texts(flat);
  return all.flatMap((name, at) => (at % 2 === 0 ? [[name, all[at + 1] ?? ''] as const] : []));
}
