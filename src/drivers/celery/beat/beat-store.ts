import {
  type Claimed,
  decodeRun,
  encodeRun,
  type Lead,
  type RunState,
} from '../../../../protocols/celery/schedule/beat.ts';
import type { BeatEntry } from '../../../../protocols/celery/schedule/schedule.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import * as json from '../../../../protocols/formats/json.ts';
import { ConfigError } from '../../../errors.ts';
import type { Logger } from '../../../log.ts';
import { read, writeWhole } from '../../../transports/filesystem.ts';

/** An entry with the state of its runs. */
export interface Scheduled {
  readonly entry: BeatEntry;
  readonly state: RunState;
  /** The stored state as it was read. The store compares it to detect that another process has changed it. */
  readonly stored: string;
  /** The entry is disabled. It may be enabled later. */
  readonly disabled?: boolean;
}

/** A step of an entry: its new state, the time of its next run, and the message that is sent with the step. */
export interface Step {
  readonly state: RunState;
  readonly nextRunAt: number;
  readonly message?: Publication;
}

/** Stores the state of a beat between runs, and holds the lock by which several processes agree on a leader. */
export interface BeatStore {
  /** For logs: `redis`, `redbeat`, `file`, `memory`. */
  readonly kind: string;
  /** Whether the state can name a message that was claimed and perhaps not sent (`pending`), also after a crash. */
  readonly keepsPending: boolean;
  /** How often the lead must be renewed. Undefined where no other process can lead. */
  readonly renewMs: number | undefined;
  open(log: Logger): Promise<void>;
  /** Takes the lead, or renews it. */
  lead(): Promise<Lead>;
  /** Replaces the stored entries with the configured ones. Called each time this process takes the lead. */
  prepare(entries: readonly BeatEntry[], now: number): Promise<void>;
  /** The entries that may be due. At least the entry that is due next within `horizonMs` is among them. */
  load(now: number, horizonMs: number): Promise<readonly Scheduled[]>;
  /**
   * Writes one step of a loaded entry atomically, and returns whether the message was published in the same step. `published` is false
   * if messages are stored elsewhere. Then the caller must send the message.
   */
  step(scheduled: Scheduled, step: Step): Promise<{ readonly claimed: Claimed; readonly published: boolean }>;
  /** Gives up the lead. */
  resign(): Promise<void>;
  close(): Promise<void>;
}

/** For one process: the state is lost when the process ends. */
export class MemoryBeatStore implements BeatStore {
  readonly kind: string = 'memory';
  readonly keepsPending: boolean = true;
  readonly renewMs: number | undefined = undefined;
  #entries: readonly BeatEntry[] = [];
  #first = true;
  protected readonly runs: Map<string, string> = new Map<string, string>();

  async open(_log: Logger): Promise<void> {
    this.#first = true;
  }

  async lead(): Promise<Lead> {
    const taken = this.#first;
    this.#first = false;
    return taken ? 'taken' : 'kept';
  }

  async prepare(entries: readonly BeatEntry[], now: number): Promise<void> {
    this.#entries = entries;
    const names = new Set(entries.map(({ name }) => name));
    for (const name of this.runs.keys()) if (!names.has(name)) this.runs.delete(name);
    for (const name of names)
      if (!this.runs.has(name)) this.runs.set(name, encodeRun({ lastRunAt: now, totalRunCount: 0 }));
    await this.keep();
  }

  async load(): Promise<readonly Scheduled[]> {
    return this.#entries.map((entry) => {
      const stored = this.runs.get(entry.name) ?? '';
      return { entry, stored, state: decodeRun(stored) ?? { lastRunAt: undefined, totalRunCount: 0 } };
    });
  }

  async step(
    { entry }: Scheduled,
    { state }: Step,
  ): Promise<{ readonly claimed: Claimed; readonly published: boolean }> {
    this.runs.set(entry.name, encodeRun(state));
    await this.keep();
    return { claimed: 'claimed', published: false };
  }

  async resign(): Promise<void> {}

  async close(): Promise<void> {}

  /** Writes the changed state to a place that outlives this process, if the store has one. */
  protected async keep(): Promise<void> {}
}

/**
 * For one process at a time: a JSON file, which is complete at every moment. Celery's own `celerybeat-schedule` is a Python database and is refused.
 */
export class FileBeatStore extends MemoryBeatStore {
  override readonly kind: string = 'file';
  readonly path: string;

  constructor(path: string) {
    super();
    this.path = path;
  }

  override async open(log: Logger): Promise<void> {
    await super.open(log);
    const bytes = await read(this.path);
    if (bytes === undefined) return;
    let content: unknown;
    try {
      content = json.parse(bytes.toString());
    } catch {
      content = undefined;
    }
    const entries = isRecord(content) ? content['entries'] : undefined;
    if (!isRecord(entries)) {
      throw new ConfigError(
        `celery: ${this.path} is not a file of jobglot's beat; pass another with --schedule (beatScheduleFilename), or remove it to start anew`,
      );
    }
    for (const [name, state] of Object.entries(entries)) this.runs.set(name, json.stringify(state));
  }

  protected override async keep(): Promise<void> {
    const entries = Object.fromEntries([...this.runs].map(([name, state]) => [name, json.parse(state)]));
    await writeWhole(this.path, `${this.path}.${process.pid}.tmp`, `${json.stringify({ version: 1, entries })}\n`);
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
