import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../../protocols/errors.ts';
import {
  ByteArray,
  decode,
  type DecodeOptions,
  encode,
  FrozenSet,
  PyExtension,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
  ZonedDateTime,
} from '../../../protocols/formats/pickle/index.ts';
import * as op from '../../../protocols/formats/pickle/opcodes.ts';
import { DateTime, Decimal, float, Numeral, PlainDate, Uuid } from '../../../protocols/formats/values.ts';

const EXACT = { exact: true };

describe('what a handler gets', () => {
  it('a dict whose keys are all texts is a plain object, any other a Map', () => {
    expect(again({ a: 1 })).toEqual({ a: 1 });
    expect(again(new Map<unknown, unknown>([['a', 1]]))).toEqual({ a: 1 });
    const mixed = new Map<unknown, unknown>([
      ['a', 1],
      [2, 'b'],
      [Tuple.of(1), null],
    ]);
    expect(again(mixed)).toEqual(mixed);
    expect(again({ a: 1 }, EXACT)).toEqual(new Map([['a', 1]]));
  });

  it('a dict in itself stays one object, though a later key makes it a Map', () => {
    const dict = new Map<unknown, unknown>();
    dict.set('me', dict).set(1, dict).set('plain', { x: 1 });
    const read = again(dict) as Map<unknown, unknown>;
    expect(read).toBeInstanceOf(Map);
    expect(read.get('me')).toBe(read);
    expect(read.get(1)).toBe(read);
    expect(read.get('plain')).toEqual({ x: 1 });
  });

  it('a member that is undefined is left out, an item that is undefined is None', () => {
    expect(again({ a: undefined, b: 1 })).toEqual({ b: 1 });
    expect(
      again(
        new Map<unknown, unknown>([
          ['a', undefined],
          [1, 2],
        ]),
      ),
    ).toEqual(new Map([[1, 2]]));
    expect(again([undefined])).toEqual([null]);
  });

  it('keys are data, whatever they are called', () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
    const read = again(new Map(names.map((name) => [name, { polluted: true }]))) as object;
    expect(Object.keys(read)).toEqual(names);
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it('a tuple is an array that stays a tuple, and its methods give plain arrays', () => {
    const read = again(Tuple.of<unknown>(1, 'a')) as Tuple;
    expect(read).toBeInstanceOf(Tuple);
    expect([...read]).toEqual([1, 'a']);
    expect(read.map((item) => item)).not.toBeInstanceOf(Tuple);
    expect(again([1])).not.toBeInstanceOf(Tuple);
  });

  it('whole floats are numbers, and in exact mode Numerals', () => {
    expect(again([float(1), 1, -0, 2.5])).toEqual([1, 1, -0, 2.5]);
    expect(again([float(1), 1, -0, 2.5], EXACT)).toEqual([new Numeral('1.0'), 1, new Numeral('-0.0'), 2.5]);
  });

  it('in exact mode -0.0 stays -0.0 as a key, and two NaN stay two keys', () => {
    const zero = bytes('}(G\x80\0\0\0\0\0\0\0NG\x7f\xf8\0\0\0\0\0\0K\x01G\x7f\xf8\0\0\0\0\0\0K\x02u.');
    const read = decode(zero, EXACT) as Map<Numeral, unknown>;
    expect([...read].map(([key, item]) => [String(key), item])).toEqual([
      ['-0.0', null],
      ['NaN', 1],
      ['NaN', 2],
    ]);
  });

  it('bytes are a copy that outlives the pickle', () => {
    const pickle = encode(Buffer.from('secret'));
    const read = decode(pickle) as Buffer;
    pickle.fill(0);
    expect(read.toString()).toBe('secret');
    expect(again(new ByteArray([1, 2]))).toEqual(new ByteArray([1, 2]));
  });

  it('a datetime is a Date at its moment, with its text', () => {
    const zoned = pickled('datetime', 'datetime', [
      Buffer.from('07ea0a1902' + '1e00000000', 'hex'),
      new PyObject(
        new PyObject(
          new PyGlobal('builtins', 'getattr'),
          Tuple.of<unknown>(new PyGlobal('zoneinfo', 'ZoneInfo'), '_unpickle'),
        ),
        Tuple.of<unknown>('Europe/Berlin', 1),
      ),
    ]);
    const read = decode(zoned) as ZonedDateTime;
    expect(read).toBeInstanceOf(ZonedDateTime);
    expect(read.iso).toBe('2026-10-25T02:30:00+02:00');
    expect(read.getTime()).toBe(Date.parse('2026-10-25T00:30:00Z'));
    const plain = again(new DateTime('2026-01-02T03:04:05.000006-03:30')) as DateTime;
    expect(plain.iso).toBe('2026-01-02T03:04:05.000006-03:30');
    expect((again(new Date(1000)) as DateTime).iso).toBe('1970-01-01T00:00:01+00:00');
  });

  it.each<[wall: string, fold: 0 | 1, iso: string]>([
    ['07ea0a19021e00000000', 0, '2026-10-25T02:30:00+02:00'],
    ['07ea8a19021e00000000', 1, '2026-10-25T02:30:00+01:00'],
    ['07ea031d021e00000000', 0, '2026-03-29T02:30:00+01:00'],
    ['07ea831d021e00000000', 1, '2026-03-29T02:30:00+02:00'],
  ])('where the clock jumps, %s with fold %i is %s', (hex, fold, iso) => {
    const berlin = new PyObject(new PyGlobal('zoneinfo', 'ZoneInfo._unpickle'), Tuple.of<unknown>('Europe/Berlin', 1));
    const read = decode(pickled('datetime', 'datetime', [Buffer.from(hex, 'hex'), berlin])) as ZonedDateTime;
    expect([read.iso, read.fold]).toEqual([iso, fold]);
  });

  it('a datetime in a zone that nobody here knows stays what it was', () => {
    const zone = new PyObject(new PyGlobal('app', 'Mars'));
    const read = decode(
      pickled('datetime', 'datetime', [Buffer.from('07ea0101000000000000', 'hex'), zone]),
    ) as PyObject;
    expect(read).toBeInstanceOf(PyObject);
    expect(read.className).toBe('datetime.datetime');
  });

  it('a zoned time that was changed is written as the moment it is now', () => {
    const pytz = new PyObject(new PyGlobal('pytz', '_p'), Tuple.of<unknown>('Europe/Paris', 3600, 0, 'CET'));
    const read = decode(pickled('datetime', 'datetime', [Buffer.from('07ea0101000000000000', 'hex'), pytz])) as Date;
    expect((again(read) as DateTime).iso).toBe('2026-01-01T00:00:00+01:00');
    read.setUTCFullYear(2030);
    expect((again(read) as DateTime).iso).toBe('2030-12-31T23:00:00+00:00');
  });

  it('an exception is its class and its arguments', () => {
    const read = decode(pickled('builtins', 'ValueError', ['no', 1])) as PyObject;
    expect([read.className, [...read.args]]).toEqual(['builtins.ValueError', ['no', 1]]);
  });

  it('a caller may give a class a meaning of its own', () => {
    const options: DecodeOptions = {
      construct: ({ module, name }, args) => (`${module}.${name}` === 'app.wrap' ? { wrapped: args[0] } : undefined),
    };
    expect(decode(pickled('app', 'wrap', [7]), options)).toEqual({ wrapped: 7 });
    expect(decode(pickled('app', 'other', [7]), options)).toBeInstanceOf(PyObject);
  });

  it('the names of Python 2 are read as those of Python 3, before protocol 3 only', () => {
    expect(decode(bytes('cexceptions\nValueError\n.'))).toEqual(new PyGlobal('builtins', 'ValueError'));
    expect(decode(bytes('\x80\x02c__builtin__\nxrange\n.'))).toEqual(new PyGlobal('builtins', 'range'));
    expect(decode(bytes('\x80\x03c__builtin__\nxrange\n.'))).toEqual(new PyGlobal('__builtin__', 'xrange'));
    expect(encode(new PyGlobal('builtins', 'ValueError'), { protocol: 2 }).toString('latin1')).toContain(
      'cexceptions\nValueError\n',
    );
  });

  it('strings of Python 2 are texts where they are ASCII, else bytes', () => {
    expect(decode(bytes("S'it\\'s\\n\\x41\\101'\n."))).toBe("it's\nAA");
    expect(decode(bytes('U\x02\xc3\xa9.'))).toEqual(Buffer.from('é'));
    expect(decode(bytes('T\x02\0\0\0ab.'))).toBe('ab');
  });

  it('objects of old classes, extensions and state setters go back as they came', () => {
    const instance = new PyObject(new PyGlobal('app', 'Old'), Tuple.of<unknown>(1, 'x'), 'instance');
    instance.state = { a: 1 };
    const set = new PyObject(new PyGlobal('app', 'make'));
    set.state = 'state';
    set.stateSetter = new PyGlobal('app', 'setter');
    const called = new PyObject(new PyExtension(300), Tuple.of<unknown>(1));
    const keyed = new PyObject(new PyGlobal('app', 'K'), Tuple.of<unknown>(1), 'new', { b: 2 });
    for (const value of [instance, set, called, keyed]) expect(again(value)).toEqual(value);
    expect(decode(bytes('(I1\niapp\nOld\n.'))).toEqual(
      new PyObject(new PyGlobal('app', 'Old'), Tuple.of<unknown>(1), 'instance'),
    );
  });
});

describe('an extension, which is a class by a number', () => {
  // The smallest and the largest of each opcode.
  it.each([
    [1, '\x82\x01'],
    [0xff, '\x82\xff'],
    [0x100, '\x83\x00\x01'],
    [0xffff, '\x83\xff\xff'],
    [0x10000, '\x84\x00\x00\x01\x00'],
    [0x7fffffff, '\x84\xff\xff\xff\x7f'],
  ])('%d is read as no more than that, and written with the same opcode', (code, opcode) => {
    const read = decode(bytes(`\x80\x02${opcode}.`));
    expect(read).toEqual(new PyExtension(code));
    for (const protocol of [2, 4] as const) expect(encode(read, { protocol }).toString('latin1')).toContain(opcode);
  });

  it('is not given a meaning by whoever gives one to names', () => {
    const seen: unknown[] = [];
    const construct = (...call: readonly unknown[]): undefined => void seen.push(call);
    expect(decode(bytes('\x80\x02\x82\x07)R.'), { construct })).toEqual(new PyObject(new PyExtension(7)));
    expect(seen).toEqual([]);
  });
});

describe('what cannot be written', () => {
  it.each<[string, unknown, string]>([
    ['a function', [() => 1], 'cannot write value[0]: a function'],
    ['a class of your own', { a: new URL('http://x') }, 'cannot write value.a: an URL'],
    ['a symbol', Symbol('x'), 'a symbol'],
    ['a list as a key', new Map([[[1], 2]]), 'a list as a key'],
    ['a dict in a set', new Set([{}]), 'a dict as a key'],
    ['a list in a tuple as a key', new Map([[Tuple.of(Tuple.of<unknown>([])), 2]]), 'a list as a key'],
    ['a Date that is none', new Date(Number.NaN), 'which Python cannot have'],
    ['a year that Python has not', new Date(-1e14), 'which Python cannot have'],
    ['a date that is none', new PlainDate('2026-02-30'), 'which Python cannot have'],
    ['a Numeral that is no number', new Numeral('1; DROP'), 'which is not a number'],
    ['a UUID that is none', new Uuid('xyz'), 'which is no UUID'],
    ['extension 0', new PyExtension(0), 'which cannot be'],
    ['extension -1', new PyExtension(-1), 'which cannot be'],
    ['extension 1.5', new PyExtension(1.5), 'which cannot be'],
    ['extension 2147483648', new PyExtension(2 ** 31), 'which cannot be'],
    ['no extension', new PyExtension(Number.NaN), 'which cannot be'],
  ])('%s: a WireError says where', (_, value, message) => {
    expect(() => encode(value)).toThrow(expect.objectContaining({ code: 'unencodable' }) as Error);
    expect(() => encode(value)).toThrow(message);
  });

  it('what nests for ever is too deep', () => {
    const root: unknown[] = [];
    let list = root;
    for (let level = 0; level < 100_000; level += 1) list.push((list = []));
    for (const protocol of [2, 4] as const) {
      expect(() => encode(root, { protocol })).toThrow(expect.objectContaining({ code: 'too-deep' }) as Error);
    }
  });
});

describe('hostile pickles', () => {
  const repeat = (text: string, count: number): string => text.repeat(count);
  const u32 = (value: number): string => {
    const four = Buffer.alloc(4);
    four.writeUInt32LE(value);
    return four.toString('latin1');
  };

  it.each<[name: string, pickle: string, code: string]>([
    ['nothing', '', 'undecodable'],
    ['no end', '\x80\x04', 'undecodable'],
    ['an end without a value', '.', 'undecodable'],
    ['two values', 'NN.', 'undecodable'],
    ['an open mark', '(N.', 'undecodable'],
    ['bytes after the end', 'N.N', 'undecodable'],
    ['an opcode that is none', '\xff.', 'undecodable'],
    ['a protocol of tomorrow', '\x80\x06N.', 'undecodable'],
    ['a frame longer than the pickle', '\x80\x04\x95\xff\0\0\0\0\0\0\0N.', 'undecodable'],
    ['a frame of 2^63 bytes', '\x80\x04\x95\0\0\0\0\0\0\0\x80N.', 'undecodable'],
    ['bytes of a negative length', '\x80\x03B\xfb\xff\xff\xff.', 'undecodable'],
    ['a text of 2^64 - 1 bytes', `\x8d${repeat('\xff', 8)}.`, 'undecodable'],
    ['bytes of 2^64 - 1 bytes', `\x8e${repeat('\xff', 8)}.`, 'undecodable'],
    ['a bytearray of 2^63 bytes', '\x96\0\0\0\0\0\0\0\x80.', 'undecodable'],
    ['an integer of a negative length', '\x8b\xff\xff\xff\xff.', 'undecodable'],
    ['an integer of a megabyte', `\x8b${u32(1 << 20)}${repeat('\x7f', 1 << 20)}.`, 'too-large'],
    ['an integer of a million digits', `L${repeat('9', 1_000_000)}L\n.`, 'too-large'],
    ['an integer in hexadecimal', 'I0x10\n.', 'undecodable'],
    ['an integer that is none', 'I1e5\n.', 'undecodable'],
    ['a float that is none', 'F0x1p3\n.', 'undecodable'],
    ['a line without an end', `V${repeat('x', 1000)}`, 'undecodable'],
    ['a text that is not UTF-8', 'X\x02\0\0\0\xc3\x28.', 'undecodable'],
    ['a text with overlong UTF-8', 'X\x02\0\0\0\xc0\x80.', 'undecodable'],
    ['two halves of a character', 'X\x06\0\0\0\xed\xa0\xbd\xed\xb8\x80.', 'undecodable'],
    ['two halves of a character, escaped', 'V\\ud83d\\ude00\n.', 'undecodable'],
    ['an escape beyond Unicode', 'V\\U00110000\n.', 'undecodable'],
    ['a string without quotes', 'Sabc\n.', 'undecodable'],
    ['a string that ends in a backslash', "S'a\\'\n.", 'undecodable'],
    ['a memo entry that is not there', 'h\x05.', 'undecodable'],
    ['a memo entry with a name', 'g__proto__\n.', 'undecodable'],
    ['a memo number that is negative', 'Np-1\n.', 'undecodable'],
    ['nothing to remember', '\x94.', 'undecodable'],
    ['nothing to take off', '0.', 'undecodable'],
    ['nothing to double', '2.', 'undecodable'],
    ['a tuple of nothing', '\x85.', 'undecodable'],
    ['a tuple across a mark', 'N(\x85t.', 'undecodable'],
    ['a list without a beginning', 'l.', 'undecodable'],
    ['an item for a dict', '}Na.', 'undecodable'],
    ['an item for a tuple', ')Na.', 'undecodable'],
    ['an item for a text', 'X\x01\0\0\0aNa.', 'undecodable'],
    ['a key for a list', ']NNs.', 'undecodable'],
    ['a key without a value', '}(Nu.', 'undecodable'],
    ['a member for a list', '](N\x90.', 'undecodable'],
    ['a member for a frozenset', '(\x91(N\x90.', 'undecodable'],
    ['a list as a key', '}]Ns.', 'undecodable'],
    ['a dict in a set', '\x8f(}\x90.', 'undecodable'],
    ['a list in a tuple as a key', '}]\x85\x85Ns.', 'undecodable'],
    ['a set made of lists', 'c__builtin__\nset\n]]a\x85R.', 'undecodable'],
    ['a call of a text', 'X\x02\0\0\0os)R.', 'undecodable'],
    ['arguments that are a list', 'cos\nsystem\n]R.', 'undecodable'],
    ['a class with a number for a name', '\x80\x04K\x01K\x01\x93.', 'undecodable'],
    ['a state for a list', ']}b.', 'undecodable'],
    ['a state for None', 'N}b.', 'undecodable'],
    ['two states', 'capp\nX\n)\x81}b}b.', 'undecodable'],
    ['a persistent id', 'Pid\n.', 'undecodable'],
    ['a persistent id from the stack', 'NQ.', 'undecodable'],
    ['an out-of-band buffer', '\x80\x05\x97.', 'undecodable'],
    ['a read-only buffer', '\x80\x05N\x98.', 'undecodable'],
    ['extension 0', '\x82\0.', 'undecodable'],
    ['extension -1', '\x84\xff\xff\xff\xff.', 'undecodable'],
    ['a state for an extension', '\x82\x01}b.', 'undecodable'],
    ['an item for an extension', '\x82\x01]a.', 'undecodable'],
    ['an extension for a module', '\x80\x04\x82\x01\x8c\x01a\x93.', 'undecodable'],
    ['half an extension', '\x84\x01\x00.', 'undecodable'],
    ['lists in each other, from outside', `${repeat(']', 300_000)}${repeat('a', 299_999)}.`, 'too-deep'],
    ['tuples in each other, from inside', `)${repeat('\x85', 300_000)}.`, 'too-deep'],
    ['a chain of calls', `capp\nf\n${repeat(')R', 100_000)}.`, 'too-deep'],
    ['dicts in each other', `${repeat('}K\x01', 100_000)}N${repeat('s', 100_000)}.`, 'too-deep'],
    ['two million marks', `${repeat('(', 2_100_000)}.`, 'too-large'],
    ['a million copies', `]${repeat('2', 1_000_001)}.`, 'too-large'],
    ['eight million memo entries', `N${repeat('\x94', 8_000_000)}.`, 'too-large'],
    ['a million dicts', `(${repeat('}', 1_000_001)}t.`, 'too-large'],
    ['a thousand million lists, sharing', `${repeat(']\x94', 41)}${laughs(41)}.`, 'too-large'],
    ['a thousand million tuples, sharing', `)\x94${tuples(60)}.`, 'too-large'],
    [
      'one long text many thousand times',
      `(X${u32(100_000)}${repeat('x', 100_000)}\x94${repeat('h\0', 5000)}t.`,
      'too-large',
    ],
    [
      'a set made of the same long list again and again',
      `c__builtin__\nset\n\x94](${Array.from({ length: 5000 }, (_, n) => `J${u32(n)}`).join('')}e\x85\x94` +
        `R0${repeat('h\0h\x01R0', 5000)}N.`,
      'too-large',
    ],
    [
      'a bytearray made of the same bytes again and again',
      `\x80\x03cbuiltins\nbytearray\n\x94B${u32(1 << 20)}${repeat('x', 1 << 20)}\x85\x94` +
        `R0${repeat('h\0h\x01R0', 5000)}N.`,
      'too-large',
    ],
  ])('%s', (_, pickle, code) => {
    for (const exact of [false, true]) {
      expect(() => decode(bytes(pickle), { exact })).toThrow(
        expect.objectContaining({ name: 'WireError', code }) as Error,
      );
    }
  });

  it.each<[string, string]>([
    ['a command', "cos\nsystem\n(S'touch /tmp/x'\ntR."],
    ['eval', "c__builtin__\neval\n(S'1'\ntR."],
    ['an old class', "(S'touch /tmp/x'\nios\nsystem\n."],
    ['an object of it', "(cos\nsystem\nS'touch /tmp/x'\no."],
    ['Function', "cbuiltins\nFunction\n(S'return process'\ntR."],
    ['constructor', "cconstructor\nconstructor\n(S'x'\ntR."],
    ['__proto__', "c__proto__\n__proto__\n(S'x'\ntR}S'polluted'\nI1\nsb."],
  ])('gadgets are data: %s', (_, pickle) => {
    const read = decode(bytes(pickle));
    expect(read).toBeInstanceOf(PyObject);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect(decode(encode(read))).toEqual(read);
  });

  it('memo numbers may leave gaps', () => {
    expect(decode(bytes('Nr\xff\xff\xff\xff0I5\np999999999\n0j\xff\xff\xff\xffg999999999\n\x86.'))).toEqual([null, 5]);
    expect(decode(bytes('K\x01q\x05K\x02\x94h\x05h\x01\x86\x86\x86.'))).toEqual([1, [2, [1, 2]]]);
  });

  it('limits are the caller’s to set', () => {
    expect(() => decode(encode([[[1]]]), { maxDepth: 2 })).toThrow(
      expect.objectContaining({ code: 'too-deep' }) as Error,
    );
    expect(decode(encode([[[1]]]), { maxDepth: 3 })).toEqual([[[1]]]);
    expect(() => decode(encode([1, 2, 3]), { maxItems: 5 })).toThrow(
      expect.objectContaining({ code: 'too-large' }) as Error,
    );
    expect(() => decode(encode(2n ** 100n), { maxIntegerBytes: 12 })).toThrow(
      expect.objectContaining({ code: 'too-large' }) as Error,
    );
    expect(decode(encode(2n ** 100n), { maxIntegerBytes: 13 })).toBe(2n ** 100n);
  });

  it('200000 items in one go are read', () => {
    const read = decode(bytes(`](${repeat('K\x01', 200_000)}e.`)) as unknown[];
    expect(read.length).toBe(200_000);
    expect((decode(bytes(`(${repeat('K\x01', 200_000)}t.`)) as unknown[]).length).toBe(200_000);
  });
});

describe('anything', () => {
  /** Values or a WireError; and what was read can be written, or a WireError says why not. */
  function survives(pickle: Buffer): void {
    for (const exact of [false, true]) {
      try {
        const read = decode(pickle, { exact, maxDepth: 200, maxItems: 100_000, maxOutput: 1_000_000 });
        for (const protocol of [2, 4] as const) decode(encode(read, { protocol }), { exact });
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        expect(['undecodable', 'too-large', 'too-deep', 'unencodable']).toContain(error.code);
      }
    }
  }

  it('random bytes are values or a WireError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => survives(Buffer.from(noise))),
      { numRuns: 3000 },
    );
  });

  it('random opcodes are values or a WireError', () => {
    const opcode = fc.constantFrom(...Object.values(op));
    const piece = fc.oneof(
      opcode.map((code) => Buffer.of(code)),
      fc.tuple(opcode, fc.uint8Array({ maxLength: 5 })).map(([code, more]) => Buffer.concat([Buffer.of(code), more])),
      fc
        .constantFrom(
          ...[
            'K\x01',
            'N',
            ']',
            '}',
            ')',
            '(',
            '\x8f',
            'h\0',
            'h\x01',
            '\x94',
            'a',
            's',
            'e',
            'u',
            '\x85',
            '\x86',
            'R',
            'b',
          ],
          ...[
            '\x81',
            '0',
            '2',
            'capp\nX\n',
            'cbuiltins\nset\n',
            'cuuid\nUUID\n',
            '\x8c\x03int',
            'cdatetime\ndatetime\n',
          ],
          ...['C\x0a\x07\xea\x01\x01\0\0\0\0\0\0', 'S"x"\n', 'I1\n', 'L9L\n', 'F1.0\n', 'Vx\n', 'cdecimal\nDecimal\n'],
        )
        .map(bytes),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => survives(Buffer.concat([...pieces, bytes('.')]))),
      { numRuns: 6000 },
    );
  });

  it('a true pickle with some bytes changed, cut or doubled is values or a WireError', () => {
    const truth = encode([
      { a: 1, b: [1.5, null, true], ü: 'é'.repeat(9) },
      new Map<unknown, unknown>([
        [Tuple.of(1, 2), new Set(['x'])],
        [3, new FrozenSet([4])],
      ]),
      [new Date(0), new Uuid('12345678123456781234567812345678'), new Decimal('1.5'), new TimeDelta(1, 2, 3)],
      [
        Buffer.from('abc'),
        new ByteArray([1]),
        2n ** 90n,
        new PyObject(new PyGlobal('app', 'X'), Tuple.of<unknown>(1), 'new'),
      ],
    ]);
    const change = fc.record({
      at: fc.nat(truth.length - 1),
      byte: fc.nat(255),
      kind: fc.constantFrom('set', 'cut', 'double'),
    });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
        let pickle = Buffer.from(truth);
        for (const { at, byte, kind } of changes) {
          const place = at % Math.max(pickle.length, 1);
          if (kind === 'set') pickle[place] = byte;
          else if (kind === 'cut')
            pickle = Buffer.concat([pickle.subarray(0, place), pickle.subarray(place + (byte % 8))]);
          else pickle = Buffer.concat([pickle.subarray(0, place), pickle.subarray(Math.max(0, place - (byte % 20)))]);
        }
        survives(pickle);
      }),
      { numRuns: 6000 },
    );
  });
});

function bytes(latin1: string): Buffer {
  return Buffer.from(latin1, 'latin1');
}

function again(value: unknown, options?: DecodeOptions): unknown {
  return decode(encode(value), options);
}

/** A call of a class or function. */
function pickled(module: string, name: string, args: readonly unknown[]): Buffer {
  return encode(new PyObject(new PyGlobal(module, name), Tuple.from(args)));
}

/** Lists on the stack and in the memo: each goes twice into the one before it. */
function laughs(count: number): string {
  let pickle = '';
  for (let index = count - 1; index > 0; index -= 1)
    pickle += `ah${String.fromCharCode(index - 1)}h${String.fromCharCode(index)}a0`;
  return pickle;
}

function tuples(count: number): string {
  return Array.from({ length: count }, (_, index) => `h${String.fromCharCode(index)}\x86\x94`).join('');
}
