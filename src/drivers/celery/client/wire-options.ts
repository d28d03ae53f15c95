import type { ExactMap } from '../../../../protocols/celery/message/message.ts';
import { checkOptions } from '../../../check.ts';
import { CALL_NAMES, SIGNATURE_CHECKS } from '../option-checks.ts';
import type { SignatureOptions } from './task-options.ts';

const WIRE_NAMES: Readonly<Record<keyof SignatureOptions, string>> = {
  countdown: 'countdown',
  eta: 'eta',
  expires: 'expires',
  queue: 'queue',
  exchange: 'exchange',
  routingKey: 'routing_key',
  priority: 'priority',
  headers: 'headers',
  timeLimit: 'time_limit',
  softTimeLimit: 'soft_time_limit',
  ignoreResult: 'ignore_result',
  serializer: 'serializer',
  compression: 'compression',
  taskId: 'task_id',
  shadow: 'shadow',
  groupId: 'group_id',
  groupIndex: 'group_index',
  rootId: 'root_id',
  parentId: 'parent_id',
  replyTo: 'reply_to',
  argsrepr: 'argsrepr',
  kwargsrepr: 'kwargsrepr',
  retries: 'retries',
};

/** Options in the form of a signature, in the order they were given. Throws ConfigError for unknown options and wrong values. */
export function wireOptions(options: SignatureOptions): ExactMap {
  checkOptions('celery', options, SIGNATURE_CHECKS, CALL_NAMES);
  const wire = new Map<string, unknown>();
  for (const [name, value] of Object.entries(options))
    if (value !== undefined) wire.set(WIRE_NAMES[name as keyof SignatureOptions], value);
  return wire;
}
