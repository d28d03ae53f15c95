import { Buffer, isUtf8 } from 'node:buffer';
import type { Explanation as AnyExplanation, Field, Section, Warning } from '../explanation.ts';
import * as json from '../formats/json.ts';
import { parseIso } from '../formats/values.ts';
import { exceptionOf } from './outcome/exceptions.ts';
import { DELIVERY_INFO, EMBED, HEADERS, META, PROPERTIES, PROTOCOL_1 } from './meanings.ts';
import { EXCEPTION_STATES, READY_STATES } from './outcome/result.ts';
import { acceptSet, decodeContent, defaultLimits, encodeJson } from './message/serializers.ts';

/** What some bytes of a Celery system are. */
export type Explanation = AnyExplanation<
  'task' | 'claimed-task' | 'told-task' | 'body' | 'result' | 'command' | 'event' | 'unknown'
>;

type Exact = ReadonlyMap<string, unknown>;

/**
 * Explains one message as it is stored: a list item of Redis, an entry of `unacked`, a body, a stored result. `redis-cli`'s own quotes
 * are taken off. Never throws. Mirrors what celery/worker and kombu/transport/virtual (5.6) do with each field.
 */
export function explain(bytes: Uint8Array | string, now: Date): Explanation {
  const out = new Report(now);
  try {
    return out.read(
      typeof bytes === 'string' ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    );
  } catch (error) {
    return out.unknown(`This cannot be read: ${messageOf(error)}`);
  }
}

const INFO: Readonly<Record<string, string>> = {
  id: "the task's id",
  name: "the task's name",
  args: 'the arguments; a text in place of a list is of an older worker',
  kwargs: 'the keyword arguments',
  type: "the task's name, once more",
  hostname: 'the worker that holds it',
  time_start: 'when it started, in seconds since 1970; null while it waits',
  acknowledged: 'whether the broker has forgotten it',
  delivery_info: 'how it came: exchange, routing key, priority',
  worker_pid: 'the process that runs it; null while it waits',
};

class Report {
  readonly #now: Date;
  readonly #sections: Section[] = [];
  readonly #warnings: Warning[] = [];

  constructor(now: Date) {
    this.#now = now;
  }

  read(bytes: Buffer): Explanation {
    if (!isUtf8(bytes)) {
      this.#warn('ends', 'A list item that is not UTF-8 JSON ends a Python worker.');
      return this.unknown(
        `${bytes.length} bytes that are not UTF-8 text: no envelope, body or result in JSON. It may be a body of another serializer.`,
      );
    }
    const text = unquoted(bytes.toString('utf8').trim());
    if (text === '') return this.unknown('Nothing: the input is empty.');
    let value: unknown;
    try {
      value = json.parseExact(text);
    } catch (error) {
      const inner = base64Json(text);
      if (inner !== undefined) return this.#bare(inner, 'the base64 of a body');
      this.#warn('ends', 'A list item that is not JSON ends a Python worker.');
      return this.unknown(`${text.length} characters that are not JSON: ${messageOf(error)}`);
    }
    return this.#value(value);
  }

  unknown(summary: string): Explanation {
    return this.#done('unknown', summary);
  }

  #value(value: unknown): Explanation {
    if (value instanceof Map) {
      const map = value as Exact;
      if (isEnvelope(map)) return this.#envelope(map, false);
      if (typeof map.get('status') === 'string') return this.#result(map);
      if (typeof map.get('name') === 'string' && map.has('id') && map.has('time_start')) return this.#told(map);
      return this.#bare(map, 'a body');
    }
    if (Array.isArray(value)) {
      const items = value as readonly unknown[];
      const first = typeof items[0] === 'string' ? parsed(items[0]) : items[0];
      if (first instanceof Map && isEnvelope(first as Exact)) {
        this.#sections.push({
          title: 'Entry of `unacked`',
          fields: [
            field('exchange', items[1], 'where it goes back to'),
            field('routing key', items[2], 'the queue it goes back to, where the exchange is empty'),
          ],
        });
        if (items.length !== 3)
          this.#warn(
            'breaks',
            `An entry of \`unacked\` is [envelope, exchange, routing key]; this one has ${items.length} elements and cannot be restored.`,
          );
        return this.#envelope(first as Exact, true);
      }
      return this.#bare(items, 'a body');
    }
    return this.unknown(`A JSON value (${shown(value).slice(0, 80)}), but no envelope, body or result.`);
  }

  /** What a worker answers about a task that it holds. Source: celery/worker/request.py Request.info (5.6). */
  #told(info: Exact): Explanation {
    this.#sections.push({
      title: 'What the worker tells',
      fields: [...info].map(([name, value]) =>
        field(name, value, (Object.hasOwn(INFO, name) ? INFO[name] : undefined) ?? "of the worker's own"),
      ),
    });
    return this.#done('told-task', `What a worker tells of a task that it holds: ${called(info.get('name'))}.`);
  }

  #done(kind: Explanation['kind'], summary: string): Explanation {
    return { kind, summary, sections: this.#sections, warnings: this.#warnings };
  }

  #warn(effect: Warning['effect'], text: string): void {
    this.#warnings.push({ effect, text });
  }

  /** kombu's envelope. Source: kombu/transport/virtual/base.py, kombu/transport/redis.py (5.6). */
  #envelope(envelope: Exact, claimed: boolean): Explanation {
    const headers = this.#object(envelope, 'headers', 'ends');
    const properties = this.#object(envelope, 'properties', 'ends');
    this.#sections.push({
      title: 'Headers',
      fields: [...headers].map(([name, value]) => field(name, value, this.#header(name, value))),
    });
    this.#properties(properties);
    const payload = this.#body(envelope, headers, properties);
    const named = headers.get('task');
    if (named === undefined) {
      if (payload instanceof Map && payload.has('task')) {
        this.#protocol1(payload as Exact);
        return this.#done(
          claimed ? 'claimed-task' : 'task',
          `A task message of protocol 1 (Celery 3 and before): ${called((payload as Exact).get('task'))}${claimed ? ', claimed by a worker' : ''}.`,
        );
      }
      return this.#notATask(payload);
    }
    if (typeof named !== 'string' || named === '')
      this.#warn('breaks', 'The header `task` is no name; a Python worker knows no such task.');
    const hybrid = payload instanceof Map && payload.has('args');
    if (headers.get('id') === undefined || headers.get('id') === null || headers.get('id') === '') {
      this.#warn(
        'ends',
        'The header `id` is missing. A Python worker ends on this message, and again when it comes back.',
      );
    }
    this.#timelimit(headers.get('timelimit'));
    this.#times(headers);
    if (headers.get('redelivered') === true) {
      this.#warn(
        'note',
        'It was delivered before: its worker was lost, or held it longer than the visibility timeout.',
      );
    }
    const { id, correlation } = { id: headers.get('id'), correlation: properties.get('correlation_id') };
    if (typeof correlation === 'string' && typeof id === 'string' && correlation !== id) {
      this.#warn('breaks', 'The property `correlation_id` is not the id; a result by rpc:// would find nobody.');
    }
    if (hybrid) this.#protocol1(payload as Exact);
    else if (payload !== undefined) this.#protocol2(payload);
    const queue = this.#queueOf(properties);
    return this.#done(
      claimed ? 'claimed-task' : 'task',
      `A task message of protocol ${hybrid ? '1 under headers of protocol 2' : '2'}: ${called(named)}${queue === undefined ? '' : ` for the queue ${shown(queue)}`}${claimed ? ', claimed by a worker' : ''}.`,
    );
  }

  #notATask(payload: unknown): Explanation {
    if (payload instanceof Map && payload.has('method')) {
      return this.#done(
        'command',
        `A remote-control command: ${called((payload as Exact).get('method'))}. It belongs on a pidbox exchange, not in a queue of tasks.`,
      );
    }
    const first: unknown = Array.isArray(payload) ? (payload as readonly unknown[])[0] : payload;
    if (first instanceof Map && typeof first.get('type') === 'string') {
      return this.#done(
        'event',
        `An event: ${called((first as Exact).get('type'))}. It belongs on the celeryev exchange, not in a queue of tasks.`,
      );
    }
    this.#warn(
      'drops',
      'Neither the headers nor the body name a task. A Python worker rejects it as an unknown message.',
    );
    return this.#done('unknown', "A message in kombu's envelope, but no task.");
  }

  #object(from: Exact, name: string, effect: Warning['effect']): Exact {
    const value = from.get(name);
    if (value instanceof Map) return value as Exact;
    this.#warn(
      effect,
      value === undefined
        ? `\`${name}\` is missing. A Python worker ends on this message.`
        : `\`${name}\` is not an object. A Python worker ends on this message.`,
    );
    return new Map();
  }

  #header(name: string, value: unknown): string {
    const known = Object.hasOwn(HEADERS, name) ? HEADERS[name] : undefined;
    if (known === undefined) return "a header of the sender's own; it is kept through retries";
    return value === null ? `${known}; none` : known;
  }

  #properties(properties: Exact): void {
    const fields: Field[] = [];
    for (const [name, value] of properties) {
      if (name === 'delivery_info' && value instanceof Map) {
        for (const [inner, one] of value as Exact)
          fields.push(field(`delivery_info.${inner}`, one, DELIVERY_INFO[inner] ?? "of the broker's own"));
      } else {
        fields.push(
          field(name, value, (Object.hasOwn(PROPERTIES, name) ? PROPERTIES[name] : undefined) ?? 'not known to Celery'),
        );
      }
    }
    this.#sections.push({ title: 'Properties', fields });
    if (properties.size === 0) return;
    if (!properties.has('delivery_tag'))
      this.#warn('ends', 'The property `delivery_tag` is missing. A Python worker ends on this message.');
    else if (typeof properties.get('delivery_tag') !== 'string')
      this.#warn('breaks', 'The property `delivery_tag` is no text; Redis would know the claim under another name.');
    const info = properties.get('delivery_info');
    for (const name of ['exchange', 'routing_key']) {
      if (info instanceof Map && typeof info.get(name) === 'string') continue;
      this.#warn('ends', `The property \`delivery_info.${name}\` is missing. A Python worker ends on this message.`);
    }
  }

  #queueOf(properties: Exact): unknown {
    const info = properties.get('delivery_info');
    return info instanceof Map && info.get('exchange') === '' ? info.get('routing_key') : undefined;
  }

  /** The decoded body, or undefined with a warning. */
  #body(envelope: Exact, headers: Exact, properties: Exact): unknown {
    const [body, type, encoding, bodyEncoding] = [
      envelope.get('body'),
      envelope.get('content-type'),
      envelope.get('content-encoding'),
      properties.get('body_encoding'),
    ];
    const compression = headers.get('compression');
    const fields = [
      field('content-type', type, 'the serializer; the worker must accept it'),
      field('content-encoding', encoding, 'the character encoding of the serialized text'),
    ];
    const section = { title: 'Body', fields };
    this.#sections.push(section);
    if (typeof body !== 'string') {
      this.#warn('ends', 'The `body` is no text. A Python worker ends on this message.');
      return undefined;
    }
    const named = typeof bodyEncoding === 'string' ? bodyEncoding.toLowerCase() : '';
    const plain = named === '' || named === 'utf-8' || named === 'utf8';
    if (!plain && named !== 'base64') {
      this.#warn('ends', `The property \`body_encoding\` is ${shown(bodyEncoding)}; known are base64 and utf-8.`);
      return undefined;
    }
    if (plain)
      this.#warn(
        'ends',
        'The body is not in base64. Workers with kombu before 5.4 end on this message; newer ones read it.',
      );
    else if (!BASE64.test(body))
      this.#warn('drops', 'The body is not well-formed base64; a Python worker cannot decode it.');
    const raw = Buffer.from(body, plain ? 'utf8' : 'base64');
    fields.push(field('size', raw.length, compression === undefined ? 'bytes' : 'bytes, compressed'));
    const mime = typeof type === 'string' ? type.split(';', 1)[0]?.trim().toLowerCase() : undefined;
    if (mime === 'application/x-python-serialize') {
      this.#warn(
        'drops',
        "The body is a pickle. Workers refuse it unless their accepted content has 'pickle'; Python then runs what its sender put in. Here it is read as data.",
      );
    }
    if (mime === 'application/x-msgpack' || mime === 'application/x-yaml') {
      this.#warn(
        'note',
        `The body is ${mime}: workers read it only where accept_content says so; the rest reject it without a result.`,
      );
    }
    try {
      const payload = decodeContent(
        {
          body: raw,
          contentType: typeof type === 'string' ? type : undefined,
          contentEncoding: typeof encoding === 'string' ? encoding : undefined,
          compression: typeof compression === 'string' ? compression : undefined,
        },
        { accept: acceptSet(['json', 'msgpack', 'yaml', 'pickle']), limits: defaultLimits, exact: true },
      );
      this.#marks(payload);
      return payload;
    } catch (error) {
      this.#warn(
        'drops',
        `The body cannot be read: ${messageOf(error)}. A Python worker logs it and forgets the message; no result is stored.`,
      );
      fields.push(field('text', raw.subarray(0, 200).toString('latin1'), 'the first bytes of it'));
      return undefined;
    }
  }

  #protocol2(payload: unknown): void {
    if (!Array.isArray(payload) || payload.length !== 3) {
      this.#warn(
        'ends',
        `The body must be [args, kwargs, embed] of exactly 3 elements; it ${Array.isArray(payload) ? `has ${payload.length}` : 'is no array'}. A Python worker ends on this message.`,
      );
    }
    const [args, kwargs, embed] = Array.isArray(payload) ? (payload as readonly unknown[]) : [payload];
    const fields = [
      field(
        'args',
        args,
        Array.isArray(args) ? counted(args.length, 'positional argument') : 'the positional arguments',
      ),
    ];
    if (kwargs !== undefined)
      fields.push(
        field(
          'kwargs',
          kwargs,
          kwargs instanceof Map ? counted(kwargs.size, 'keyword argument') : 'the keyword arguments',
        ),
      );
    if (!Array.isArray(args)) this.#warn('breaks', 'The arguments are no list; the task cannot be called with them.');
    if (kwargs !== undefined && !(kwargs instanceof Map))
      this.#warn('breaks', 'The keyword arguments are no object; the task cannot be called with them.');
    if (embed instanceof Map) {
      for (const [name, value] of embed as Exact) {
        const meaning = (Object.hasOwn(EMBED, name) ? EMBED[name] : undefined) ?? 'not known to Celery';
        fields.push(field(name, value, `${meaning}${value === null ? '; none' : ''}`));
      }
      for (const name of ['callbacks', 'errbacks', 'chain']) this.#signatures(name, (embed as Exact).get(name));
    } else if (embed !== null && embed !== undefined) {
      this.#warn(
        'breaks',
        'The third element of the body is no object; it holds callbacks, errbacks, chain and chord.',
      );
    }
    this.#sections.push({ title: 'Body, decoded', fields });
  }

  #signatures(name: string, list: unknown): void {
    if (list === null || list === undefined) return;
    const good =
      Array.isArray(list) &&
      (list as readonly unknown[]).every((one) => one instanceof Map && typeof one.get('task') === 'string');
    if (!good)
      this.#warn(
        'breaks',
        `\`${name}\` is no list of signatures {task, args, kwargs, options, subtask_type, immutable}; the worker cannot call them.`,
      );
  }

  #protocol1(payload: Exact): void {
    const fields = [...payload].map(([name, value]) =>
      field(
        name,
        value,
        (Object.hasOwn(PROTOCOL_1, name) ? PROTOCOL_1[name] : undefined) ??
          (Object.hasOwn(HEADERS, name) ? HEADERS[name] : undefined) ??
          'not known to Celery',
      ),
    );
    this.#sections.push({ title: 'Body, decoded (protocol 1)', fields });
    const id = payload.get('id');
    if (typeof id !== 'string' || id === '') this.#warn('drops', 'The body has no `id`. A Python worker rejects it.');
    this.#timelimit(payload.get('timelimit'));
    this.#times(payload);
  }

  #timelimit(value: unknown): void {
    if (value === undefined || value === null) return;
    if (!Array.isArray(value)) {
      this.#warn(
        'ends',
        '`timelimit` is no list. It is [hard, soft], null or absent; a Python worker ends on this message.',
      );
    } else if (value.length !== 2 && value.length !== 0) {
      this.#warn(
        'ends',
        `\`timelimit\` has ${value.length} element${value.length === 1 ? '' : 's'}. It is [hard, soft]; a Python worker ends on this message.`,
      );
    } else if (
      (value as readonly unknown[]).some(
        (one) => one !== null && typeof one !== 'number' && !(typeof one === 'object' && 'text' in one),
      )
    ) {
      this.#warn('breaks', '`timelimit` holds something that is no number of seconds.');
    }
  }

  #times(fields: Exact): void {
    for (const name of ['eta', 'expires']) {
      const value = fields.get(name);
      if (value === null || value === undefined) continue;
      const at = typeof value === 'string' ? parseIso(value) : Number.NaN;
      if (Number.isNaN(at)) {
        this.#warn('drops', `\`${name}\` is no ISO 8601 time. A Python worker rejects the message without a result.`);
      } else if (name === 'expires' && at < this.#now.getTime()) {
        this.#warn(
          'note',
          `It expired ${ago(this.#now.getTime() - at)} ago: a worker that takes it now marks it REVOKED and does not run it.`,
        );
      } else if (name === 'eta' && at > this.#now.getTime()) {
        this.#warn(
          'note',
          `It is to run in ${ago(at - this.#now.getTime())}; until then a worker holds it without running it.`,
        );
      }
    }
  }

  /** kombu's marked values: whatever Python cannot turn back loses the whole message. Source: kombu/utils/json.py object_hook. */
  #marks(payload: unknown): void {
    const waiting: unknown[] = [payload];
    const said = new Set<string>();
    while (waiting.length > 0) {
      const next = waiting.pop();
      if (Array.isArray(next)) for (const item of next as readonly unknown[]) waiting.push(item);
      if (!(next instanceof Map)) continue;
      const map = next as Exact;
      const type = map.get('__type__');
      if (map.size !== 2 || type === undefined || !map.has('__value__')) {
        for (const item of map.values()) waiting.push(item);
        continue;
      }
      const value = map.get('__value__');
      const text =
        typeof type === 'string' && MARKS.has(type)
          ? undefined
          : `a value marked ${shown(type).slice(0, 60)}, which is no type of kombu's`;
      const wrong = text ?? (type === 'uuid' && !(value instanceof Map) ? 'a uuid that is not {"hex": …}' : undefined);
      if (wrong !== undefined && !said.has(wrong)) {
        said.add(wrong);
        this.#warn(
          'drops',
          `The body holds ${wrong}. Unless the application registered it, a Python worker cannot read the message and forgets it.`,
        );
      }
      if (type === 'datetime' && typeof value === 'string' && /z$/i.test(value) && !said.has('z')) {
        said.add('z');
        this.#warn(
          'drops',
          'The body holds a datetime that ends in Z, which Python before 3.11 does not read; write +00:00.',
        );
      }
    }
  }

  #bare(payload: Exact | readonly unknown[], what: string): Explanation {
    this.#marks(payload);
    if (!(payload instanceof Map)) {
      this.#protocol2(payload);
      return this.#done(
        'body',
        `${sentence(what)} of protocol 2, without its envelope: the task and its id are in the headers that are missing here.`,
      );
    }
    if (payload.has('task')) {
      this.#protocol1(payload as Exact);
      return this.#done(
        'body',
        `${sentence(what)} of protocol 1, without its envelope: ${called((payload as Exact).get('task'))}.`,
      );
    }
    if (payload.has('method') || payload.has('type')) return this.#notATask(payload);
    this.#sections.push({
      title: 'Members',
      fields: [...(payload as Exact)].map(([name, value]) => field(name, value, '')),
    });
    return this.unknown('A JSON object, but no envelope, body or result of Celery.');
  }

  /** Source: celery/backends/base.py _get_result_meta, exception_to_python (5.6). */
  #result(meta: Exact): Explanation {
    const status = meta.get('status') as string;
    const result = meta.get('result');
    this.#sections.push({
      title: 'Stored result',
      fields: [...meta].map(([name, value]) =>
        field(name, value, (Object.hasOwn(META, name) ? META[name] : undefined) ?? 'a stamp, or not known to Celery'),
      ),
    });
    if (EXCEPTION_STATES.has(status)) this.#exception(status, result);
    if (typeof meta.get('task_id') !== 'string')
      this.#warn(
        'breaks',
        '`task_id` is missing: Python clients that wait for several results do not know whose this is.',
      );
    const children = meta.get('children');
    if (children !== null && children !== undefined && !Array.isArray(children))
      this.#warn('breaks', '`children` is no list of [[id, parent], null].');
    if (typeof meta.get('date_done') === 'string' && Number.isNaN(parseIso(meta.get('date_done') as string)))
      this.#warn('breaks', '`date_done` is no ISO 8601 time.');
    const kind = READY_STATES.has(status)
      ? 'final'
      : STATES.has(status)
        ? 'not final'
        : "a state of the task's own, not final";
    return this.#done(
      'result',
      `A stored result: ${shown(status)} (${kind})${typeof meta.get('task_id') === 'string' ? ` of ${shown(meta.get('task_id'))}` : ''}.`,
    );
  }

  #exception(status: string, result: unknown): void {
    const exception = exceptionOf(result);
    if (exception !== undefined && (result as Exact).has('exc_type')) {
      const { type, module, args } = exception;
      this.#sections.push({
        title: 'Exception',
        fields: [
          field('exc_type', type, 'the class'),
          field('exc_module', module, 'where Python looks for the class; null makes one up by that name'),
          field('exc_message', args, "the class's arguments"),
        ],
      });
    } else if (status !== 'RETRY' || (result !== null && result !== undefined)) {
      this.#warn(
        'breaks',
        `A ${status} must hold {exc_type, exc_message, exc_module}. A Python client that waits for it raises an error of its own instead.`,
      );
    }
  }
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const MARKS: ReadonlySet<string> = new Set(['datetime', 'date', 'time', 'decimal', 'uuid', 'bytes', 'base64']);
const STATES: ReadonlySet<string> = new Set(['PENDING', 'RECEIVED', 'STARTED', 'RETRY']);

function isEnvelope(map: Exact): boolean {
  return map.has('properties') || map.has('headers') || (map.has('body') && map.has('content-type'));
}

function field(name: string, value: unknown, meaning: string): Field {
  return { name: clean(name), value: value === undefined ? '(absent)' : shown(value), meaning };
}

/** A value as JSON that is safe to print: letters as they are, control and direction characters escaped. */
function shown(value: unknown): string {
  let text: string;
  try {
    text = encodeJson(value);
  } catch (error) {
    return `(cannot be shown: ${clean(messageOf(error))})`;
  }
  return text.replaceAll(/\\(?:u([0-9a-f]{4})|.)/g, (escape, hex: string | undefined) => {
    const character = hex === undefined ? undefined : String.fromCharCode(Number.parseInt(hex, 16));
    return character === undefined || UNSAFE.test(character) || character < '\u00a0' ? escape : character;
  });
}

// Controls, and what reorders or hides text.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb]/;

/** Text of the input inside ours. */
function clean(text: string): string {
  return text.replaceAll(
    new RegExp(UNSAFE.source, 'g'),
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function called(name: unknown): string {
  return typeof name === 'string' ? clean(name) : shown(name);
}

function messageOf(error: unknown): string {
  return clean(error instanceof Error ? error.message.replace(/^(?:celery|json): /, '') : String(error));
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function ago(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

function parsed(text: string): unknown {
  try {
    return json.parseExact(text);
  } catch {
    return undefined;
  }
}

/** A body on its own, as it stands in an envelope. */
function base64Json(text: string): Exact | readonly unknown[] | undefined {
  if (!BASE64.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  const value = isUtf8(bytes) ? parsed(bytes.toString('utf8')) : undefined;
  return value instanceof Map ? (value as Exact) : Array.isArray(value) ? (value as readonly unknown[]) : undefined;
}

/** Without the quotes that redis-cli puts around a text on a terminal: `"{\"body\": \"\\xc3\"}"`. */
function unquoted(text: string): string {
  if (text.length < 2 || !text.startsWith('"') || !text.endsWith('"') || !/^"\s*(?:\\"|[[{])/.test(text)) return text;
  const bytes: Buffer[] = [];
  const inner = text.slice(1, -1);
  let from = 0;
  for (let at = inner.indexOf('\\'); at !== -1; at = inner.indexOf('\\', from)) {
    bytes.push(Buffer.from(inner.slice(from, at)));
    const hex = /^x([0-9a-f]{2})/i.exec(inner.slice(at + 1, at + 4))?.[1];
    const letter = inner.charAt(at + 1);
    bytes.push(hex === undefined ? Buffer.from(LETTERS[letter] ?? letter) : Buffer.from(hex, 'hex'));
    from = at + 2 + (hex === undefined ? 0 : 2);
  }
  bytes.push(Buffer.from(inner.slice(from)));
  return Buffer.concat(bytes).toString('utf8');
}

const LETTERS: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\u0007', b: '\b' };
