import { encodeTask, type Publication, type TaskCall } from '../../../../protocols/celery/message/message.ts';
import { isoText, parseIso } from '../../../../protocols/formats/values.ts';
import type { AnyCall, ClientEvents, Envelope } from '../../../client.ts';
import { checkCall } from '../option-checks.ts';
import { type EnqueueOptions, inSeconds } from './task-options.ts';

/** A call as client middleware sees it. `options` are the options of the call that have no member of their own. */
export function envelopeOf(task: string, call: AnyCall<EnqueueOptions>, id: string): Envelope {
  const { args, kwargs, queue, eta, countdown, headers, taskId: _, ...options } = call;
  return {
    system: 'celery',
    id,
    task,
    args: args ?? [],
    kwargs: (kwargs ?? {}) as Readonly<Record<string, unknown>>,
    queue,
    at: eta ?? (countdown === undefined ? undefined : inSeconds(countdown)),
    headers: { ...headers },
    options: { ...options },
  };
}

/** The call that an envelope holds after the last middleware. Throws ConfigError if middleware has made the call invalid. */
export function callOf({ task, args, kwargs, queue, at, headers, options }: Envelope): AnyCall<EnqueueOptions> {
  const call = {
    ...options,
    args,
    kwargs,
    ...(queue === undefined ? {} : { queue }),
    ...(at === undefined ? {} : { eta: at }),
    ...(Object.keys(headers).length === 0 ? {} : { headers }),
  };
  checkCall(task, call);
  return call;
}

/** Options of a workflow's task that middleware may change. Its id, its group, its callbacks and the tasks after it belong to the workflow. */
const CHANGEABLE = [
  'priority',
  'serializer',
  'compression',
  'timeLimit',
  'softTimeLimit',
  'ignoreResult',
  'shadow',
  'replyTo',
  'argsrepr',
  'kwargsrepr',
] as const satisfies readonly (keyof TaskCall & keyof EnqueueOptions)[];

/** A first task of a workflow as client middleware sees it, and the message that is sent after the last middleware has run. */
export function workflowEnvelope(original: TaskCall): {
  readonly envelope: Envelope;
  publication(typed: boolean): Publication;
} {
  const { eta, exchange, routingKey, headers } = original;
  const kwargs =
    original.kwargs instanceof Map
      ? (Object.fromEntries(original.kwargs) as Readonly<Record<string, unknown>>)
      : (original.kwargs as Readonly<Record<string, unknown>>);
  const queue = exchange === '' ? routingKey : undefined;
  const at = eta === undefined || eta === null ? undefined : new Date(parseIso(eta));
  const envelope: Envelope = {
    system: 'celery',
    id: original.id,
    task: original.task,
    args: original.args,
    kwargs,
    queue,
    at,
    headers: headers instanceof Map ? (Object.fromEntries(headers) as Record<string, unknown>) : { ...headers },
    options: Object.fromEntries(
      CHANGEABLE.filter((option) => (original[option] ?? null) !== null).map((option) => [option, original[option]]),
    ),
  };
  return {
    envelope,
    publication(typed) {
      callOf(envelope);
      const changed = Object.fromEntries(
        CHANGEABLE.filter((option) => envelope.options[option] !== original[option]).map((option) => [
          option,
          envelope.options[option] ?? original[option],
        ]),
      );
      return encodeTask(
        {
          ...original,
          ...changed,
          task: envelope.task,
          args: envelope.args,
          kwargs: envelope.kwargs === kwargs ? original.kwargs : envelope.kwargs,
          headers: envelope.headers,
          ...(envelope.at?.getTime() === at?.getTime()
            ? {}
            : { eta: envelope.at === undefined ? null : isoText(envelope.at) }),
          ...(envelope.queue === queue || envelope.queue === undefined
            ? {}
            : { exchange: '', routingKey: envelope.queue, queueKey: undefined }),
        },
        { typed },
      );
    },
  };
}

/** The event `job:enqueued` of a task that the broker has taken. */
export function enqueued({ headers, exchange, routingKey }: Publication): ClientEvents['job:enqueued'] {
  const eta = headers.get('eta');
  return {
    system: 'celery',
    id: headers.get('id') as string,
    task: headers.get('task') as string,
    queue: exchange === '' ? routingKey : undefined,
    at: typeof eta === 'string' ? new Date(parseIso(eta)) : undefined,
  };
}
