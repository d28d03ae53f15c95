import type { ChordStart } from '../../../../protocols/celery/canvas/apply.ts';
import type { Chords } from '../../../../protocols/celery/message/call.ts';
import { groupMeta } from '../../../../protocols/celery/outcome/result.ts';
import type { ResultBackend } from '../brokers/broker.ts';

/** How chords are completed with this result backend. */
export function chordsOf({ kind, chords }: Pick<ResultBackend, 'kind' | 'chords'>): Chords {
  if (kind === 'disabled' || kind === 'rpc') return 'refused';
  return chords === undefined ? 'polled' : 'counted';
}

/** Records a chord. Called before its header is published. Source: celery/backends/redis.py apply_chord, set_chord_size. */
export async function startChord(
  backend: Pick<ResultBackend, 'storeGroup' | 'chords'>,
  { group, size, saved }: ChordStart,
): Promise<void> {
  if (saved !== undefined) await backend.storeGroup(group, groupMeta(saved));
  await backend.chords?.start(group, size);
}
