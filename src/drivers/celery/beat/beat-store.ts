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

/** An entry with what is known of its runs. */
export interface Scheduled {
  readonly entry: BeatEntry;
  readonly state: RunState;
  /** The stored state as it was read, for the store to tell that nobody has changed it since. */
  readonly stored: string;
  /** Does not run, and may later. */
  readonly disabled?: boolean;
}

/** A step of an entry: the state it has from now on, when it is due after that, and the message that goes with it. */
export interface Step {
  readonly state: RunState;
  readonly nextRunAt: number;
  readonly message?: Publication;
}

/** Where a beat keeps what it knows between its runs, and with whom it shares the lead. */
export interface BeatStore {
  /** For logs: `redis`, `redbeat`, `file`, `memory`. */
  readonly kind: string;
  /** The state may name a message that was claimed and perhaps not sent (`pending`), and keeps it over a crash. */
  readonly keepsPending: boolean;
  /** How often the lead must be renewed. Undefined where nobody else may lead. */
  readonly renewMs: number | undefined;
  open(log: Logger): Promise<void>;
  /** Take the lead, or keep it. */
  lead(): Promise<Lead>;
  /** Make the configured entries the stored ones; called whenever the lead was taken. */
  prepare(entries: readonly BeatEntry[], now: number): Promise<void>;
  /** The entries that may be due, and at least the one that is due next within `horizonMs`. */
  load(now: number, horizonMs: number): Promise<readonly Scheduled[]>;
  /**
   * One atomic step of an entry that was loaded, and whether the message went with it. `published` is false where messages are
   * elsewhere: then it is the caller's to send.
   */
  step(scheduled: Scheduled, step: Step): Promise<{ readonly claimed: Claimed; readonly published: boolean }>;
  /** Give the lead up. */
  resign(): Promise<void>;
  close(): Promise<void>;
}

/** For one process: what it knows is gone with it. */
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

  /** What was changed is to outlive this process, where it can. */
  protected async keep(): Promise<void> {}
}

/** For one process at a time: a JSON file, whole at every moment. Celery's own `celerybeat-schedule` is a Python database, and refused. */
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
