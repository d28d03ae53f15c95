import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import { exceptionOf } from '../../../protocols/celery/outcome/exceptions.ts';
import {
  decodeGroupMeta,
  decodeMeta,
  encodeMeta,
  encodeSuccess,
  groupMeta,
  groupTuple,
  readTuple,
  type ResultMeta,
  resultTuple,
} from '../../../protocols/celery/outcome/result.ts';
import { WireError } from '../../../protocols/errors.ts';
import { encode as encodePickle, PyGlobal, PyObject, Tuple } from '../../../protocols/formats/pickle/index.ts';
import { DateTime, Decimal, isoText, Numeral, Uuid } from '../../../protocols/formats/values.ts';

const DONE = '2026-11-21T03:18:12.963965+00:00';
const SUCCESS: ResultMeta = {
  status: 'SUCCESS',
  result: 1,
  traceback: null,
  children: [],
  dateDone: DONE,
  taskId: 't-1',
};

// Stored by Celery 5.6.3 (kombu 5.6.2).
const RICH =
  '{"status": "SUCCESS", "result": {"d": {"__type__": "datetime", "__value__": "2026-01-02T03:04:05.678901+00:00"}, "dec": {"__type__": "decimal", "__value__": "1.50"}, "u": {"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678"}}, "b": {"__type__": "bytes", "__value__": "hi"}, "n": 1.0, "s": "h\\u00e9\\u2028\\ud83d\\ude00\\"\\\\", "t": [1, 2], "nan": NaN, "big": 1180591620717411303424, "e": null}, "traceback": null, "children": [], "date_done": "2026-11-21T03:18:12.963965+00:00", "task_id": "t-rich"}';
const CHILDREN =
  '{"status": "SUCCESS", "result": 7, "traceback": null, "children": [[["2c94f418", null], [[["2ed96f5e", null], null], [["c7e87463", [["768b08e6", null], null]], null]]]], "date_done": "2026-11-21T03:18:13.017034+00:00", "task_id": "t-linkgroup"}';
const EXTENDED =
  '{"status": "SUCCESS", "result": 1, "traceback": null, "children": [], "date_done": "2026-11-21T03:29:20.289895+00:00", "name": "o.value", "args": [1], "kwargs": {}, "worker": "oracle@host", "retries": 0, "queue": "work", "stamped_headers": ["stamp"], "stamp": "yes", "task_id": "stamped"}';

describe('encoding a meta', () => {
  it('writes every kind of value as Python does', () => {
    const result = {
      d: new DateTime('2026-01-02T03:04:05.678901+00:00'),
      dec: new Decimal('1.50'),
      u: new Uuid('12345678-1234-5678-1234-567812345678'),
      b: Buffer.from('hi'),
      n: new Numeral('1.0'),
      s: 'hé\u2028😀"\\',
      t: [1, 2],
      nan: Number.NaN,
      big: 2n ** 70n,
      e: null,
    };
    expect(encodeMeta({ ...SUCCESS, result, taskId: 't-rich' })).toBe(RICH);
  });

  it('writes children and their parents', () => {
    const member = resultTuple('c7e87463', resultTuple('768b08e6'));
    const children = [groupTuple('2c94f418', [resultTuple('2ed96f5e'), member])];
    const dateDone = '2026-11-21T03:18:13.017034+00:00';
    expect(encodeMeta({ ...SUCCESS, result: 7, children, dateDone, taskId: 't-linkgroup' })).toBe(CHILDREN);
  });

  it('adds the extended fields, and each stamp as a field of its own', () => {
    const extended = {
      name: 'o.value',
      args: [1],
      kwargs: {},
      worker: 'oracle@host',
      retries: 0,
      queue: 'work',
      stampedHeaders: ['stamp'],
      stamps: { stamp: 'yes' },
    };
    const dateDone = '2026-11-21T03:29:20.289895+00:00';
    expect(encodeMeta({ ...SUCCESS, dateDone, extended, taskId: 'stamped' })).toBe(EXTENDED);
  });

  it.each([
    [1, 't-1', undefined, undefined],
    [undefined, 'any "text"\u00e9', 'g 1', 'p\n'],
    [{ a: [null, 1.5] }, '5a51a1f1-6b29-4a7e-bd2c-f2cf60a1aae2', 'g', 'p'],
  ])('the fast way for a success writes the same: %o', (value, taskId, groupId, parentId) => {
    const now = new Date('2026-11-21T03:18:12.963Z');
    const dateDone = '2026-11-21T03:18:12.963000+00:00';
    expect(encodeSuccess(taskId, value, now, groupId, parentId)).toBe(
      encodeMeta({ ...SUCCESS, result: value, dateDone, groupId, parentId, taskId }),
    );
  });

  it.each([
    '2026-11-21T03:18:12.000Z',
    '2026-11-21T03:18:12.007Z',
    '1969-12-31T23:59:59.999Z',
    '2026-11-21T03:18:13.120Z',
  ])('the fast way dates %s as Python does', (date) => {
    const now = new Date(date);
    expect(JSON.parse(encodeSuccess('t', 1, now, undefined, undefined))).toMatchObject({ date_done: isoText(now) });
  });

  it('refuses what the serializer cannot hold', () => {
    expect(() => encodeSuccess('t', () => 1, new Date(0), undefined, undefined)).toThrow(WireError);
  });
});

describe('decoding a meta', () => {
  it('gives values back as what they were', () => {
    const meta = decodeMeta(Buffer.from(RICH));
    expect(meta).toMatchObject({ status: 'SUCCESS', children: [], taskId: 't-rich', traceback: undefined });
    expect(meta.dateDone).toEqual(new Date('2026-11-21T03:18:12.963Z'));
    const result = meta.result as Record<string, unknown>;
    expect(result['d']).toBeInstanceOf(Date);
    expect(result['dec']).toEqual(new Decimal('1.50'));
    expect(result['big']).toBe(2n ** 70n);
  });

  it('reads extended fields', () => {
    expect(decodeMeta(EXTENDED)).toMatchObject({
      name: 'o.value',
      args: [1],
      worker: 'oracle@host',
      retries: 0,
      queue: 'work',
    });
  });

  it.each(['2018-01-02T03:04:05.678901', '2018-01-02T03:04:05Z', '2018-01-02T04:04:05.5+01:00'])(
    'reads the date of older versions: %s',
    (date) => {
      const meta = decodeMeta(`{"status": "SUCCESS", "result": 1, "date_done": "${date}"}`);
      expect(meta.dateDone?.toISOString()).toMatch(/^2018-01-02T03:04:05/);
      expect(meta).toMatchObject({ children: [], taskId: undefined });
    },
  );

  it('takes a revoke without children', () => {
    expect(decodeMeta('{"status": "REVOKED", "result": null, "children": null, "date_done": null}')).toMatchObject({
      children: [],
      result: null,
      dateDone: undefined,
    });
  });

  it.each(['[]', '7', '{}', '{"status": 3}', 'nonsense', ''])('refuses %j', (text) => {
    expect(() => decodeMeta(text)).toThrow(WireError);
  });

  it.each(['msgpack', 'yaml'])('reads its own %s', (serializer) => {
    const bytes = encodeMeta({ ...SUCCESS, result: { a: 1 }, groupId: 'g' }, { serializer });
    expect(decodeMeta(bytes, serializer)).toMatchObject({
      status: 'SUCCESS',
      result: { a: 1 },
      groupId: 'g',
      taskId: 't-1',
    });
  });

  it('in pickle, an exception is known by its class, also in the wrapper for what cannot be pickled', () => {
    const failed = (error: PyObject): unknown =>
      exceptionOf(decodeMeta(encodePickle({ status: 'FAILURE', result: error }), 'pickle').result);
    const error = new PyObject(new PyGlobal('app', 'OutOfStock'), Tuple.of<unknown>('none', 2));
    const known = { type: 'OutOfStock', module: 'app', args: ['none', 2] };
    expect(failed(error)).toEqual(known);
    const wrapper = new PyGlobal('celery.utils.serialization', 'UnpickleableExceptionWrapper');
    expect(failed(new PyObject(wrapper, Tuple.of<unknown>('app', 'OutOfStock', ['none', 2], 'text')))).toEqual(known);
    expect(() => decodeMeta('x', 'pickle')).toThrow(expect.objectContaining({ code: 'undecodable' }) as Error);
  });
});

describe('result tuples', () => {
  it.each([
    [[['a', null], null], resultTuple('a')],
    [['a', null], resultTuple('a')],
    [[['a', [['b', null], null]], null], resultTuple('a', resultTuple('b'))],
    [
      [
        ['g', null],
        [[['a', null], null], 7],
      ],
      groupTuple('g', [resultTuple('a')]),
    ],
    [7, undefined],
    [[[7, null], null], undefined],
  ])('%o', (value, tuple) => {
    expect(readTuple(value)).toEqual(tuple);
  });

  it('a saved group is stored as Python stores it', () => {
    const group = groupTuple('g', [resultTuple('a'), resultTuple('b')]);
    expect(groupMeta(group)).toBe('{"result": [["g", null], [[["a", null], null], [["b", null], null]]]}');
    expect(decodeGroupMeta(groupMeta(group))).toEqual(group);
    expect(() => decodeGroupMeta('{"result": 3}')).toThrow(WireError);
  });
});
