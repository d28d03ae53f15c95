import * as json from '../../../protocols/formats/json.ts';
import { isoText } from '../../../protocols/formats/values.ts';
import type { Job } from '../../../protocols/job.ts';
import type { JobHash } from '../../../protocols/rq/message.ts';
import type { Logger } from '../../log.ts';

export interface WebhookEvent {
  readonly job: Job;
  readonly hash: JobHash;
  readonly status: 'finished' | 'failed';
  readonly endedAt: Date;
  /** Only for a failure. */
  readonly excInfo: string | undefined;
}

/** Sends the requests that a job asks for when it has ended. Errors are logged, as in RQ. Source: rq/webhook.py (2.10). */
export async function sendWebhooks(event: WebhookEvent, log: Logger): Promise<void> {
  const { webhooks } = event.hash;
  if (webhooks === undefined) return;
  await Promise.all(
    listOf(webhooks)
      .filter((hook) => hook['job_status'] === event.status)
      .map((hook) => send(hook, event, log)),
  );
}

type Hook = Readonly<Record<string, unknown>>;

/** Entries that cannot be read are left out, as in RQ. */
function listOf(webhooks: string): readonly Hook[] {
  try {
    const list = json.parse(webhooks);
    return Array.isArray(list) ? list.filter((hook): hook is Hook => typeof hook === 'object' && hook !== null) : [];
  } catch {
    return [];
  }
}

async function send(hook: Hook, event: WebhookEvent, log: Logger): Promise<void> {
  const { url, method, timeout } = hook;
  try {
    if (typeof url !== 'string' || !/^https?:\/\//i.test(url)) throw new TypeError('its url is not http');
    const own = typeof hook['headers'] === 'object' && hook['headers'] !== null ? hook['headers'] : {};
    const headers = Object.entries(own).filter((pair): pair is [string, string] => typeof pair[1] === 'string');
    const signal = AbortSignal.timeout(
      typeof timeout === 'number' && timeout > 0 ? Math.min(timeout, 600) * 1000 : 10_000,
    );
    const answer = await fetch(
      url,
      method === 'POST'
        ? { method, signal, body: payload(event), headers: [['Content-Type', 'application/json'], ...headers] }
        : { signal, headers },
    );
    await answer.body?.cancel();
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
  } catch (error) {
    const { id, queue } = event.job;
    log.warn({ id, queue, url: String(url).slice(0, 200), error }, 'a webhook could not be sent');
  }
}

function payload({ job, hash, status, endedAt, excInfo }: WebhookEvent): string {
  return json.stringify({
    job_id: job.id,
    func_name: job.task,
    status,
    enqueued_at: hash.enqueuedAt === undefined ? null : isoText(hash.enqueuedAt),
    ended_at: isoText(endedAt),
    ...(excInfo === undefined ? {} : { exc_info: excInfo }),
  });
}
